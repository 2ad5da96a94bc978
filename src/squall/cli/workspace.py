"""`squall workspace`: tenants of this server."""

from __future__ import annotations

import click

from squall.cli import output
from squall.cli.server import server
from squall.wire.control import WorkspaceCreate


@click.group()
def workspace() -> None:
    """Workspaces: create."""


@workspace.command()
@click.argument("name")
@output.json_option
def create(name: str, as_json: bool) -> None:
    """Make a workspace and a token for it. The token is shown once."""
    with server() as client:
        made = client.request("workspace.create", WorkspaceCreate(name))
    if as_json:
        output.echo_json(made)
    else:
        output.echo_labels([("Workspace", made.workspace), ("Token", made.token)])
