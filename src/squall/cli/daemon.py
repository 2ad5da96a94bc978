"""`squall daemon`: the server and node of this machine."""

from __future__ import annotations

import os
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from squall.cli import output
from squall.client import daemon_record, embedded
from squall.config import state_dir
from squall.exception import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.client.daemon_record import DaemonRecord

LOGS = ("daemon", "server", "launcher", "node")


def _state(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    return os.path.abspath(value) if value else state_dir()


state_option: Callable[[Any], Any] = click.option(
    "--state",
    callback=_state,
    metavar="DIR",
    help="The state directory (else $SQUALL_STATE, else the default).",
)


@click.group()
def daemon() -> None:
    """Server and node of this machine: start, status, stop, logs, backup, restore, install."""


@daemon.command()
@click.option("--listen", default="", metavar="HOST:PORT", help="Also listen on TCP; clients need a token.")
@click.option(
    "--gpus",
    default="",
    metavar="TYPE:COUNT,...",
    help="GPUs, such as H100:8, or none; else those that are there.",
)
@click.option(
    "--allowed-host",
    multiple=True,
    metavar="NAME",
    help="A name that clients use for this server, besides its addresses; may be repeated.",
)
@click.option(
    "--allowed-origin",
    multiple=True,
    metavar="URL",
    help="Web pages that may use this server, such as https://ui.example.org; may be repeated.",
)
@click.option("--foreground", is_flag=True, help="Stay in this terminal, until Ctrl-C.")
@state_option
def start(state: str, *, foreground: bool, **given: Any) -> None:
    """Start it, and keep it running also when nobody uses it."""
    check_listen(given["listen"])
    check_gpus(given["gpus"])
    if foreground:
        from squall.daemon.main import serve
        from squall.daemon.options import Options

        click.echo(
            f"The daemon of {state} runs here until Ctrl-C. Its logs: `squall daemon logs -f`.", err=True
        )
        serve(Options(state=state, **given))
        return
    running = daemon_record.read(state)
    if running is not None and _differs(running, given):
        _make_way(running, state)
    embedded.ensure(state, _arguments(given))
    _show(daemon_record.read(state))


def _make_way(running: DaemonRecord, state: str) -> None:
    """A program's own daemon that nobody needs any more is ended. Raises ConflictError for all others."""
    if not running.idle_exit:
        raise ConflictError(
            f"A daemon runs already, with other options ({_options(running)}): `squall daemon stop` first."
        )
    from squall.daemon.main import busy
    from squall.daemon.options import Options

    if busy(Options(state=state)):
        raise ConflictError(
            "The daemon that a program started for itself is still at work (`squall status`): wait for its "
            "end, or end it and what it runs by `squall daemon stop`; then start this one."
        )
    embedded.stop(state)
    click.echo("Replaced the daemon that a program had started for itself.", err=True)


def _differs(running: DaemonRecord, given: dict[str, Any]) -> bool:
    wanted = {**given, "idle_exit": 0.0}
    has = {name: getattr(running, name) for name in wanted}
    return has != {name: list(v) if isinstance(v, tuple) else v for name, v in wanted.items()}


def _arguments(given: dict[str, Any]) -> list[str]:
    single = [f"--{name}={given[name]}" for name in ("listen", "gpus") if given[name]]
    hosts = [f"--allowed-host={name}" for name in given["allowed_host"]]
    return [*single, *hosts, *(f"--allowed-origin={url}" for url in given["allowed_origin"])]


@daemon.command()
@output.json_option
@state_option
def status(as_json: bool, state: str) -> None:
    """Say whether it runs. The exit status is 1 when it does not."""
    running = daemon_record.read(state)
    if as_json:
        output.echo_json(running)
    elif running is None:
        click.echo(f"Not running (state directory: {state}).")
    else:
        _show(running)
    sys.exit(0 if running is not None else 1)


@daemon.command()
@state_option
def stop(state: str) -> None:
    """End it and all that it runs, also under clients; deployed apps go on when it starts again."""
    embedded.mark_stopped(state)
    click.echo("Stopped." if embedded.stop(state) else "Not running.")


@daemon.command()
@click.argument("file", type=click.Path(dir_okay=False))
@state_option
def backup(file: str, state: str) -> None:
    """Write what the server keeps (deployments, tokens, calls and results) to FILE; it may run meanwhile."""
    from squall.daemon.backup import backup

    size = backup(state, file)
    click.echo(f"Wrote {file} ({size / 1e6:.1f} MB). It holds secrets and tokens' hashes: keep it private.")


@daemon.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@state_option
def restore(file: str, state: str) -> None:
    """Make the backup FILE the state of a directory that has none, with the daemon stopped."""
    from squall.daemon.backup import restore

    restore(state, file)
    click.echo(f"Restored into {state}: `squall daemon start` goes on with it.")


@daemon.command()
@click.option("--user", is_flag=True, help="A unit of your own systemd, without the system user.")
@click.option("--dry-run", is_flag=True, help="Only print what would be written and run.")
@click.option("--listen", default="", metavar="HOST:PORT", help="Also listen on TCP; clients need a token.")
@click.option(
    "--gpus",
    default="",
    metavar="TYPE:COUNT,...",
    help="GPUs, such as H100:8, or none; else those that are there.",
)
@click.option("--root", default="", metavar="DIR", help="Install into the files of a machine below DIR.")
@state_option
def install(listen: str, gpus: str, root: str, state: str, *, user: bool, dry_run: bool) -> None:
    """Have systemd run it: writes a unit, and makes the system user `squall` that server and agent run as."""
    check_listen(listen)
    check_gpus(gpus)
    from squall.daemon.install import Wish, carry_out, check_host, plan

    wish = Wish(state, listen, gpus, user, os.path.abspath(root) if root else "")
    chosen = plan(wish, os.environ)
    if dry_run:
        click.echo(f"# {chosen.path}\n{chosen.text}")
        click.echo(f"# as root: {shlex.join(chosen.useradd)}" if chosen.useradd else "# no user to make")
        return
    if not root:
        check_host(wish)
    carry_out(chosen)
    if chosen.useradd:
        click.echo(f"Made the system user {chosen.useradd[-1]}.")
    click.echo(f"Wrote {chosen.path}.")
    if not root:
        running = "`squall daemon stop`, then " if daemon_record.read(state) is not None else ""
        click.echo(f"Now: {running}{chosen.start}")


@daemon.command()
@click.argument("part", type=click.Choice(LOGS), required=False)
@click.option("-n", "--lines", default=50, show_default=True, help="Lines of each log.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@state_option
def logs(part: str | None, lines: int, follow: bool, state: str) -> None:
    """Print the logs: all, or of one PART."""
    parts = (part,) if part else LOGS
    sizes = {name: _size(daemon_record.log_path(state, name)) for name in parts}
    for name in parts:
        for line in daemon_record.tail(daemon_record.log_path(state, name), lines):
            click.echo(f"{name}: {line}")
    while follow:
        for name in parts:
            sizes[name] = _new_lines(name, daemon_record.log_path(state, name), sizes[name])
        time.sleep(0.2)


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _new_lines(name: str, path: str, position: int) -> int:
    """Print the whole lines that came since; the new position. A log that was put aside begins anew."""
    size = _size(path)
    if size <= position:
        return min(position, size)
    with open(path, "rb") as file:
        file.seek(position)
        whole, _, _ = file.read(size - position).rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines():
        click.echo(f"{name}: {line}")
    return position + (len(whole) + 1 if whole else 0)


def _show(running: DaemonRecord | None) -> None:
    if running is None:
        raise ConflictError("The daemon was stopped by somebody else meanwhile.")
    output.echo_labels(
        [
            ("Daemon", f"process {running.process.pid}"),
            ("Version", f"{running.version}, protocol {running.protocol}"),
            ("Driver", running.driver),
            ("Socket", running.socket),
            ("Listens on", running.listen),
            ("GPUs", running.gpus),
            ("Ends when idle", f"after {running.idle_exit:g} s" if running.idle_exit else "never"),
        ]
    )
    for loss in running.losses:
        click.echo(f"Lost here: {loss}")


def _options(running: DaemonRecord) -> str:
    listen = f"--listen {running.listen}" if running.listen else "no --listen"
    gpus = f"--gpus {running.gpus}" if running.gpus else "no --gpus"
    more = [f"--allowed-host {name}" for name in running.allowed_host]
    more += [f"--allowed-origin {url}" for url in running.allowed_origin]
    idle = "ends when idle" if running.idle_exit else "does not end when idle"
    return ", ".join([listen, gpus, *more, idle])


def check_listen(value: str) -> None:
    host, _, port = value.rpartition(":")
    if value and not (host and port.isdecimal() and 0 <= int(port) < 65536):
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 0.0.0.0:8400.", param_hint="--listen")


def check_gpus(value: str) -> None:
    for part in value.split(",") if value not in ("", "none") else ():
        kind, _, count = part.strip().partition(":")
        if not kind or (count and not (count.isdecimal() and int(count) > 0)):
            raise click.BadParameter(
                f"{part!r} is not TYPE or TYPE:COUNT, such as H100:8.", param_hint="--gpus"
            )
