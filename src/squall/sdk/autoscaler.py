"""The autoscaler of a function, or of one set of parameters of a class: how it is set, and setting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from squall.sdk import checks
from squall.sdk.dual import dual

if TYPE_CHECKING:
    from squall.sdk.handles import Handle
    from squall.sdk.modes import Mode
    from squall.wire import values

_MAX_CONTAINERS = 10_000


class AutoscalerSettings(NamedTuple):
    """Containers: at least, at most (None: no limit), beyond the need; seconds that an idle one stays."""

    min_containers: int
    max_containers: int | None
    buffer_containers: int
    scaledown_window: float


class Autoscaler:
    """`settings()` and `update(...)`, each with `.aio`."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @dual
    async def settings(self, mode: Mode) -> AutoscalerSettings:
        """As they are now on the server."""
        return await self._ask(mode)

    @dual
    async def update(
        self,
        mode: Mode,
        *,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
    ) -> None:
        """Change some, from now on; the next deployment sets what it declares. Raises InvalidError."""
        if min_containers is not None:
            checks.whole("min_containers", min_containers, 0, _MAX_CONTAINERS)
        if max_containers is not None:
            checks.whole("max_containers", max_containers, 1, _MAX_CONTAINERS)
        if buffer_containers is not None:
            checks.whole("buffer_containers", buffer_containers, 0, _MAX_CONTAINERS)
        if scaledown_window is not None:
            checks.whole("scaledown_window", scaledown_window, 2, 3600, " of seconds")
        window = None if scaledown_window is None else float(scaledown_window)
        await self._ask(mode, min_containers, max_containers, buffer_containers, window)

    async def _ask(
        self,
        mode: Mode,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: float | None = None,
    ) -> AutoscalerSettings:
        from squall.wire.control import FunctionAutoscaler

        found = await self._handle.resolve(mode)
        body = FunctionAutoscaler(
            found.function_id, min_containers, max_containers, buffer_containers, scaledown_window
        )
        now: values.AutoscalerSettings = await found.port.request("function.autoscaler", body)
        return AutoscalerSettings(
            now.min_containers, now.max_containers, now.buffer_containers, now.scaledown_window
        )
