"""From the name of a method to its handler, and from a Request to its Response or Failure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from squall.server.names import Refusal
from squall.store.base import StoreError
from squall.wire import codec
from squall.wire.control import METHODS
from squall.wire.messages import Failure, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.messages import Request

    Handler = Callable[[Services, Session, Any], Awaitable[Any]]

log = logging.getLogger("squall.server")

H = TypeVar("H", bound="Handler")

HANDLERS: dict[str, Handler] = {}


def handles(method: str) -> Callable[[H], H]:
    """Registers the handler of a control method."""

    def register(handler: H) -> H:
        HANDLERS[method] = handler
        return handler

    return register


async def answer(services: Services, session: Session, request: Request) -> Response | Failure:
    """Whatever happens, the peer gets an answer of one line at most."""
    try:
        handler = HANDLERS.get(request.method)
        if handler is None:
            raise Refusal("invalid", f"no method {request.method[:40]!r}")
        body: Any = codec.unpack(request.body, METHODS[request.method][0])
        return Response(request.id, codec.pack(await handler(services, session, body)))
    except Refusal as refusal:
        return Failure(request.id, refusal.code, refusal.message)
    except codec.ProtocolError as error:
        return Failure(request.id, "invalid", str(error))
    except StoreError as error:
        return Failure(request.id, "unavailable", str(error))
    except Exception:
        log.exception("method %s failed", request.method)
        return Failure(request.id, "internal", f"{request.method} failed in the server: its log says why")
