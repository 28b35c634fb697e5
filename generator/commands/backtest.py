"""The command `lgtm backtest`."""

import click


@click.command(help="(not written yet)")
def backtest() -> None:
    """Not written yet."""
