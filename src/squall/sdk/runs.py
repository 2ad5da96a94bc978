"""The block in which an app runs: `with app.run(): ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.sdk.flows import finish
from squall.sdk.modes import ASYNCIO, BLOCKING, Access, Mode

if TYPE_CHECKING:
    from types import TracebackType

    from squall.sdk.app import App


class Run:
    """Plain or async."""

    def __init__(self, app: App, label: str, access: Access, *, detach: bool) -> None:
        self._app = app
        self._label = label
        self._access = access
        self._detach = detach

    def __enter__(self) -> App:
        finish(self._start(BLOCKING))
        return self._app

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        finish(self._app.end(BLOCKING, detach=self._detach, failed=kind is not None))

    async def __aenter__(self) -> App:
        await self._start(ASYNCIO)
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        await self._app.end(ASYNCIO, detach=self._detach, failed=kind is not None)

    async def _start(self, mode: Mode) -> None:
        await self._app.start(mode, self._label, self._access, detach=self._detach)
