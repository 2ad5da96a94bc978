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
from squall.sdk.cls import Cls, Service
from squall.sdk.dual import dual, dual_function
from squall.sdk.entrypoint import LocalEntrypoint
from squall.sdk.function import Function
from squall.sdk.handles import Running
from squall.sdk.image import checked_image
from squall.sdk.members import Member
from squall.sdk.modes import Access, Mode
from squall.sdk.parameters import parameter
from squall.sdk.runs import Run
from squall.sdk.secret import checked_secrets

# What is said to a server loads when there is one: this module loads in every container.
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import PurePosixPath

    from typing_extensions import Unpack, dataclass_transform

    from squall.client.api import AsyncClient, Client
    from squall.sdk.facts import AppInfo as Facts
    from squall.sdk.facts import Moment, Stats
    from squall.sdk.image import Image
    from squall.sdk.logs import Logs
    from squall.sdk.options import ClassOptions, FunctionOptions
    from squall.sdk.ports import Port
    from squall.sdk.secret import Secret
    from squall.wire.control import AppInfo, LogsRead
else:

    def dataclass_transform(**_: Any) -> Any:
        """Only type checkers look: they shall know the constructor's parameters."""
        return lambda function: function


C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")

_LATER = {
    "server": "web functions come with a later version",
    "get_dashboard_url": "there is no dashboard yet: use `squall app list`",
    "sandboxes": "sandboxes come with a later version",
}


