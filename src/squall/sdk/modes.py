"""How a flow was called, blocking or on asyncio, and so which client it uses.

Clients are made on first use and shared: one blocking client a process and environment, one asyncio client
a running loop and environment.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from squall.exception import InvalidError

# What the client is made of loads with the first call: this module loads in every container.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator

    from squall.client.api import AsyncClient, Client
    from squall.sdk.ports import Port


class Access(NamedTuple):
    """Which server a thing is on: a client of the user's own, or the default one of an environment."""

    client: Client | AsyncClient | None = None
    environment: str = ""


class Mode(ABC):
    @abstractmethod
    async def port(self, access: Access) -> Port[Any]:
        """The way to the server. Raises exception.ConnectionError, AuthError, VersionError."""


class _Blocking(Mode):
    async def port(self, access: Access) -> Port[Any]:
        from squall.client.api import AsyncClient
        from squall.sdk.ports import BlockingPort

        if isinstance(access.client, AsyncClient):
            raise InvalidError(
                "client= is an asyncio client: call the method's .aio, or give a blocking client"
            )
        return BlockingPort(access.client or _shared(access.environment))


class _Asyncio(Mode):
    async def port(self, access: Access) -> Port[Any]:
        from squall.client.api import Client
        from squall.sdk.ports import AsyncioPort

        if isinstance(access.client, Client):
            raise InvalidError(
                "client= is a blocking client: call the method without .aio, or give an asyncio client"
            )
        return AsyncioPort(access.client or await _shared_async(access.environment))


BLOCKING: Mode = _Blocking()
ASYNCIO: Mode = _Asyncio()

_lock = threading.Lock()
_clients: dict[str, Client] = {}
#: For each loop and environment a generator that holds the client: the loop closes it when it ends itself
#: (`shutdown_asyncgens`), and with it the client.
_holders: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop,
    dict[str, asyncio.Future[tuple[AsyncGenerator[AsyncClient, None], AsyncClient]]],
] = weakref.WeakKeyDictionary()


def _shared(environment: str) -> Client:
    with _lock:
        if environment not in _clients:
            from squall.client.connect import connect

            _clients[environment] = connect(environment=environment)
        return _clients[environment]


async def _shared_async(environment: str) -> AsyncClient:
    import asyncio

    opened = _holders.setdefault(asyncio.get_running_loop(), {})
    task = opened.get(environment)
    if task is None or (task.done() and (task.cancelled() or task.exception())):
        task = opened[environment] = asyncio.ensure_future(_held(environment))
    _, client = await asyncio.shield(task)
    return client


async def _held(environment: str) -> tuple[AsyncGenerator[AsyncClient, None], AsyncClient]:
    holder = _hold(environment)
    return holder, await holder.__anext__()


async def _hold(environment: str) -> AsyncGenerator[AsyncClient, None]:
    from squall.client.connect import connect_async

    client = await connect_async(environment=environment)
    try:
        yield client
    finally:
        await client.close()
