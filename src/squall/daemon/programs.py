"""The command lines of server, launcher and agent."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from squall.client import daemon_record, embedded
from squall.daemon import host, privileges, view
from squall.daemon.child import Program

if TYPE_CHECKING:
    from squall.daemon.options import Options
    from squall.daemon.view import Identity

#: The agent ends its containers before it goes.
_AGENT_PATIENCE_S = 6.0
#: The launcher takes down what containers and networks left.
_LAUNCHER_PATIENCE_S = 10.0
#: For server and agent. By default glibc raises its thresholds with the first large payload and then never
#: gives back what later ones took, and each thread gets a heap of its own. Above these bytes it does.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": f"{512 << 10}",
    "MALLOC_TRIM_THRESHOLD_": f"{1 << 20}",
    "MALLOC_ARENA_MAX": "2",
}
#: What makes base systems as root, run by the launcher.
_BASE_MAKER = "squall.build.bases.make"


def plan(options: Options, driver: str, identity: Identity | None, environ: dict[str, str]) -> list[Program]:
    """What to start, in this order. Server and agent run as `identity`, if there is one."""
    programs = []
    if driver == "namespaces":
        programs.append(_launcher(options, identity, environ))
    environ = {**_MALLOC, **environ}
    if not options.server:
        programs.append(_as(identity, options, "server", _server(options, environ)))
    return [*programs, _as(identity, options, "node", _agent(options, driver, environ))]


def _as(identity: Identity | None, options: Options, folder: str, program: Program) -> Program:
    if identity is None:
        return program
    shown = privileges.shown(options.state, program.environ)
    home = os.path.join(options.state, folder)
    return replace(
        program,
        command=view.command(identity, shown, program.command),
        environ={**program.environ, "HOME": home, "USER": privileges.USER, "LOGNAME": privileges.USER},
    )


def _launcher(options: Options, identity: Identity | None, environ: dict[str, str]) -> Program:
    folder = os.path.join(options.state, "launcher")
    node = os.path.join(options.state, "node")
    owner = identity.uid if identity else os.geteuid()
    command = ["--state", folder, "--socket", _launcher_socket(options), "--owner-uid", str(owner)]
    command += ["--writable", node, "--base-maker", _BASE_MAKER]
    for path in host.shown_directories(environ):
        command += ["--readable", path]
    arguments = _python("squall.runtime.launcher", command)
    # It speaks to one agent at a time, so there must be no knocking on its socket.
    return Program(
        "launcher",
        arguments,
        _log(options, "launcher"),
        environ,
        socket=_launcher_socket(options),
        knock=False,
        patience=_LAUNCHER_PATIENCE_S,
    )


def _server(options: Options, environ: dict[str, str]) -> Program:
    socket = embedded.socket_path(options.state)
    command = ["--state", os.path.join(options.state, "server"), "--socket", socket]
    if options.listen:
        command += ["--listen", options.listen]
    command += [f"--allowed-host={name}" for name in options.allowed_host]
    command += [f"--allowed-origin={url}" for url in options.allowed_origin]
    arguments = _python("squall.server", command)
    return Program("server", arguments, _log(options, "server"), environ, socket)


def _agent(options: Options, driver: str, environ: dict[str, str]) -> Program:
    server = _websocket(options.server) or f"unix:{embedded.socket_path(options.state)}"
    command = ["--state", os.path.join(options.state, "node"), "--server", server, "--driver", driver]
    if driver == "namespaces":
        command += ["--launcher", _launcher_socket(options)]
    if options.gpus:
        command += ["--gpus", options.gpus]
    arguments = _python("squall.node", command)
    return Program("node", arguments, _log(options, "node"), environ, patience=_AGENT_PATIENCE_S)


def _websocket(url: str) -> str:
    """A server's URL as the agent knows it."""
    return f"ws{url[4:]}" if url.startswith("http") else url


def _launcher_socket(options: Options) -> str:
    return os.path.join(options.state, "launcher.sock")


def _log(options: Options, name: str) -> str:
    return daemon_record.log_path(options.state, name)


def _python(module: str, arguments: list[str]) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