class App:
    """Functions under one name. `squall run` runs it; `squall deploy` keeps it on the server.

    `image` and `include_source` are for functions that do not say otherwise; `secrets` are for all of them.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: dict[str, str] | None = None,
        image: Image | None = None,
        secrets: Sequence[Secret] = (),
        volumes: Mapping[str | PurePosixPath, object] | None = None,
        include_source: bool = True,
    ) -> None:
        unavailable.refuse("App", {"volumes": volumes})
        self._secrets = checked_secrets(secrets)
        self._name = None if name is None else checks.app_name(name)
        self._image = checked_image(image)
        self._include_source = checks.flag("include_source", include_source)
        self._tags = checks.tags(tags)
        self._functions: dict[str, Function[..., Any]] = {}
        self._classes: dict[str, Cls] = {}
        self._entrypoints: dict[str, LocalEntrypoint[..., Any]] = {}
        self._includers: list[App] = []
        self._running: Running | None = None
        #: Of the deployment, once deployed.
        self.version = 0

    # ------------------------------------------------------------------------------------------- declaring

    def function(
        self, without_parentheses: object = None, /, **options: Unpack[FunctionOptions]
    ) -> Callable[[Callable[P, R]], Function[P, R]]:
        """Make a function one that runs in containers: `@app.function(image=image, cpu=2)`.

        image: what its containers have; env: environment variables; secrets: squall.Secret objects, whose
        variables are hidden; gpu: "H100", "H100:2", or a list in
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

    @dataclass_transform(field_specifiers=(parameter,), kw_only_default=True)
    def cls(
        self, without_parentheses: object = None, /, **options: Unpack[ClassOptions]
    ) -> Callable[[type[C]], type[C]]:
        """Make a class one whose objects live in containers: `@app.cls(image=image, gpu="H100")`.

        Takes what `@app.function()` takes, without schedule, name and is_generator. In the class,
        `@squall.method()` marks what can be called, `@squall.enter()` and `@squall.exit()` what runs once in
        each container, and `squall.parameter()` what an object is made with.

        Raises InvalidError, UnimplementedError.
        """
        if without_parentheses is not None:
            raise InvalidError("write @app.cls() with parentheses")
        declared: Mapping[str, Any] = dict(options)
        if context.is_local():
            from squall.sdk.declaration import declare

            declare(declared, Service.where)

        def decorate(user_cls: type) -> Any:
            if isinstance(user_cls, Cls) or not isinstance(user_cls, type):
                raise InvalidError(f"@app.cls() is for classes, and not for {checks.short(user_cls)}")
            made = Cls.declared(self, user_cls, declared)
            assert made.service is not None
            self._register(made.service)
            self._classes[made.name] = made
            return made

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
        same = type(other) is type(function)
        if other is not None and not (same and _place(other) == _place(function)):
            what = "give one another name=" if same and type(function) is Function else "rename one"
            raise InvalidError(f"the app has two functions {function.name}: {what}")
        self._functions[function.name] = function

    def include(self, /, other_app: App, inherit_tags: bool = True) -> App:
        """Take in what another app has: its functions run with this app, and are called as before.

        With `inherit_tags`, its tags count too where this app has no such tag of its own.
        """
        if other_app is self:
            raise InvalidError("an app cannot include itself")
        for function in other_app._functions.values():
            self._register(function)
        self._classes = {**other_app._classes, **self._classes}
        for name, entrypoint in other_app._entrypoints.items():
            self._entrypoints.setdefault(name, entrypoint)
        if checks.flag("inherit_tags", inherit_tags):
            self._tags = {**other_app._tags, **self._tags}
        other_app._includers.append(self)
        return self

    # ------------------------------------------------------------------------------------------------ state

    @property
    def running(self) -> Running | None:
        """Where it is on the server: by itself, or within an app that includes it."""
        within = (app.running for app in self._includers)
        return self._running or next((running for running in within if running), None)

    @running.setter
    def running(self, running: Running | None) -> None:
        self._running = running

    @property
    def image(self) -> Image | None:
        """Of functions that do not name one."""
        return self._image

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """That all functions get, before their own."""
        return self._secrets

    @property
    def include_source(self) -> bool:
        """Whether the source of functions is sent that do not say so."""
        return self._include_source

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
        return {name: f for name, f in self._functions.items() if name not in self._classes}

    @property
    def registered_classes(self) -> dict[str, Cls]:
        return dict(self._classes)

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
    ) -> Run:
        """`with app.run(): ...` (or `async with`): the app is on the server for the length of the block.

        With `detach`, it goes on after the block until its last call has ended.
        """
        if interactive:
            raise unavailable.missing(
                "App.run: ", "interactive=", "interactive functions come with a later version"
            )
        label = checks.app_name(name or self._name or _program_name())
        return Run(self, label, Access(client, environment_name or ""), detach=checks.flag("detach", detach))

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
        """Keep the app on the server, as a new version under its name. `tag` is a label of the version.

        strategy: with "rolling", calls that run end on the old version; with "recreate", the old version's
        containers end at once, and calls begin anew on the new one.
        """
        if strategy not in {"rolling", "recreate"}:
            raise InvalidError(f"strategy={strategy!r} is not possible: give rolling or recreate")
        label = name or self._name
        if label is None:
            raise InvalidError('an app needs a name to be deployed: App("..."), or name=')
        access = Access(client, environment_name or "")
        publisher = self._publisher()
        port = await mode.port(access)
        output.attach(port)
        published = await publisher.publish(
            mode, port, checks.app_name(label), deploy=True, tag=tag, tags=self._tags, strategy=strategy
        )
        self.running = Running(published.app, access, published.functions)
        self.version = published.version
        return self

    @dual
    async def stop(self, mode: Mode) -> None:
        """End the app's containers and cancel what waits. A deployed app is gone by that."""
        if self._running is None:
            raise exception.ExecutionError("the app does not run: there is nothing to stop")
        running, self._running = self._running, None
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

    @dual
    async def set_tags(self, mode: Mode, tags: Mapping[str, str]) -> None:
        """Replace the app's tags, also on the server if it runs there: names of up to 63 letters, digits and
        `._/-`, texts of up to 255 characters, 50 of them at most.
        """
        from squall.wire.control import AppTags

        self._tags = checks.tags(tags)
        if self.running is not None:
            port = await mode.port(self.running.access)
            await port.request("app.tags", AppTags(self.running.app_id, self._tags))

    @dual
    async def get_tags(self, mode: Mode) -> dict[str, str]:
        """The app's tags, as the server has them if it runs there."""
        from squall.wire.control import AppTags

        if self.running is None:
            return dict(self._tags)
        port = await mode.port(self.running.access)
        return dict((await port.request("app.tags", AppTags(self.running.app_id))).tags or {})

    @dual
    async def info(self, mode: Mode) -> Facts:
        """What the server knows of the app. Raises ExecutionError while it does not run."""
        from squall.sdk import facts
        from squall.wire.control import AppRef

        running = self._needs_running()
        port = await mode.port(running.access)
        return facts.app_info(await port.request("app.get", AppRef(running.app_id)))

    @dual
    async def stats(self, mode: Mode, since: Moment | None = None, until: Moment | None = None) -> Stats:
        """How many inputs of all functions ended, how, and how long they ran."""
        from squall.sdk import facts
        from squall.wire.control import StatsQuery

        running = self._needs_running()
        port = await mode.port(running.access)
        query = StatsQuery(running.app_id, facts.seconds("since", since), facts.seconds("until", until))
        return facts.stats(await port.request("app.stats", query))

    @property
    def logs(self) -> Logs:
        """What the app's containers write: `.fetch()`, `.tail()`, `.stream()`."""
        from squall.sdk.logs import Logs

        return Logs(self._logs_of)

    async def _logs_of(self, mode: Mode) -> tuple[Port[Any], LogsRead]:
        from squall.wire.control import LogsRead

        running = self._needs_running()
        return await mode.port(running.access), LogsRead(running.app_id)

    def _needs_running(self) -> Running:
        if self.running is None:
            name = self._name or "without a name"
            raise exception.ExecutionError(
                f"the app {name} is not on the server: run or deploy it, or use App.lookup()"
            )
        return self.running

    def _publisher(self) -> Any:
        if not context.is_local():
            # The module's own top level runs in its containers too.
            raise InvalidError(
                "an app cannot be run or deployed from inside a container: in a script, put that below "
                'if __name__ == "__main__":'
            )
        from squall.sdk.publishing import Publisher

        return Publisher(list(self._functions.values()), image=self._image)

    async def start(self, mode: Mode, label: str, access: Access, *, detach: bool) -> None:
        """Bring the app to the server. Raises what is wrong with it before anything is sent."""
        from squall.wire.control import AppCreate

        if self._running is not None:
            raise InvalidError(f"the app {label} runs already")
        publisher = self._publisher()
        port = await mode.port(access)
        output.attach(port)
        info: AppInfo = await port.request("app.create", AppCreate(label, detach, self._tags))
        try:
            await output.follow(port, info.id)
            published = await publisher.publish(mode, port, info.id)
        except BaseException:
            await _stop_quietly(port, info.id)
            raise
        self.running = Running(info.id, access, published.functions)

    async def end(self, mode: Mode, *, detach: bool, failed: bool) -> None:
        """After the block of `run`: `failed` if something else went wrong that must not be hidden."""
        running, self._running = self._running, None
        if detach or running is None:
            return
        port = await mode.port(running.access)
        if failed:
            await _stop_quietly(port, running.app_id)
        else:
            await output.refresh(port, running.app_id)
            await _stop(port, running.app_id)

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LATER:
            raise unavailable.missing("App.", name, _LATER[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<App {self._name or 'without a name'}>"


async def _stop_quietly(port: Port[Any], app_id: str) -> None:
    """Where another error is on its way to the user."""
    with suppress(exception.Error):
        await _stop(port, app_id, timeout=10.0)


async def _stop(port: Port[Any], app_id: str, timeout: float = 60.0) -> None:
    from squall.wire.control import AppRef

    await port.request("app.stop", AppRef(app_id), timeout=timeout)


def _check_function(value: object) -> None:
    if isinstance(value, (type, Cls)):
        raise InvalidError(f"@app.function() is for functions: write @app.cls() for {checks.short(value)}")
    if isinstance(value, Member):
        raise InvalidError(f"{value.decorator}() is for a class with @app.cls(), not for @app.function()")
    if not callable(value) or isinstance(value, Function):
        raise InvalidError(f"@app.function() is for functions, and not for {checks.short(value)}")


def _place(function: Function[..., Any]) -> tuple[str, str]:
    raw = function.get_raw_f()
    return raw.__module__, raw.__qualname__


def _program_name() -> str:
    """What an app without a name is called: as the program that runs."""
    stem = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "app"
