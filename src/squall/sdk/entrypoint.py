"""Local entrypoints: where `squall run` begins, on the caller's own machine."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class LocalEntrypoint(Generic[P, R]):
    """Calling it calls the function, here."""

    def __init__(self, app: Any, name: str, raw_f: Callable[P, R]) -> None:
        self.app = app
        self.name = name
        self.raw_f = raw_f
        functools.update_wrapper(self, raw_f)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.raw_f(*args, **kwargs)

    def get_raw_f(self) -> Callable[P, R]:
        """The function that was decorated."""
        return self.raw_f

    def __repr__(self) -> str:
        return f"<LocalEntrypoint {self.name}>"
