"""`squall app`: list, stop, logs, history, rollback."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import click

from squall.cli import output
from squall.cli.server import environment_option, server
from squall.wire.control import AppRef, AppRollback, Empty, LogsFetch

if TYPE_CHECKING:
    from squall.client.api import Client
    from squall.wire.messages import Logs


@click.group()
def app() -> None:
    """Apps: list, stop, logs, history, rollback."""


@app.command("list")
@environment_option
@output.json_option
def list_(env: str, as_json: bool) -> None:
    """List apps, the newest first."""
    with server(env) as client:
        apps = client.request("app.list", Empty()).apps
    if as_json:
        output.echo_json(apps)
        return
    columns = ("App", "Name", "State", "Containers", "Version", "Created")
    rows = [(a.id, a.name, a.state, a.containers, a.version or "-", output.when(a.created)) for a in apps]
    output.echo_table(columns, rows, "No apps.")


@app.command()
@click.argument("name")
@output.yes_option
@environment_option
def stop(name: str, env: str, *, yes: bool) -> None:
    """Stop an app, by name or id: its containers end and its waiting inputs are cancelled."""
    output.confirm(f"Stop {name}, its containers and its calls?", yes=yes)
    with server(env) as client:
        client.request("app.stop", AppRef(name))
    click.echo(f"Stopped {name}.")


@app.command()
@click.argument("name")
@environment_option
@output.json_option
def history(name: str, env: str, *, as_json: bool) -> None:
    """List the versions of a deployed app, the newest first."""
    with server(env) as client:
        versions = client.request("app.history", AppRef(name)).versions
    if as_json:
        output.echo_json(versions)
        return
    rows = [(v.version, output.when(v.created), v.tag or "-", ", ".join(v.functions)) for v in versions]
    output.echo_table(("Version", "Deployed", "Tag", "Functions"), rows, "No versions.")


@app.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--strategy", type=click.Choice(["rolling", "recreate"]), default="rolling", show_default=True)
@environment_option
def rollback(name: str, version: int | None, strategy: str, env: str) -> None:
    """Deploy an earlier VERSION of an app again, as a new version; without one, that before the last."""
    with server(env) as client:
        published = client.request("app.rollback", AppRollback(name, version or 0, strategy))
    click.echo(f"Deployed {name} again as version {published.version}.")


@app.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--tail", default=1000, show_default=True, help="Pieces of output to begin with.")
@environment_option
def logs(name: str, follow: bool, tail: int, env: str) -> None:
    """Print what an app's containers wrote."""
    with server(env) as client:
        for _, _, fd, data, _ in client.request("logs.fetch", LogsFetch(name, tail)).text:
            write(fd, data)
        if follow:
            _follow(client, name)


def _follow(client: Client, name: str) -> None:
    client.watch.logs = write_logs
    client.request("logs.follow", AppRef(name))
    threading.Event().wait()


def write_logs(logs: Logs) -> None:
    for item in logs.items:
        if item.dropped:
            write(0, b"[dropped %d lines]\n" % item.dropped)
        write(item.fd, item.data)


def write(fd: int, data: bytes) -> None:
    """As the container wrote it: its stdout to ours, all else to stderr."""
    stream = sys.stdout if fd == 1 else sys.stderr
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()
