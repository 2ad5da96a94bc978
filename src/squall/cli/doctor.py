"""`squall doctor`: what this machine offers, what is lost, and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from squall.cli import output
from squall.cli.daemon import state_option

if TYPE_CHECKING:
    from squall.checkup import Check


@click.command()
@output.json_option
@state_option
def doctor(state: str, *, as_json: bool) -> None:
    """Examine this machine: exit status 1 if nothing could run on it."""
    from squall.daemon.doctor import examine

    found: list[Check] = []
    for check in examine(state):
        found.append(check)
        if not as_json:
            _echo(check)
    if as_json:
        output.echo_json(found)
    if any(check.state == "failed" for check in found):
        raise click.exceptions.Exit(1)


def _echo(check: Check) -> None:
    click.echo(f"{check.state:<6}  {check.name}: {check.found}")
    if check.remedy:
        click.echo(f"        -> {check.remedy}")
