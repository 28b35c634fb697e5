"""The command `lgtm verify`."""

import click


@click.command(help="(not written yet)")
def verify() -> None:
    """Not written yet."""
