"""`squall container`: list."""

from __future__ import annotations

import click

from squall.cli import output
from squall.cli.server import server
from squall.wire.control import Empty


@click.group()
def container() -> None:
    """Containers: list."""


@container.command("list")
@output.json_option
def list_(as_json: bool) -> None:
    """List the containers that run."""
    with server() as client:
        containers = client.request("container.list", Empty()).containers
    if as_json:
        output.echo_json(containers)
        return
    columns = ("Container", "Function", "State", "Running", "CPU", "Peak memory", "Started", "Node", "App")
    rows = [
        (
            c.id,
            c.function,
            c.state,
            c.running,
            output.cpu_seconds(c.cpu_seconds),
            output.mebibytes(c.memory_peak_bytes),
            output.when(c.started),
            c.node,
            c.app,
        )
        for c in containers
    ]
    output.echo_table(columns, rows, "No containers.")
