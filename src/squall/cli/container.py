"""`squall container`: list, logs, exec, stop."""

from __future__ import annotations

import click

from squall.cli import output, terminals
from squall.cli.app import write
from squall.cli.server import environment_option, server
from squall.wire.control import ContainerRef, Empty, LogsFetch


@click.group()
def container() -> None:
    """Containers: list, logs, exec, stop."""


@container.command("list")
@click.option("--app-id", default="", metavar="APP_ID", help="Only those of one app.")
@environment_option
@output.json_option
def list_(app_id: str, env: str, *, as_json: bool) -> None:
    """List the containers that run."""
    with server(env) as client:
        found = client.request("container.list", Empty()).containers
    containers = [each for each in found if app_id in ("", each.app)]
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


@container.command()
@click.argument("container_id")
@click.option("-n", "--tail", default=1000, show_default=True, help="Pieces of output, the newest.")
def logs(container_id: str, tail: int) -> None:
    """Print what a container wrote; also one that has ended, while its app's output is kept."""
    with server() as client:
        for _, _, fd, data, _ in client.request("logs.fetch", LogsFetch(container_id, tail)).text:
            write(fd, data)


@container.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@terminals.pty_option
@click.argument("container_id")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(container_id: str, command: tuple[str, ...], *, pty: bool | None) -> None:
    """Run COMMAND in a running container, beside what runs there; its exit status is that of the command.

    128 and a signal's number stand for a signal. The command ends with this program, and with the container.
    """
    with server() as client:
        code = terminals.attach(client, container_id, command, pty=pty)
    raise click.exceptions.Exit(code)


@container.command()
@click.argument("container_id")
@output.yes_option
def stop(container_id: str, *, yes: bool) -> None:
    """End a container at once; what it works on runs again in another."""
    output.confirm(f"End {container_id}?", yes=yes)
    with server() as client:
        client.request("container.stop", ContainerRef(container_id))
    click.echo(f"Stopping {container_id}.")
