"""`python -m squall.daemon`: from the lock to the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from squall import __version__
from squall.client import daemon_record, embedded
from squall.client.blocking import BlockingClient
from squall.client.connect import local
from squall.client.core import Credentials
from squall.daemon import host, options, privileges, programs, state
from squall.daemon.supervisor import Supervisor
from squall.exception import Error, InvalidError
from squall.wire.control import Empty
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from squall.daemon.options import Options
    from squall.daemon.view import Identity
    from squall.wire.control import Status


def main(arguments: list[str]) -> int:
    """The exit status. What goes wrong is one line on stderr."""
    given = options.parse(arguments)
    if given.detach and os.fork():
        os._exit(0)  # the caller waits for this process; init takes care of the one that goes on
    try:
        serve(given)
    except Error as error:
        print(f"squall: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def serve(given: Options) -> None:
    """Raises squall.exception.Error."""
    descriptor = state.lock(given.state) if given.lock < 0 else given.lock
    os.set_inheritable(descriptor, False)
    host.settle()
    environ = _environ(given)
    state.check(given.state)
    state.clear(given.state)
    identity, losses = _identity(given.state, environ)
    driver, reasons = _driver(given.state)
    _record(given, driver, [*reasons, *losses])
    planned = programs.plan(given, driver, identity, environ)
    Supervisor(given.state, planned, given.idle_exit, lambda: busy(given)).run()


def _environ(given: Options) -> dict[str, str]:
    environ = embedded.environment(os.environ)
    if given.server and (token := os.environ.get("SQUALL_TOKEN")):
        environ["SQUALL_TOKEN"] = token
    return {**environ, **host.pip_settings(environ)}


def _identity(directory: str, environ: dict[str, str]) -> tuple[Identity | None, list[str]]:
    """Whom server and agent run as, with the state made theirs, and what is lost."""
    identity = privileges.candidate()
    try:
        state.prepare(directory, identity)
        obstacle = privileges.obstacle(identity, directory, environ) if identity else ""
    except InvalidError as error:
        if identity is None:
            raise
        obstacle = str(error).rstrip(".")  # a root without the right to give files away, most often
    if not obstacle:
        return identity, []
    state.prepare(directory, None)
    return None, [f"server and node run as root, not as a user of their own: {obstacle}"]


def _driver(directory: str) -> tuple[str, list[str]]:
    """The driver's name, and what is lost with it. SQUALL_DRIVER forces one."""
    from squall.runtime.driver import DriverError
    from squall.runtime.probe import choose

    try:
        choice = choose(os.environ.get("SQUALL_DRIVER") or None, Path(directory))
    except DriverError as error:
        raise InvalidError(str(error)) from None
    return choice.name, [f"no isolation between functions: {choice.reason}"] if choice.reason else []


def _record(given: Options, driver: str, losses: list[str]) -> None:
    own = daemon_record.Process("daemon", os.getpid(), daemon_record.start_time(os.getpid()))
    socket = "" if given.server else embedded.socket_path(given.state)
    record = daemon_record.DaemonRecord(
        own,
        PROTOCOL,
        __version__,
        driver,
        socket,
        losses,
        given.listen,
        given.gpus,
        given.idle_exit,
        list(given.allowed_host),
        list(given.allowed_origin),
    )
    daemon_record.write(given.state, record)


def busy(given: Options) -> bool:
    """Whether somebody needs the server. One that does not answer serves nobody."""
    client = BlockingClient(local(given.state, start=False), Credentials())
    try:
        client.open()
        return needed(client.request("status", Empty()), remote=bool(given.listen))
    except Error:
        return False
    finally:
        client.close()


def needed(status: Status, *, remote: bool) -> bool:
    """Containers, inputs and sessions besides the asking one need the server.

    Deployed apps alone do only with `remote` clients: those of this machine start a daemon that is away, and
    find the apps in its state.
    """
    here, others = status, status.elsewhere
    work = here.containers or others.containers or here.waiting_inputs or others.waiting_inputs
    return bool(work or status.sessions > 1 or (remote and (here.apps or others.apps)))
