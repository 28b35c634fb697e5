"""Commands of `lgtm` with a module of their own, which is imported when one is called."""
