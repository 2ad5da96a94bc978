"""Objects of classes that run in containers, and their methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from squall.exception import ExecutionError, InvalidError
from squall.sdk import checks, context
from squall.sdk.autoscaler import Autoscaler
from squall.sdk.blueprint import OWNER, Blueprint
from squall.sdk.dual import dual
from squall.sdk.function import Function
from squall.sdk.handles import ById
from squall.sdk.local import Local
from squall.sdk.members import Method as Marked
from squall.sdk.modes import Access, Mode
from squall.sdk.variants import Nowhere, OfMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squall.sdk.handles import Handle
    from squall.sdk.source.home import Home
    from squall.wire.values import Overrides

P = ParamSpec("P")
R = TypeVar("R")

#: As in `inspect`, which takes long to load.
_CO_COROUTINE = 0x80


class Bound:
    """A class and its parameters: where its methods are called, and the object that does it in this process.

    `blueprint` is None for a class that was looked up, or that came here as an argument.
    """

    def __init__(
        self, name: str, handle: Handle, blueprint: Blueprint | None, parameters: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.handle = handle
        self.blueprint = blueprint
        self.parameters = dict(parameters)
        #: Where the class is defined; None inside of containers.
        self.home: Home | None = None
        self._here: Any = None
        self._entered = False

    def has(self, method: str) -> bool:
        """Whether it has such a method, as far as can be known."""
        return self.blueprint is None or method in self.blueprint.members(Marked)

    def here(self) -> Any:
        """The object in this process. Raises ExecutionError for a class that is not here."""
        if self.blueprint is None:
            raise ExecutionError(f"{self.name} has no code here: call its methods with .remote() or .spawn()")
        if self._here is None:
            self._here = self.blueprint.make(self.parameters)
            self._here.__dict__[OWNER] = self
        return self._here

    def run(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Here, after the `@enter` methods. Raises InvalidError for async ones while a loop runs."""
        made = self.here()
        hooks = self._pending(made)
        if any(map(_is_coroutine, hooks)):
            import asyncio

            try:
                asyncio.get_running_loop()
            except RuntimeError:
                asyncio.run(_enter(hooks))
            else:
                raise InvalidError(f"{self.name} has async @enter methods: call .local.aio() here")
        else:
            for hook in hooks:
                hook()
        self._entered = True
        return self._function(method)(*args, **kwargs)

    async def run_async(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = self.here()
        await _enter(self._pending(made))
        self._entered = True
        result = self._function(method)(*args, **kwargs)
        return await result if hasattr(type(result), "__await__") else result

    def _pending(self, made: object) -> list[Callable[[], Any]]:
        assert self.blueprint is not None
        return [] if self._entered else self.blueprint.enters(made)

    def _function(self, method: str) -> Callable[..., Any]:
        assert self.blueprint is not None
        return self.blueprint.methods(self._here)[method]


class Obj:
    """`Model(size="large")`: its methods run in containers, or right here with `.local()`.

    Its other attributes are those of the object in this process, which `@enter` methods have touched only
    once a method has run here.
    """

    def __init__(self, bound: Bound) -> None:
        self._squall_bound = bound

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
        """Change how the containers of these parameters scale, until the next deployment."""
        await Autoscaler.update.flow(
            Autoscaler(self._squall_bound.handle),
            mode,
            min_containers=min_containers,
            max_containers=max_containers,
            buffer_containers=buffer_containers,
            scaledown_window=scaledown_window,
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_squall_bound":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        bound = self._squall_bound
        return Method(bound, name) if bound.has(name) else getattr(bound.here(), name)

    def __reduce__(self) -> tuple[Any, ...]:
        bound = self._squall_bound
        return (_restored, (bound.name, bound.handle, bound.parameters))

    def __repr__(self) -> str:
        bound = self._squall_bound
        values = ", ".join(f"{name}={checks.short(value)}" for name, value in bound.parameters.items())
        return f"<{bound.name}({values})>"


class Method(Function[P, R]):
    """A method of an object: `.remote`, `.map` and the others run it in the object's containers.

    `.local(...)` runs it here, after the `@enter` methods.
    """

    def __init__(self, owner: Bound, name: str) -> None:
        super().__init__(f"{owner.name}.{name}", OfMethod(owner.handle, name), None, is_generator=None)
        self._owner = owner
        self._method = name
        self._home = owner.home
        if owner.blueprint is not None:
            marked = owner.blueprint.members(Marked)[name]
            self.is_generator, self.__doc__ = marked.is_generator, marked.__doc__

    def _raw(self) -> Callable[P, R]:
        return self.local

    @property
    def local(self) -> Local[P, R]:
        """Run the method here, also as `.local.aio`."""
        return _LocalMethod(self._owner, self._method)

    def get_raw_f(self) -> Callable[..., Any]:
        """The function that was decorated; the object is its first parameter."""
        return _class_of(self._owner).members(Marked)[self._method].raw_f

    def _changed(self, changes: Overrides) -> NoReturn:  # noqa: ARG002 - it has none of its own
        """A class has its options as a whole."""
        raise InvalidError(f"{self.name} has the options of its class: call with_options() and so on there")

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (Obj(self._owner), self._method))


class _LocalMethod(Local[P, R]):
    def __init__(self, owner: Bound, method: str) -> None:
        super().__init__(lambda *args, **kwargs: owner.run(method, args, kwargs))
        self._owner = owner
        self._method = method

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return await self._owner.run_async(self._method, args, kwargs)


class _OwnMethod(Method[P, R]):
    """`self.other`, inside the class: called, it is the plain method, as between any two methods."""

    def __init__(self, owner: Bound, marked: Marked[P, R], made: object) -> None:
        super().__init__(owner, marked.name)
        self._plain: Any = marked.raw_f.__get__(made)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._plain(*args, **kwargs)
        return result

    @property
    def local(self) -> Local[P, R]:
        return Local(self._plain)


def method_of(made: Any, marked: Marked[P, R]) -> Method[P, R]:
    """What `made.method` gives on an object of the user's own class."""
    owner = made.__dict__.get(OWNER)
    if owner is None:  # the user made it, perhaps of a class that no app has
        name = type(made).__qualname__
        owner = Bound(name, Nowhere(name), Blueprint(type(made)), {})
    return _OwnMethod(owner, marked, made)


def of_this_container(blueprint: Blueprint) -> Bound:
    """How the object of this container is called from elsewhere: in the containers of the same function."""
    handle = ById(context.current_function_id() or "", Access())
    return Bound(blueprint.user_cls.__qualname__, handle, blueprint, {})


def _class_of(owner: Bound) -> Blueprint:
    if owner.blueprint is None:
        raise ExecutionError(f"{owner.name} has no code here: call its methods with .remote() or .spawn()")
    return owner.blueprint


def _restored(name: str, handle: Handle, parameters: dict[str, Any]) -> Obj:
    return Obj(Bound(name, handle, None, parameters))


def _is_coroutine(hook: Callable[..., Any]) -> bool:
    code = getattr(getattr(hook, "__func__", hook), "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


async def _enter(hooks: list[Callable[[], Any]]) -> None:
    for hook in hooks:
        value = hook()
        if hasattr(type(value), "__await__"):
            await value
