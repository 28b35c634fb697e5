"""Renders everything that an observability stack needs from one file that says what good service means."""
