"""Handles of variants: a function with other options, a class bound to its parameters, and methods."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from squall.exception import ExecutionError, InvalidError, NotFoundError
from squall.sdk.handles import Handle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.sdk.handles import Resolved
    from squall.sdk.modes import Mode
    from squall.wire.control import FunctionInfo
    from squall.wire.values import Overrides

#: Seconds after which the server is asked for the id again; it promises 300 (`wire.control.FunctionVariant`).
FRESH_S = 120.0


class Variant(Handle):
    """What another handle means, with its own parameters or options, and so with containers of its own."""

    def __init__(self, of: Handle, parameters: Mapping[str, Any], overrides: Overrides | None) -> None:
        self.of = of
        self.parameters = dict(parameters)
        self.overrides = overrides
        #: By the id that `of` has: its app may run several times.
        self._known: dict[str, tuple[FunctionInfo, float]] = {}

    @property
    def app(self) -> Any:
        return self.of.app

    async def resolve(self, mode: Mode) -> Resolved:
        found = await self.of.resolve(mode)
        info, until = self._known.get(found.function_id, (None, 0.0))
        if info is None or until < time.monotonic():
            info = await self._ask(mode, found)
            self._known[found.function_id] = (info, time.monotonic() + FRESH_S)
        return found._replace(function_id=info.id, is_generator=info.is_generator, class_=info.class_)

    async def _ask(self, mode: Mode, found: Resolved) -> FunctionInfo:
        from squall.sdk import overrides
        from squall.wire.control import FunctionVariant

        changes = await overrides.asked(self.overrides, mode, found.port)
        body = FunctionVariant(found.function_id, self.parameters, changes)
        info: FunctionInfo = await found.port.request("function.variant", body)
        return info

    def __reduce__(self) -> tuple[Any, ...]:
        return (Variant, (self.of, self.parameters, self.overrides))


class OfMethod(Handle):
    """A method of the class that another handle means."""

    def __init__(self, of: Handle, method: str) -> None:
        self.of = of
        self.method = method

    @property
    def app(self) -> Any:
        return self.of.app

    async def resolve(self, mode: Mode) -> Resolved:
        found = await self.of.resolve(mode)
        port = found.port.of_method(self.method)
        if found.class_ is None:
            if found.is_generator is not None:
                raise InvalidError(
                    f"{self.method} is called on a function: look it up by squall.Function.from_name()"
                )
            return found._replace(port=port)
        method = found.class_.methods.get(self.method)
        if method is None:
            known = ", ".join(found.class_.methods)
            raise NotFoundError(f"the class has no method {self.method}; it has: {known}")
        return found._replace(port=port, is_generator=method.is_generator, class_=None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (OfMethod, (self.of, self.method))


class Nowhere(Handle):
    """A class that no app has."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def resolve(self, mode: Mode) -> NoReturn:
        del mode
        raise ExecutionError(f"{self._name} is not declared with @app.cls(): call its methods with .local()")
