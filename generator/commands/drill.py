"""The command `lgtm drill`."""

import click


@click.command(help="(not written yet)")
def drill() -> None:
    """Not written yet."""
