"""workspace.* and token.*: only on the embedded socket, whose peer the kernel vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server import auth
from squall.server.names import Refusal, check_workspace
from squall.server.requests.registry import handles
from squall.store.base import Identity, NotFound
from squall.wire.control import TokenCreated

if TYPE_CHECKING:
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import TokenNew, WorkspaceCreate


@handles("workspace.create")
async def create_workspace(services: Services, session: Session, body: WorkspaceCreate) -> TokenCreated:
    _only_admin(session)
    name = check_workspace(body.name)
    if await _exists(services, name):
        more = f"`squall token new --workspace {name}` makes another token for it"
        raise Refusal("exists", f"there is a workspace {name!r} already: {more}")
    await services.store.create_workspace(name)
    return await _token(services, Identity(body.name, "client"))


@handles("token.new")
async def new_token(services: Services, session: Session, body: TokenNew) -> TokenCreated:
    _only_admin(session)
    if body.role not in auth.ROLES:
        raise Refusal("invalid", f"no role {body.role[:40]!r}: use 'client' or 'node'")
    if not await _exists(services, check_workspace(body.workspace)):
        create = f"make it with `squall workspace create {body.workspace}`"
        raise Refusal("not_found", f"no workspace {body.workspace!r}: {create}")
    return await _token(services, Identity(body.workspace, body.role))


async def _exists(services: Services, workspace: str) -> bool:
    try:
        await services.store.workspace(workspace)
    except NotFound:
        return False
    return True


async def _token(services: Services, identity: Identity) -> TokenCreated:
    token = auth.new_token()
    await services.store.add_token(auth.token_hash(token), identity)
    return TokenCreated(identity.workspace, token)


def _only_admin(session: Session) -> None:
    if not session.admin:
        raise Refusal("auth", "only on the server's own machine, without SQUALL_SERVER_URL, can that be done")
