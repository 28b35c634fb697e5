"""A service whose failures can be switched on: the shipped ``slos.yaml`` describes it, the stack tests break it."""
