"""A class that runs in containers: what its members are for, and how its objects are made.

The runner gets one of these, by name or in a cloudpickle, and calls `instantiate`, `enters`, `methods` and
`exits`; it knows nothing else of classes.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

from squall.exception import InvalidError
from squall.sdk import parameters, sharing
from squall.sdk.members import Enter, Exit, Member, Method
from squall.sdk.parameters import NO_DEFAULT, Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from squall.wire.values import ClassSpec

K = TypeVar("K")
M = TypeVar("M", bound=Member[Any, Any])

#: Where an object keeps how it is called from elsewhere.
OWNER = "_squall_owner"


class Blueprint:
    """Of the user's own class, with what it inherits."""

    def __init__(self, user_cls: type) -> None:
        self.user_cls = user_cls
        #: As of a function that is serialized: its module goes along.
        self.__module__ = user_cls.__module__
        self._found: dict[type, dict[str, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (Blueprint, (self.user_cls,))

    # ------------------------------------------------------------------------------------------- the class

    def members(self, kind: type[M]) -> dict[str, M]:
        """In the order of definition, base classes first; what a class overrides counts as it is there."""
        return self._of_kind(kind)

    def parameters(self) -> dict[str, Parameter]:
        return self._of_kind(Parameter)

    def _of_kind(self, kind: type[K]) -> dict[str, K]:
        """Found once: a call on an object shall cost no walk through its class."""
        if kind not in self._found:
            self._found[kind] = {n: value for n, value in self._attributes() if isinstance(value, kind)}
        return self._found[kind]

    def kinds(self) -> dict[str, str]:
        """What each parameter is. Raises InvalidError for one that is something else."""
        annotations: dict[str, Any] = {}
        for each in reversed(self.user_cls.__mro__[:-1]):
            annotations.update(_annotations(each))
        owner = self.user_cls.__qualname__
        return {
            name: parameters.kind_of(owner, name, annotations.get(name))
            for name, p in self.parameters().items()
            if p.init
        }

    def spec(self) -> ClassSpec:
        """What a server needs to know. Raises InvalidError."""
        from squall.wire.values import ClassSpec, MethodSpec, ParameterSpec

        kinds = self.kinds()
        return ClassSpec(
            {name: MethodSpec(m.is_generator) for name, m in self.members(Method).items()},
            {
                name: ParameterSpec(kinds[name], None if p.default is NO_DEFAULT else p.default)
                for name, p in self.parameters().items()
                if p.init
            },
            exits=bool(self.members(Exit)),
        )

    def check(self) -> None:
        """Raises InvalidError for a class whose objects no container could make."""
        from squall.sdk.function import Function

        name = self.user_cls.__qualname__
        if not self.members(Method):
            raise InvalidError(f"{name} has no methods to call: mark one with @squall.method()")
        for each, value in self._attributes():
            if isinstance(value, Function):
                raise InvalidError(f"{name}.{each} is an @app.function(): in a class, use @squall.method()")
        batched = [n for n, m in self.members(Method).items() if sharing.of(m).max_batch_size]
        if batched and len(self.members(Method)) > 1:
            raise InvalidError(f"{name}.{batched[0]} is batched: it must be the only method of its class")
        self._check_constructor(name)
        for each, kind in self.kinds().items():
            default = self.parameters()[each].default
            if default is not NO_DEFAULT:
                parameters.check_value(name, each, kind, default)

    def check_parameters(self, given: Mapping[str, Any]) -> None:
        """Raises InvalidError for what the class does not take, or lacks."""
        name, kinds = self.user_cls.__qualname__, self.kinds()
        for each, value in given.items():
            if each not in kinds:
                known = ", ".join(kinds) or "none: declare one with squall.parameter()"
                raise InvalidError(f"{name} has no parameter {each}; it has {known}")
            parameters.check_value(name, each, kinds[each], value)
        for each in kinds:
            if each not in given and self.parameters()[each].default is NO_DEFAULT:
                raise InvalidError(f"{name} needs the parameter {each}: {name}({each}=...)")

    # ------------------------------------------------------------------------------------------ the object

    def instantiate(self, values: Mapping[str, Any]) -> object:
        """In a container: the object that its inputs are for."""
        from squall.sdk.objects import of_this_container

        made = self.make(values)
        made.__dict__[OWNER] = of_this_container(self)
        return made

    def make(self, values: Mapping[str, Any]) -> Any:
        """An object with these parameters; nothing is entered yet."""
        user_cls: Any = self.user_cls
        made = user_cls.__new__(user_cls)
        defaults = {n: p.default for n, p in self.parameters().items() if p.default is not NO_DEFAULT}
        made.__dict__.update({**defaults, **values})
        made.__init__()
        return made

    def methods(self, made: object) -> dict[str, Callable[..., Any]]:
        return {name: MethodType(m.raw_f, made) for name, m in self.members(Method).items()}

    def enters(self, made: object) -> list[Callable[[], Any]]:
        """Those for snapshots first."""
        hooks = sorted(self.members(Enter).values(), key=lambda hook: not hook.snap)
        return [MethodType(hook.raw_f, made) for hook in hooks]

    def exits(self, made: object) -> list[Callable[[], Any]]:
        return [MethodType(hook.raw_f, made) for hook in self.members(Exit).values()]

    # ------------------------------------------------------------------------------------------------ bits

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        merged: dict[str, Any] = {}
        for each in reversed(self.user_cls.__mro__):
            merged.update(vars(each))
        return iter(merged.items())

    def _check_constructor(self, name: str) -> None:
        """Objects are made from parameters, which both sides can read; not from whatever `__init__` takes."""
        code = getattr(self.user_cls.__init__, "__code__", None)  # type: ignore[misc]
        if code is None:
            return
        if code.co_argcount > 1 or code.co_kwonlyargcount:
            taken = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            first = taken[0]
            raise InvalidError(
                f"{name}.__init__ takes {', '.join(taken)}: declare each in the class, as "
                f"{first}: str = squall.parameter(), and set the object up in @squall.enter()"
            )


def _annotations(user_cls: type) -> dict[str, Any]:
    """As written; from Python 3.14 on they are evaluated late, and may name what only type checkers know."""
    try:
        return user_cls.__annotations__
    except NameError:
        from importlib import import_module

        lib = import_module("annotationlib")
        found: dict[str, Any] = lib.get_annotations(user_cls, format=lib.Format.FORWARDREF)
        return found
