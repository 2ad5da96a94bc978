"""`squall status`: the server, its nodes, what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from squall.cli import output
from squall.cli.server import server
from squall.wire.control import Empty

if TYPE_CHECKING:
    from squall.wire.control import Counts


@click.command()
@output.json_option
def status(as_json: bool) -> None:
    """Show the server, its nodes and what runs."""
    with server() as client:
        found = client.request("status", Empty())
    if as_json:
        output.echo_json(found)
        return
    output.echo_labels(
        [
            ("Server", f"{found.version}, protocol {found.protocol}"),
            ("Workspace", found.workspace),
            ("Environment", found.environment),
            ("Apps", found.apps),
            ("Containers", found.containers),
            ("Waiting inputs", found.waiting_inputs),
            *_elsewhere(found.elsewhere),
        ]
    )
    columns = ("Node", "State", "CPU", "Memory", "GPUs", "Driver", "Containers")
    rows = [
        (
            n.id,
            n.state,
            n.cpu_millis / 1000,
            f"{n.memory_mib} MiB",
            output.gpus(n.gpus),
            n.driver,
            n.containers,
        )
        for n in found.nodes
    ]
    click.echo()
    output.echo_table(columns, rows, "No nodes: nothing can run. See `squall daemon logs node`.")
    for node in found.nodes:
        for loss in node.losses:
            click.echo(f"{node.id}: {loss}")


def _elsewhere(others: Counts) -> list[tuple[str, object]]:
    """What other environments and workspaces of this machine's server have, if anything."""
    if not others.apps:
        return []
    told = (
        f"{others.apps} app{'s'[: others.apps != 1]}, {others.containers} containers and "
        f"{others.waiting_inputs} waiting inputs of other environments and workspaces"
    )
    return [("Elsewhere", told)]
