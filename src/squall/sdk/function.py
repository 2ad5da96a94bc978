"""Functions that run in containers: what `@app.function()` makes of a function, and how it is called."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

from squall.exception import ExecutionError, InvalidError
from squall.sdk import checks, context, sharing, unavailable
from squall.sdk.autoscaler import Autoscaler
from squall.sdk.call import FunctionCall
from squall.sdk.dual import dual, dual_function, dual_stream
from squall.sdk.handles import ById, Deployed, Handle, OfApp, OfContainer
from squall.sdk.local import Local, bare_call
from squall.sdk.members import generates
from squall.sdk.modes import ASYNCIO, Access, Mode
from squall.sdk.variants import Variant

# What a call is made of loads with the first one: this module loads in every container.
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping

    from typing_extensions import Unpack

    from squall.client.api import AsyncClient, Client
    from squall.runner.protocol.spool import Pickled
    from squall.sdk.declaration import Declaration
    from squall.sdk.facts import FunctionInfo, FunctionStats, Moment, Stats
    from squall.sdk.handles import Resolved
    from squall.sdk.logs import Logs
    from squall.sdk.overrides import VariantOptions
    from squall.sdk.ports import Port
    from squall.sdk.source.home import Home
    from squall.wire.control import LogsRead
    from squall.wire.values import ClassSpec, Overrides

P = ParamSpec("P")
R = TypeVar("R")

_LATER = {
    "metrics": "use .stats() and .get_current_stats()",
    "get_web_url": "web functions come with a later version",
}


class Function(Generic[P, R]):
    """Calls run in a container of the function's image; `f.local(...)` runs right here.

    `.remote`, `.map`, `.spawn` and the others block; `.remote.aio` and so on are the same for asyncio.
    """

    #: What its options were given to.
    where = "@app.function"

    def __init__(
        self, name: str, handle: Handle, raw_f: Callable[P, R] | None, *, is_generator: bool | None
    ) -> None:
        self.name = name
        self.raw_f = raw_f
        self.is_generator = is_generator
        self.options: Mapping[str, Any] = {}
        self._declaration: Declaration | None = None
        self._handle = handle
        self._home: Home | None = None
        if raw_f is not None:
            functools.update_wrapper(self, raw_f)

    @classmethod
    def declared(cls, app: Any, raw_f: Callable[P, R], options: Mapping[str, Any]) -> Function[P, R]:
        """What `@app.function()` gives. Raises InvalidError for a function that no container could load."""
        name = options.get("name") or _name_of(raw_f)
        is_generator = options.get("is_generator")
        if is_generator is None:
            is_generator = generates(raw_f)
        function = cls(name, OfApp(app, name), raw_f, is_generator=is_generator)
        function.options = options
        # Inside a container, all this was checked before.
        if context.is_local():
            function._settle(raw_f)
        return function

    def _settle(self, raw_f: Callable[P, R]) -> None:
        from squall.sdk.source import home

        sharing.check(self.name, self.sharing, single_use=self.declaration.single_use)
        self._home = home.home_of(raw_f)
        if self.serialized:
            return
        if "<locals>" in raw_f.__qualname__:
            raise InvalidError(
                f"{raw_f.__qualname__} is defined inside a function: move it out, or use serialized=True"
            )
        home.share_main(self._home)

    @property
    def declaration(self) -> Declaration:
        """The options, checked. Raises InvalidError, UnimplementedError."""
        if self._declaration is None:
            from squall.sdk.declaration import declare

            self._declaration = declare(self.options, self.where)
        return self._declaration

    @property
    def sharing(self) -> sharing.Sharing:
        """How its inputs share a container."""
        return sharing.of(self._raw())

    @property
    def serialized(self) -> bool:
        """Whether it is sent by value: as declared, and from a notebook or whatever else has no file."""
        return self.declaration.serialized or not self.home.file

    # --------------------------------------------------------------------------------------------- calls

    @dual
    async def remote(self, mode: Mode, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in a container; its result. Raises what it raises there."""
        from squall.sdk import invocation

        found = await self._resolve(mode, generator=False)
        result: R = await invocation.unary(
            found.port, found.function_id, lambda: self._arguments(args, kwargs)
        )
        return result

    @dual_stream
    async def remote_gen(self, mode: Mode, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Any, None]:
        """The values of a generator function, as they come."""
        from squall.sdk import invocation

        found = await self._resolve(mode, generator=True)
        values = invocation.generate(found.port, found.function_id, lambda: self._arguments(args, kwargs))
        try:
            async for value in values:
                yield value
        finally:
            await values.aclose()

    @dual
    async def spawn(self, mode: Mode, /, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        """Start a call that goes on by itself, once the server has it on disk; ask for its result later."""
        from squall.sdk import invocation

        found = await self._resolve(mode, generator=False)
        data = self._arguments(args, kwargs)
        call_id = await invocation.spawn(found.port, found.function_id, data)
        return FunctionCall(call_id, found.access, is_unary=True)

    @dual
    async def spawn_map(
        self,
        mode: Mode,
        *input_iterators: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] = {},
    ) -> FunctionCall[R]:
        """Start a call of many inputs that goes on by itself, once the server has them all on disk.

        Results come from `.iter()` or `.get(index=...)` of the call. Inputs are taken as fast as the server
        stores them. What the input iterator raises cancels the call.
        """
        from squall.sdk import spawning

        found = await self._resolve(mode, generator=False)
        call_id = await spawning.spawn_map(
            found.port,
            found.function_id,
            _rows(self.name, input_iterators, mode),
            lambda args: self._arguments(args, dict(kwargs)),
        )
        return FunctionCall(call_id, found.access)

    @dual_stream
    async def map(
        self,
        mode: Mode,
        *input_iterators: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] = {},
        order_outputs: bool = True,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[R, None]:
        """Run the function for many inputs, on as many containers as there may be; the results, as a stream.

        As with the built-in `map`, each iterable is one argument; `kwargs` are the same for all. Inputs are
        taken while results are, at most 1,000 ahead. The first exception ends it and cancels the rest, or is
        one of the results with `return_exceptions`. Without `order_outputs`, results come as they are ready.
        """
        async for value in self._map(mode, input_iterators, kwargs, order_outputs, return_exceptions):
            yield value

    @dual_stream
    async def starmap(
        self,
        mode: Mode,
        input_iterator: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
        *,
        kwargs: Mapping[str, Any] = {},
        order_outputs: bool = True,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[R, None]:
        """As `map`, of one iterable that gives all the arguments of each call."""
        each = (input_iterator,)
        async for value in self._map(mode, each, kwargs, order_outputs, return_exceptions, star=True):
            yield value

    @dual
    async def for_each(
        self,
        mode: Mode,
        *input_iterators: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] = {},
        ignore_exceptions: bool = False,
    ) -> None:
        """As `map`, for what the calls do and not for what they give."""
        async for _ in self._map(mode, input_iterators, kwargs, False, ignore_exceptions):
            pass

    async def _map(
        self,
        mode: Mode,
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        kwargs: Mapping[str, Any],
        order_outputs: bool,
        return_exceptions: bool,
        *,
        star: bool = False,
    ) -> AsyncGenerator[R, None]:
        from squall.sdk import chunking, invocation, serialization
        from squall.sdk.feeding import spread

        rows = _rows(self.name, iterables, mode)
        found = await self._resolve(mode, generator=False)
        values = invocation.map_(
            found.port,
            found.function_id,
            spread(rows) if star else rows,
            serialization.encoder(self.name, dict(kwargs), by_value=self._by_value()),
            ordered=checks.flag("order_outputs", order_outputs),
            return_exceptions=checks.flag("return_exceptions", return_exceptions),
            total=chunking.total(iterables),
        )
        try:
            async for value in values:
                yield value
        finally:
            await values.aclose()

    @property
    def local(self) -> Local[P, R]:
        """Run the function here, as if it were not decorated."""
        return Local(self._raw())

    def __call__(self, /, *_: P.args, **__: P.kwargs) -> R:
        """Says no: whether it is meant for a container or for here cannot be seen."""
        raise bare_call(self.name, is_generator=bool(self.is_generator), has_code=self.raw_f is not None)

    # ------------------------------------------------------------------------------------------- variants

    def with_options(self, **options: Unpack[VariantOptions]) -> Function[P, R]:
        """The same function with other options, and containers of its own. Raises InvalidError.

        What is None, or not given, stays as it was declared; `env` adds to what there is.
        """
        from squall.sdk import overrides

        return self._changed(overrides.of_options(f"{self.name}.with_options", options))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Function[P, R]:
        """The same function with `@squall.concurrent` of these numbers, and containers of its own."""
        from squall.sdk import overrides

        return self._changed(overrides.of_concurrency(max_inputs, target_inputs))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Function[P, R]:
        """The same function with `@squall.batched` of these numbers, and containers of its own."""
        from squall.sdk import overrides

        return self._changed(overrides.of_batching(max_batch_size, wait_ms))

    def _changed(self, changes: Overrides) -> Function[P, R]:
        from squall.sdk import overrides

        handle = self._handle
        if isinstance(handle, Variant):
            changes = overrides.merged(handle.overrides, changes)
            handle = handle.of
        variant = object.__new__(type(self))
        variant.__dict__.update(self.__dict__)
        variant._handle = Variant(handle, {}, changes)
        return variant

    @property
    def autoscaler(self) -> Autoscaler:
        """How it scales: `.settings()` and `.update(...)`."""
        return Autoscaler(self._handle)

    @dual
    async def update_autoscaler(
        self,
        mode: Mode,
        *,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
    ) -> None:
        """Change how it scales, until the next deployment. Raises InvalidError."""
        await Autoscaler.update.flow(
            self.autoscaler,
            mode,
            min_containers=min_containers,
            max_containers=max_containers,
            buffer_containers=buffer_containers,
            scaledown_window=scaledown_window,
        )

    # ----------------------------------------------------------------------------------------------- facts

    @dual
    async def info(self, mode: Mode) -> FunctionInfo:
        """What the server knows of the function."""
        from squall.sdk import facts
        from squall.wire.control import FunctionGet

        found = await self._handle.resolve(mode)
        told = await found.port.request("function.get", FunctionGet(found.function_id))
        return facts.FunctionInfo(told.id, told.app, told.name, told.version, told.is_generator)

    @dual
    async def stats(
        self,
        mode: Mode,
        since: Moment | None = None,
        until: Moment | None = None,
        container: str | None = None,
        all_variants: bool = False,
    ) -> Stats:
        """How many of its inputs ended, how, and how long they ran; with `all_variants`, those of variants
        (other options, parameters of a class) too.
        """
        from squall.sdk import facts

        unavailable.refuse("Function.stats", {"container": container})
        checks.flag("all_variants", all_variants)
        query = (facts.seconds("since", since), facts.seconds("until", until))
        return facts.stats(await self._stats(mode, *query, all_variants=all_variants))

    @dual
    async def get_current_stats(self, mode: Mode) -> FunctionStats:
        """How many inputs wait for a container, and how many containers there are."""
        from squall.sdk import facts

        told = await self._stats(mode)
        return facts.FunctionStats(told.backlog, told.runners)

    async def _stats(
        self, mode: Mode, since: float = 0.0, until: float = 0.0, *, all_variants: bool = False
    ) -> Any:
        from squall.wire.control import StatsQuery

        found = await self._handle.resolve(mode)
        query = StatsQuery(found.function_id, since, until, all_variants)
        return await found.port.request("function.stats", query)

    @property
    def logs(self) -> Logs:
        """What its containers write: `.fetch()`, `.tail()`, `.stream()`."""
        from squall.sdk.logs import Logs

        return Logs(self._logs_of)

    async def _logs_of(self, mode: Mode) -> tuple[Port[Any], LogsRead]:
        from squall.wire.control import FunctionGet, LogsRead

        found = await self._handle.resolve(mode)
        told = await found.port.request("function.get", FunctionGet(found.function_id))
        return found.port, LogsRead(told.app, function=told.name)

    # ------------------------------------------------------------------------------------------- identity

    @staticmethod
    def from_id(function_id: str, *, client: Client | AsyncClient | None = None) -> Function[..., Any]:
        """A function by its id, of an app that runs."""
        return Function(function_id, ById(function_id, Access(client)), None, is_generator=None)

    def get_raw_f(self) -> Callable[P, R]:
        """The function that was decorated."""
        return self._raw()

    @property
    def app(self) -> Any:
        """The app that it was declared with; None for one that was looked up."""
        return self._handle.app

    @property
    def class_spec(self) -> ClassSpec | None:
        """What a server needs to know of a class."""
        return None

    def to_serialize(self) -> Any:
        """What goes into a cloudpickle, with serialized=True."""
        return self._raw()

    @property
    def home(self) -> Home:
        """Where it is defined. Only outside of containers."""
        assert self._home is not None
        return self._home

    @property
    def entry(self) -> tuple[str, str]:
        """The module that containers import, and what is called in it."""
        return self.home.module, self.get_raw_f().__qualname__

    def _raw(self) -> Callable[P, R]:
        if self.raw_f is None:
            raise ExecutionError(
                f"{self.name} was looked up by name and has no code here: call .remote() or .spawn()"
            )
        return self.raw_f

    async def _resolve(self, mode: Mode, *, generator: bool) -> Resolved:
        found = await self._handle.resolve(mode)
        if found.class_ is not None:
            raise InvalidError(f"{self.name} is a class: look it up by squall.Cls.from_name()")
        is_generator = self.is_generator if found.is_generator is None else found.is_generator
        if is_generator is not None and is_generator != generator:
            if is_generator:
                raise InvalidError(
                    f"{self.name} is a generator function: call .remote_gen() and iterate over it"
                )
            raise InvalidError(f"{self.name} is no generator function: call .remote(), .map() or .spawn()")
        return found

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pickled:
        from squall.sdk import serialization

        return serialization.dump_arguments(self.name, args, kwargs, by_value=self._by_value())

    def _by_value(self) -> bool:
        return self._home is None or not (self._home.is_main and self._home.file)

    def __reduce__(self) -> tuple[Any, ...]:
        """As an argument or a global of another function: the same function of the container's app."""
        if isinstance(self._handle, Variant):
            return (_variant, (self.name, self._handle, self.is_generator))
        if not isinstance(self._handle, (OfApp, OfContainer)):
            raise TypeError(f"{self.name} was looked up by name: look it up where you call it")
        return (_in_container, (self.name, self.is_generator))

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LATER:
            raise unavailable.missing("Function.", name, _LATER[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<Function {self.name}>"

    @dual_function
    @staticmethod
    async def from_name(
        mode: Mode,
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Client | AsyncClient | None = None,
    ) -> Function[..., Any]:
        """A function of a deployed app, looked up with the first call: of the newest version at any time, or
        of one `version` for good.
        """
        del mode  # nothing is asked here
        access = Access(client, environment_name or "")
        handle = Deployed(checks.app_name(app_name), name, access, checks.version(version))
        return Function(name, handle, None, is_generator=None)


unavailable.former_methods(Function, unavailable.FORMER_OF_FUNCTIONS)


def _variant(name: str, handle: Handle, is_generator: bool | None) -> Function[..., Any]:
    return Function(name, handle, None, is_generator=is_generator)


def _in_container(name: str, is_generator: bool | None) -> Function[..., Any]:
    return Function(name, OfContainer(name), None, is_generator=is_generator)


def _rows(name: str, iterables: tuple[Any, ...], mode: Mode) -> AsyncGenerator[tuple[Any, ...], None]:
    from squall.sdk.feeding import rows_of

    return rows_of(name, iterables, is_async=mode is ASYNCIO)


def _name_of(raw_f: Callable[..., Any]) -> str:
    name = raw_f.__qualname__
    if "<lambda>" in name:
        raise InvalidError('a lambda has no name: give it one with @app.function(name="...")')
    return name.rpartition("<locals>.")[2]
