"""The commands `lgtm history` and `lgtm rollback`."""

import click


@click.command(help="(not written yet)")
def history() -> None:
    """Not written yet."""


@click.command(help="(not written yet)")
def rollback() -> None:
    """Not written yet."""
