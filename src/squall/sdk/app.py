"""Apps: functions that belong together, run for a while or deployed."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from squall import exception
from squall.exception import InvalidError
from squall.sdk import checks, context, output, unavailable
from squall.sdk.dual import dual, dual_function
from squall.sdk.entrypoint import LocalEntrypoint
from squall.sdk.flows import finish
from squall.sdk.function import Function
from squall.sdk.handles import Running
from squall.sdk.image import checked_image
from squall.sdk.modes import ASYNCIO, BLOCKING, Access, Mode

# What is said to a server loads when there is one: this module loads in every container.
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import PurePosixPath
    from types import TracebackType

    from typing_extensions import Unpack

    from squall.client.api import AsyncClient, Client
    from squall.sdk.image import Image
    from squall.sdk.options import FunctionOptions
    from squall.sdk.ports import Port
    from squall.wire.control import AppInfo

P = ParamSpec("P")
R = TypeVar("R")

_CLASSES = "classes come with a later version: use @app.function()"
_LATER = {
    "cls": _CLASSES,
    "server": "web functions come with a later version",
    "include": "declare the functions with one app",
    **dict.fromkeys(("set_tags", "get_tags"), "tags come with a later version"),
    "get_dashboard_url": "there is no dashboard yet: use `squall app list`",
    **dict.fromkeys(("info", "stats"), "use `squall app list`"),
    "logs": "use `squall app logs`",
    "sandboxes": "sandboxes come with a later version",
}


class App:
    """Functions under one name. `squall run` runs it; `squall deploy` keeps it on the server.

    `image` and `include_source` are for functions that do not say otherwise.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: dict[str, str] | None = None,
        image: Image | None = None,
        secrets: Sequence[object] = (),
        volumes: Mapping[str | PurePosixPath, object] | None = None,
        include_source: bool = True,
    ) -> None:
        unavailable.refuse("App", {"tags": tags, "secrets": secrets, "volumes": volumes})
        self._name = None if name is None else checks.app_name(name)
        self._image = checked_image(image)
        self._include_source = checks.flag("include_source", include_source)
        self._functions: dict[str, Function[..., Any]] = {}
        self._entrypoints: dict[str, LocalEntrypoint[..., Any]] = {}
        self.running: Running | None = None
        #: Of the deployment, once deployed.
        self.version = 0

    # ------------------------------------------------------------------------------------------- declaring

    def function(
        self, without_parentheses: object = None, /, **options: Unpack[FunctionOptions]
    ) -> Callable[[Callable[P, R]], Function[P, R]]:
        """Make a function one that runs in containers: `@app.function(image=image, cpu=2)`.

        image: what its containers have; env: environment variables; gpu: "H100", "H100:2", or a list in
        order of preference; cpu: cores, memory: MiB, each a request or (request, limit); ephemeral_disk: MiB;
        min_containers, max_containers, buffer_containers: how far it scales; scaledown_window: seconds that
        an idle container stays; retries: a number or squall.Retries(...); timeout, startup_timeout: seconds;
        name; is_generator; block_network; serialized: send the function itself, and not its module;
        include_source: send its module and what that imports.

        Raises InvalidError, UnimplementedError.
        """
        if without_parentheses is not None:
            raise InvalidError("write @app.function() with parentheses")
        declared: Mapping[str, Any] = dict(options)
        if context.is_local():
            from squall.sdk.declaration import declare

            declare(declared)

        def decorate(raw_f: Callable[P, R]) -> Function[P, R]:
            _check_function(raw_f)
            function = Function.declared(self, raw_f, declared)
            self._register(function)
            return function

        return decorate

    def local_entrypoint(
        self, without_parentheses: object = None, /, *, name: str | None = None
    ) -> Callable[[Callable[P, R]], LocalEntrypoint[P, R]]:
        """What `squall run` runs on this machine; its parameters are the command's arguments."""
        if without_parentheses is not None:
            raise InvalidError("write @app.local_entrypoint() with parentheses")

        def decorate(raw_f: Callable[P, R]) -> LocalEntrypoint[P, R]:
            entrypoint = LocalEntrypoint(self, name or raw_f.__name__, raw_f)
            if entrypoint.name in self._entrypoints:
                raise InvalidError(f"the app has two local entrypoints {entrypoint.name}: rename one")
            self._entrypoints[entrypoint.name] = entrypoint
            return entrypoint

        return decorate

    def _register(self, function: Function[..., Any]) -> None:
        other = self._functions.get(function.name)
        if other is not None and _place(other) != _place(function):
            raise InvalidError(f"the app has two functions {function.name}: give one another name=")
        self._functions[function.name] = function

    # ------------------------------------------------------------------------------------------------ state

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def description(self) -> str | None:
        """The name, or what stands for it while the app runs."""
        return self._name or (_program_name() if self.running else None)

    @property
    def app_id(self) -> str | None:
        """The id on the server; None while it does not run."""
        return self.running.app_id if self.running else None

    @property
    def function_ids(self) -> dict[str, str]:
        """Ids on the server by name, while it runs or is deployed."""
        return dict(self.running.functions) if self.running else {}

    @property
    def registered_functions(self) -> dict[str, Function[..., Any]]:
        return dict(self._functions)

    @property
    def registered_entrypoints(self) -> dict[str, LocalEntrypoint[..., Any]]:
        return dict(self._entrypoints)

    # ---------------------------------------------------------------------------------------------- running

    def run(
        self,
        *,
        name: str | None = None,
        client: Client | AsyncClient | None = None,
        detach: bool = False,
        interactive: bool = False,
        environment_name: str | None = None,
    ) -> _Run:
        """`with app.run(): ...` (or `async with`): the app is on the server for the length of the block.

        With `detach`, it goes on after the block until its last call has ended.
        """
        if interactive:
            raise unavailable.missing(
                "App.run: ", "interactive=", "interactive functions come with a later version"
            )
        label = checks.app_name(name or self._name or _program_name())
        return _Run(self, label, Access(client, environment_name or ""), detach=checks.flag("detach", detach))

    @dual
    async def deploy(
        self,
        mode: Mode,
        *,
        name: str | None = None,
        environment_name: str | None = None,
        tag: str = "",
        client: Client | AsyncClient | None = None,
        strategy: str = "rolling",
    ) -> App:
        """Keep the app on the server, as a new version under its name. Calls that run end on the old one."""
        if strategy not in {"rolling", "recreate"}:
            raise InvalidError(f"strategy={strategy!r} is not possible: give rolling or recreate")
        if strategy == "recreate":
            raise unavailable.missing(
                "App.deploy: ", 'strategy="recreate"', "deploy with rolling, or stop the app first"
            )
        label = name or self._name
        if label is None:
            raise InvalidError('an app needs a name to be deployed: App("..."), or name=')
        access = Access(client, environment_name or "")
        publisher = self._publisher()
        port = await mode.port(access)
        output.attach(port)
        published = await publisher.publish(port, checks.app_name(label), deploy=True, tag=tag)
        self.running = Running(published.app, access, published.functions)
        self.version = published.version
        return self

    @dual
    async def stop(self, mode: Mode) -> None:
        """End the app's containers and cancel what waits. A deployed app is gone by that."""
        if self.running is None:
            raise exception.ExecutionError("the app does not run: there is nothing to stop")
        running, self.running = self.running, None
        port = await mode.port(running.access)
        await _stop(port, running.app_id)

    @dual_function
    @staticmethod
    async def lookup(
        mode: Mode,
        name: str,
        *,
        client: Client | AsyncClient | None = None,
        environment_name: str | None = None,
        create_if_missing: bool = False,
    ) -> App:
        """The deployed app of that name. Raises NotFoundError, unless it is to be made."""
        from squall.wire.control import AppLookup

        access = Access(client, environment_name or "")
        app = App(name)
        port = await mode.port(access)
        create = checks.flag("create_if_missing", create_if_missing)
        info: AppInfo = await port.request("app.lookup", AppLookup(name, create_if_missing=create))
        app.running = Running(info.id, access, info.functions)
        return app

    def _publisher(self) -> Any:
        from squall.sdk.publishing import Publisher

        return Publisher(self._image, list(self._functions.values()), include_source=self._include_source)

    async def start(self, mode: Mode, label: str, access: Access, *, detach: bool) -> None:
        """Bring the app to the server. Raises what is wrong with it before anything is sent."""
        from squall.wire.control import AppCreate, AppRef

        if self.running is not None:
            raise InvalidError(f"the app {label} runs already")
        publisher = self._publisher()
        port = await mode.port(access)
        watched = output.attach(port)
        info: AppInfo = await port.request("app.create", AppCreate(label, detach))
        try:
            if watched:
                await port.request("logs.follow", AppRef(info.id))
            published = await publisher.publish(port, info.id, deploy=False, tag="")
        except BaseException:
            await _stop_quietly(port, info.id)
            raise
        self.running = Running(info.id, access, published.functions)

    async def end(self, mode: Mode, *, detach: bool, failed: bool) -> None:
        """After the block of `run`: `failed` if something else went wrong that must not be hidden."""
        running, self.running = self.running, None
        if detach or running is None:
            return
        port = await mode.port(running.access)
        if failed:
            await _stop_quietly(port, running.app_id)
        else:
            await _stop(port, running.app_id)

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LATER:
            raise unavailable.missing("App.", name, _LATER[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<App {self._name or 'without a name'}>"


class _Run:
    """The block in which an app runs, plain or async."""

    def __init__(self, app: App, label: str, access: Access, *, detach: bool) -> None:
        self._app = app
        self._label = label
        self._access = access
        self._detach = detach

    def __enter__(self) -> App:
        finish(self._start(BLOCKING))
        return self._app

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        finish(self._app.end(BLOCKING, detach=self._detach, failed=kind is not None))

    async def __aenter__(self) -> App:
        await self._start(ASYNCIO)
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        await self._app.end(ASYNCIO, detach=self._detach, failed=kind is not None)

    async def _start(self, mode: Mode) -> None:
        await self._app.start(mode, self._label, self._access, detach=self._detach)


async def _stop_quietly(port: Port[Any], app_id: str) -> None:
    """Where another error is on its way to the user."""
    with suppress(exception.Error):
        await _stop(port, app_id, timeout=10.0)


async def _stop(port: Port[Any], app_id: str, timeout: float = 60.0) -> None:
    from squall.wire.control import AppRef

    await port.request("app.stop", AppRef(app_id), timeout=timeout)


def _check_function(value: object) -> None:
    if not callable(value) or isinstance(value, (type, Function)):
        raise InvalidError(f"@app.function() is for functions, and not for {checks.short(value)}")


def _place(function: Function[..., Any]) -> tuple[str, str]:
    raw = function.get_raw_f()
    return raw.__module__, raw.__qualname__


def _program_name() -> str:
    """What an app without a name is called: as the program that runs."""
    stem = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "app"
