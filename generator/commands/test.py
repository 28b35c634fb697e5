"""The command `lgtm test`."""

import click


@click.command(help="(not written yet)")
def test() -> None:
    """Not written yet."""
