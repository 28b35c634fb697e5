"""The command `lgtm plan`."""

import click


@click.command(help="(not written yet)")
def plan() -> None:
    """Not written yet."""
