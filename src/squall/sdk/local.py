"""Calls in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class Local(Generic[P, R]):
    """`f.local`: a plain call, and `aio`, which awaits what an async function gives."""

    def __init__(self, raw_f: Callable[P, R]) -> None:
        self._raw_f = raw_f

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._raw_f(*args, **kwargs)

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        result: Any = self._raw_f(*args, **kwargs)
        return await result if hasattr(type(result), "__await__") else result


def bare_call(name: str, *, is_generator: bool, has_code: bool) -> InvalidError:
    """The error of `f(...)`, which does not say where it is to run."""
    remote = "remote_gen" if is_generator else "remote"
    here = f", or {name}.local(...) to run it here" if has_code else ""
    return InvalidError(
        f"{name}(...) does not say where: write {name}.{remote}(...) to run it in a container{here}"
    )
