"""`squall token`: who may use the server over the network."""

from __future__ import annotations

import click

from squall.cli import output
from squall.cli.server import server
from squall.wire.control import TokenNew


@click.group()
def token() -> None:
    """Tokens: new."""


@token.command()
@click.option("--workspace", default="default", show_default=True, help="Whose token it is.")
@click.option("--role", type=click.Choice(["client", "node"]), default="client", show_default=True)
@output.json_option
def new(workspace: str, role: str, as_json: bool) -> None:
    """Make a token. It is shown once; the server keeps a hash of it."""
    with server() as client:
        made = client.request("token.new", TokenNew(workspace, role))
    if as_json:
        output.echo_json(made)
    else:
        output.echo_labels([("Workspace", made.workspace), ("Role", role), ("Token", made.token)])
