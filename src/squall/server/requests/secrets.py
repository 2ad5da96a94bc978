"""secret.*: values come in, and never go out this way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.names import Refusal
from squall.server.requests.registry import handles
from squall.wire.control import Empty
from squall.wire.secrets import Count, SecretInfo, SecretList

if TYPE_CHECKING:
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.secrets import SecretDelete, SecretGet, SecretPut


@handles("secret.put")
async def put(services: Services, session: Session, body: SecretPut) -> SecretInfo:
    return await services.secrets.put(session, body)


@handles("secret.get")
async def get(services: Services, session: Session, body: SecretGet) -> SecretInfo:
    return await services.secrets.get(session, body.name, body.required)


@handles("secret.list")
async def list_secrets(services: Services, session: Session, _body: Empty) -> SecretList:
    return SecretList(await services.secrets.listed(session))


@handles("secret.delete")
async def delete(services: Services, session: Session, body: SecretDelete) -> Empty:
    await services.secrets.delete(session, body.name)
    return Empty()


@handles("secret.rotate")
async def rotate(services: Services, session: Session, _body: Empty) -> Count:
    if not session.admin:
        raise Refusal("auth", "only on the server's own machine, without SQUALL_SERVER_URL, can that be done")
    return Count(await services.secrets.rotate())
