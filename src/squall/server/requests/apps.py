"""app.*"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from squall.server.requests.registry import handles
from squall.wire.control import AppHistory, AppInfo, AppList, AppPublished, AppTags, Empty

if TYPE_CHECKING:
    from squall.server.model import App
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import AppCreate, AppLookup, AppPublish, AppRef, AppRollback


@handles("app.create")
async def create(services: Services, session: Session, body: AppCreate) -> AppInfo:
    app = await services.apps.create(session, body.name, detach=body.detach, tags=body.tags)
    services.logs.follow(session, app)
    return _info(services, app)


@handles("app.publish")
async def publish(services: Services, session: Session, body: AppPublish) -> AppPublished:
    app = await services.apps.publish(session, body)
    return AppPublished(app.id, {name: f.id for name, f in app.functions.items()}, app.record.version)


@handles("app.stop")
async def stop(services: Services, session: Session, body: AppRef) -> Empty:
    app = services.catalog.app(session, body.app)
    await services.apps.stop(app)
    await services.nodes.last_words(app)
    services.logs.app_stopped(app.id)
    return Empty()


@handles("app.get")
async def get(services: Services, session: Session, body: AppRef) -> AppInfo:
    own = None if body.app else services.nodes.containers.get(session.container)
    return _info(services, own.function.app if own else services.catalog.app(session, body.app))


@handles("app.lookup")
async def lookup(services: Services, session: Session, body: AppLookup) -> AppInfo:
    return _info(services, await services.apps.lookup(session, body.name, create=body.create_if_missing))


@handles("app.list")
async def list_apps(services: Services, session: Session, _body: Empty) -> AppList:
    apps = sorted(services.catalog.visible(session), key=lambda app: app.record.created, reverse=True)
    return AppList([_info(services, app) for app in apps])


@handles("app.history")
async def history(services: Services, session: Session, body: AppRef) -> AppHistory:
    app = services.catalog.deployed(session, body.app) or services.catalog.app(session, body.app)
    return AppHistory(await services.apps.history(app))


@handles("app.rollback")
async def rollback(services: Services, session: Session, body: AppRollback) -> AppPublished:
    app = services.catalog.deployed(session, body.app) or services.catalog.app(session, body.app)
    app = await services.apps.rollback(session, replace(body, app=app.id))
    return AppPublished(app.id, {name: f.id for name, f in app.functions.items()}, app.record.version)


@handles("app.tags")
async def tags(services: Services, session: Session, body: AppTags) -> AppTags:
    app = services.catalog.app(session, body.app)
    if body.tags is not None:
        await services.apps.set_tags(app, body.tags)
    return AppTags(app.id, app.record.tags)


def _info(services: Services, app: App) -> AppInfo:
    containers = sum(1 for c in services.nodes.containers.values() if c.function.app is app)
    record = app.record
    functions = {name: function.id for name, function in app.functions.items()}
    return AppInfo(
        app.id,
        record.name,
        record.state,
        record.created,
        record.version,
        containers,
        functions,
        record.tags,
        record.tag,
    )
