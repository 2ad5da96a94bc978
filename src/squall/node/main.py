"""The command `python -m squall.node`: reads its options, chooses driver and builder, runs the agent."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from squall.build.directories import DirectoryBuilder
from squall.build.venv import VenvBuilder
from squall.node import resources, squallcopy
from squall.node.agent import Agent, Parts
from squall.node.endpoint import Endpoint
from squall.node.gpus import Gpus
from squall.node.hostrunner import LauncherHostRunner
from squall.node.link import RefusedError
from squall.node.sandbox import NodeSandbox
from squall.node.settings import Settings
from squall.runtime.driver import DriverError, Runtime
from squall.runtime.gpus import found
from squall.runtime.namespaces import NamespacesRuntime
from squall.runtime.process import ProcessRuntime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.build.base import Builder, Files

log = logging.getLogger("squall.node")

#: Exit status when the server will not have this node, which no further start changes (sysexits: EX_NOPERM).
REFUSED = 77

DRIVERS = (NamespacesRuntime.name, ProcessRuntime.name)


def parse(arguments: Sequence[str] | None = None) -> Settings:
    parser = argparse.ArgumentParser(prog="squall.node", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the agent's directory")
    parser.add_argument("--server", required=True, help="unix:PATH, ws://HOST:PORT or wss://HOST:PORT")
    parser.add_argument("--launcher", type=Path, help="the launcher's socket (namespaces driver)")
    parser.add_argument("--driver", choices=DRIVERS, default=NamespacesRuntime.name)
    parser.add_argument("--token", default=os.environ.get("SQUALL_TOKEN", ""), help="else $SQUALL_TOKEN")
    parser.add_argument(
        "--gpus", default="", help="TYPE:COUNT, separated by commas, or none; else those that are there"
    )
    parser.add_argument("--node-id", default="", help="else one that is made once and kept")
    given = parser.parse_args(arguments)
    try:
        gpus = resources.parse_gpus(given.gpus)
        Endpoint.parse(given.server)
    except ValueError as error:
        parser.error(str(error))
    if given.driver == NamespacesRuntime.name and given.launcher is None:
        parser.error("the namespaces driver needs --launcher PATH")
    return Settings(
        state=given.state.absolute(),
        server=given.server,
        node=given.node_id or node_id(given.state),
        driver=given.driver,
        launcher=given.launcher,
        token=given.token,
        gpus=gpus,
    )


def node_id(state: Path) -> str:
    """Made at the first start, and kept: the server knows the node again by it."""
    path = state / "node-id"
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        state.mkdir(parents=True, exist_ok=True)
        path.write_text(f"no-{secrets.token_hex(8)}\n", "ascii")
        return path.read_text("ascii").strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after SIGTERM or SIGINT; with one line on stderr REFUSED, or 1 when it cannot work."""
    settings = parse(arguments)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=os.environ.get("SQUALL_LOGLEVEL", "INFO")
    )
    try:
        _run(settings)
    except RefusedError as error:
        print(f"squall node: {error}", file=sys.stderr)
        return REFUSED
    except (DriverError, OSError) as error:
        print(f"squall node: {error}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a container takes six descriptors
    if sys.version_info >= (3, 11):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    else:
        import uvloop

        uvloop.install()
        asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; then the containers end. Raises DriverError, RefusedError, OSError."""
    agent = Agent(await parts(settings))
    gc.freeze()  # what is here now stays, and what comes later is mostly freed by its count
    gc.set_threshold(20_000, 20, 20)
    running = asyncio.create_task(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        log.info("the node has ended")


async def parts(settings: Settings) -> Parts:
    """What these settings ask for. Raises DriverError, OSError."""
    settings.state.mkdir(parents=True, exist_ok=True)
    gpus = _gpus(settings)
    runtime = await _runtime(settings)

    def make_builder(files: Files) -> Builder:
        if not isinstance(runtime, NamespacesRuntime):
            return VenvBuilder(settings.state, files)
        sandbox = NodeSandbox(runtime, settings.build_timeout)
        return DirectoryBuilder(settings.state, sandbox, files, LauncherHostRunner(runtime))

    return Parts(
        settings=settings,
        endpoint=Endpoint.parse(settings.server),
        runtime=runtime,
        resources=resources.of_this_machine(runtime.name, runtime.losses, gpus),
        gpus=gpus,
        squall=await asyncio.to_thread(squallcopy.ensure, settings.runtime),
        make_builder=make_builder,
        sweep=_sweep,
        release=partial(_release, runtime),
    )


def _gpus(settings: Settings) -> Gpus:
    try:
        return Gpus(found(), settings.gpus)
    except ValueError as error:
        raise DriverError(f"--gpus: {error}") from None


async def _sweep(builder: Builder, in_use: list[str]) -> None:
    if isinstance(builder, DirectoryBuilder):
        await builder.sweep(in_use)
    elif isinstance(builder, VenvBuilder):
        await builder.sweep()


async def _release(runtime: Runtime) -> None:
    """The launcher is its supervisor's to end; without one, what still runs is ours."""
    if isinstance(runtime, NamespacesRuntime):
        runtime.disconnect()
    else:
        await runtime.close()


async def _runtime(settings: Settings) -> Runtime:
    if settings.driver == ProcessRuntime.name:
        return ProcessRuntime(settings.state)
    assert settings.launcher is not None
    return await NamespacesRuntime.connect(settings.launcher)
