"""One flow, two ways to call it: `f.remote(x)` blocks, `await f.remote.aio(x)` does not.

A flow (see `flows`) takes the `Mode` in which it was called as its first argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from squall.sdk.flows import finish, iterate
from squall.sdk.modes import ASYNCIO, BLOCKING, Mode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class Dual(Generic[P, T]):
    """A callable that blocks, and `aio`, the same for asyncio."""

    def __init__(self, flow: Callable[..., Coroutine[Any, Any, T]], *bound: object) -> None:
        self._flow, self._bound = flow, bound

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return finish(self._flow(*self._bound, BLOCKING, *args, **kwargs))
        except BaseException as error:
            raise users(error)  # SQUALL_TRACEBACK=1 shows all frames

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._flow(*self._bound, ASYNCIO, *args, **kwargs)
        except BaseException as error:
            raise users(error)  # SQUALL_TRACEBACK=1 shows all frames


class DualStream(Generic[P, T]):
    """As Dual, for many values: an iterator, and `aio`, an asynchronous iterator."""

    def __init__(self, flow: Callable[..., AsyncGenerator[T, None]], *bound: object) -> None:
        self._flow, self._bound = flow, bound

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return _told(iterate(self._flow(*self._bound, BLOCKING, *args, **kwargs)))

    def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return _told_async(self._flow(*self._bound, ASYNCIO, *args, **kwargs))


def _told(values: Iterator[T]) -> Iterator[T]:
    try:
        yield from values
    except BaseException as error:
        raise users(error)  # SQUALL_TRACEBACK=1 shows all frames


async def _told_async(values: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    try:
        async for value in values:
            yield value
    except BaseException as error:
        raise users(error)  # SQUALL_TRACEBACK=1 shows all frames
    finally:
        await values.aclose()


def users(error: BaseException) -> BaseException:
    """It leaves Squall: its traceback is the user's, here and in the container."""
    from squall.sdk.splice import without_ours

    return error.with_traceback(without_ours(error))


class dual(Generic[S, P, T]):  # noqa: N801 - a decorator
    """Makes a Dual of a method that is a flow: `async def remote(self, mode, ...)`."""

    def __init__(self, flow: Callable[Concatenate[S, Mode, P], Coroutine[Any, Any, T]]) -> None:
        self.flow: Callable[..., Coroutine[Any, Any, T]] = flow
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> dual[S, P, T]: ...
    @overload
    def __get__(self, instance: S, owner: type) -> Dual[P, T]: ...
    def __get__(self, instance: S | None, owner: type) -> Dual[P, T] | dual[S, P, T]:
        return self if instance is None else Dual(self.flow, instance)


class dual_stream(Generic[S, P, T]):  # noqa: N801 - a decorator
    """Makes a DualStream of a method that is an asynchronous generator."""

    def __init__(self, flow: Callable[Concatenate[S, Mode, P], AsyncGenerator[T, None]]) -> None:
        self.flow: Callable[..., AsyncGenerator[T, None]] = flow
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> dual_stream[S, P, T]: ...
    @overload
    def __get__(self, instance: S, owner: type) -> DualStream[P, T]: ...
    def __get__(self, instance: S | None, owner: type) -> DualStream[P, T] | dual_stream[S, P, T]:
        return self if instance is None else DualStream(self.flow, instance)


def dual_function(flow: Callable[Concatenate[Mode, P], Coroutine[Any, Any, T]]) -> Dual[P, T]:
    """A Dual of a flow that belongs to no object."""
    return Dual(flow)
