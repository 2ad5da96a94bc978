"""Which function of the server is meant: of an app that runs, of a deployed one, of this container's app."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from squall.exception import ExecutionError, NotFoundError
from squall.sdk import context
from squall.sdk.modes import Access

if TYPE_CHECKING:
    from squall.sdk.modes import Mode
    from squall.sdk.ports import Port
    from squall.wire.control import AppInfo, FunctionInfo
    from squall.wire.values import ClassSpec


class Resolved(NamedTuple):
    """`is_generator` is None where only the declaration knows; `class_` is known where it is not."""

    port: Port[Any]
    access: Access
    function_id: str
    is_generator: bool | None
    class_: ClassSpec | None = None


class Running(NamedTuple):
    """An app on the server, and its functions' ids by name."""

    app_id: str
    access: Access
    functions: dict[str, str]


class Handle(ABC):
    #: The app of this program that it belongs to, if any.
    app: Any = None

    @abstractmethod
    async def resolve(self, mode: Mode) -> Resolved:
        """Raises NotFoundError, ExecutionError (the app does not run)."""


class OfApp(Handle):
    """A function by its name in an app of this program, or in the app whose container this is."""

    def __init__(self, app: Any, name: str) -> None:
        self.app = app
        self._name = name

    async def resolve(self, mode: Mode) -> Resolved:
        running: Running | None = self.app.running
        if running is not None:
            found = running.functions.get(self._name)
            if found is None:
                raise NotFoundError(
                    f"{self._name} was declared after its app began to run: declare it at the top level"
                )
            return Resolved(await mode.port(running.access), running.access, found, None)
        if context.is_local():
            raise ExecutionError(
                f"{self._name} is not on the server: its app {self.app.name or ''} must run".rstrip()
                + " (`squall run`, `with app.run():`), or call a deployed one by Function.from_name()"
            )
        return await OfContainer(self._name).resolve(mode)

    def __reduce__(self) -> tuple[Any, ...]:
        """Elsewhere: in a container of the app."""
        return (OfContainer, (self._name,))


class OfContainer(Handle):
    """A function by its name in the app that this container works for."""

    _functions: dict[str, str] | None = None

    def __init__(self, name: str) -> None:
        self._name = name

    async def resolve(self, mode: Mode) -> Resolved:
        port = await mode.port(Access())
        if OfContainer._functions is None:
            from squall.wire.control import AppRef

            # The server knows the app by the container's identity.
            info: AppInfo = await port.request("app.get", AppRef(""))
            OfContainer._functions = info.functions
        found = OfContainer._functions.get(self._name)
        if found is None:
            raise NotFoundError(
                f"this container's app has no function {self._name}: call it by Function.from_name()"
            )
        return Resolved(port, Access(), found, None)


class Deployed(Handle):
    """A function by its name in a deployed app; asked for once."""

    def __init__(self, app: str, name: str, access: Access, version: int = 0) -> None:
        """Without a version, whichever is the newest when it is called."""
        self._app = app
        self._name = name
        self._access = access
        self._version = version
        self._info: FunctionInfo | None = None

    async def resolve(self, mode: Mode) -> Resolved:
        port = await mode.port(self._access)
        info = self._info
        if info is None:
            from squall.wire.control import FunctionLookup

            wanted = FunctionLookup(self._app, self._name, self._version)
            info = self._info = await port.request("function.lookup", wanted)
        return Resolved(port, self._access, info.id, info.is_generator, info.class_)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Deployed, (self._app, self._name, _portable(self._access), self._version))


class ById(Handle):
    """A function whose id came from elsewhere."""

    def __init__(self, function_id: str, access: Access) -> None:
        self._id = function_id
        self._access = access

    async def resolve(self, mode: Mode) -> Resolved:
        return Resolved(await mode.port(self._access), self._access, self._id, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ById, (self._id, _portable(self._access)))


def _portable(access: Access) -> Access:
    """Raises TypeError for a client of the user's own: a connection cannot go along."""
    if access.client is not None:
        raise TypeError("what was looked up with client= cannot be sent: look it up where you call it")
    return access
