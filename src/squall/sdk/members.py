"""What `@squall.method()`, `@squall.enter()` and `@squall.exit()` make of functions inside a class.

The class works as ever outside of containers: on an object, each of them is its method.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from squall.exception import InvalidError
from squall.sdk import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.sdk.objects import Method as BoundMethod

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

#: As in `inspect`, which takes long to load.
_CO_VARARGS, _CO_GENERATOR, _CO_ASYNC_GENERATOR = 0x4, 0x20, 0x200


class Member(Generic[P, R]):
    """A marked function of a class. Called on the class (`Base.load(self)`), it is the plain function."""

    decorator = ""
    name = ""

    def __init__(self, raw_f: Callable[..., R]) -> None:
        self.raw_f = raw_f
        functools.update_wrapper(self, raw_f)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        return self.raw_f(*args, **kwargs)

    def __get__(self, instance: object | None, owner: type) -> Any:
        return self if instance is None else MethodType(self.raw_f, instance)


class Enter(Member[P, R]):
    decorator = "@squall.enter"
    snap = False


class Exit(Member[P, R]):
    decorator = "@squall.exit"


class Method(Member[P, R]):
    decorator = "@squall.method"
    is_generator = False

    @overload
    def __get__(self, instance: None, owner: type) -> Method[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> BoundMethod[P, R]: ...
    def __get__(self, instance: object | None, owner: type) -> Method[P, R] | BoundMethod[P, R]:
        if instance is None:
            return self
        from squall.sdk.objects import method_of

        return method_of(instance, self)


def method(
    without_parentheses: object = None, /, *, is_generator: bool | None = None
) -> Callable[[Callable[Concatenate[S, P], R]], Method[P, R]]:
    """A method that can be called from elsewhere, in a container of its class: `@squall.method()`.

    Whether it is a generator is seen from the function, unless it is said. Raises InvalidError.
    """
    _with_parentheses("method", without_parentheses)
    if is_generator is not None:
        checks.flag("is_generator", is_generator)

    def decorate(raw_f: Callable[Concatenate[S, P], R]) -> Method[P, R]:
        member: Method[P, R] = Method(_function("method", raw_f))
        member.is_generator = generates(raw_f) if is_generator is None else is_generator
        return member

    return decorate


def enter(
    without_parentheses: object = None, /, *, snap: bool = False
) -> Callable[[Callable[Concatenate[S, P], R]], Enter[P, R]]:
    """Runs once in each container, before its first input: `@squall.enter()`. Raises InvalidError.

    Those with `snap=True` run before the others.
    """
    _with_parentheses("enter", without_parentheses)
    checks.flag("snap", snap)

    def decorate(raw_f: Callable[Concatenate[S, P], R]) -> Enter[P, R]:
        member: Enter[P, R] = Enter(_hook("enter", raw_f))
        member.snap = snap
        return member

    return decorate


def exit(  # noqa: A001 - the public name
    without_parentheses: object = None, /
) -> Callable[[Callable[Concatenate[S, P], R]], Exit[P, R]]:
    """Runs once in each container, when it is told to end: `@squall.exit()`. Raises InvalidError."""
    _with_parentheses("exit", without_parentheses)
    return lambda raw_f: Exit(_hook("exit", raw_f))


def generates(raw_f: object) -> bool:
    """Whether calling it gives a generator, plain or asynchronous."""
    code = getattr(getattr(raw_f, "__wrapped__", raw_f), "__code__", None)
    return code is not None and bool(code.co_flags & (_CO_GENERATOR | _CO_ASYNC_GENERATOR))


def _with_parentheses(name: str, given: object) -> None:
    if given is not None:
        raise InvalidError(f"write @squall.{name}() with parentheses")


def _function(name: str, value: Any) -> Any:
    if isinstance(value, Member):
        raise InvalidError(f"{value.raw_f.__qualname__} is marked twice: with {value.decorator}() and again")
    if isinstance(value, (staticmethod, classmethod, property, type)) or not callable(value):
        kind = type(value).__name__
        raise InvalidError(f"@squall.{name}() is for plain methods of a class, and not for a {kind}")
    return value


def _hook(name: str, value: Any) -> Any:
    """A method that takes nothing but the object."""
    function = _function(name, value)
    code = getattr(function, "__code__", None)
    if code is not None and not code.co_flags & _CO_VARARGS:
        needed = code.co_argcount - len(function.__defaults__ or ())
        if code.co_argcount < 1 or needed > 1:
            raise InvalidError(
                f"{function.__qualname__} must take self and nothing else: @squall.{name}() calls it"
            )
    if generates(function):
        raise InvalidError(f"{function.__qualname__} is a generator: @squall.{name}() wants a plain method")
    return function
