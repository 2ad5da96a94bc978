"""Apps: made, published, deployed in versions, stopped."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING

from squall.server.config import check_spec, recipe_manifests
from squall.server.names import Refusal, check_app, check_blob, check_tags, new_id
from squall.store.base import AppRecord, FunctionRecord
from squall.wire import codec
from squall.wire.control import AppPublish, AppVersion
from squall.wire.hashing import recipe_id
from squall.wire.values import FunctionSpec, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from squall.server.catalog import Catalog
    from squall.server.clock import Clock
    from squall.server.model import App, Function
    from squall.server.secrets import Secrets
    from squall.server.session import Session
    from squall.server.tasks import Tasks
    from squall.store.base import Blobs, Store
    from squall.wire.control import AppRollback

#: States of an app's record in which it is alive.
LIVE = ("ephemeral", "detached", "deployed")
#: Functions of one app.
MAX_FUNCTIONS = 1_000
#: Characters of a version's label.
MAX_TAG = 255
STRATEGIES = ("rolling", "recreate")


def owner_tag(stem: str) -> str:
    """What the id of an ephemeral app tells of its session: a server that restarted finds the owner by it."""
    return hashlib.sha256(stem.encode()).hexdigest()[:16]


class Apps:
    """Changes to apps. They are few: one at a time, so that versions and names never race."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        catalog: Catalog,
        clock: Clock,
        tasks: Tasks,
        secrets: Secrets,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._catalog = catalog
        self._clock = clock
        self._tasks = tasks
        self._secrets = secrets
        self._changing = asyncio.Lock()
        #: Moves the calls of a function to its newest version, and ends its containers.
        self.replace_function: Callable[[Function], None] = lambda _function: None

    # -------------------------------------------------------------------------------------------- creation

    async def create(
        self, session: Session, name: str, *, detach: bool, tags: dict[str, str] | None = None
    ) -> App:
        """An ephemeral app that ends with its session; a detached one ends with its last call instead."""
        app_id = f"ap-{owner_tag(session.stem)}{token_hex(8)}"
        state = "detached" if detach else "ephemeral"
        record = replace(self._record(session, app_id, check_app(name), state), tags=check_tags(tags or {}))
        await self._store.put_app(record)
        app = await self._catalog.add_app(record, session.stem)
        if session.ended:
            await self.stop(app)
        return app

    async def lookup(self, session: Session, name: str, *, create: bool) -> App:
        """The deployed app of that name."""
        async with self._changing:
            app = self._catalog.deployed(session, check_app(name))
            if app is not None:
                return app
            if not create:
                raise Refusal(
                    "not_found",
                    f"no app {name!r} is deployed in environment {session.environment}: deploy it first",
                )
            return await self._new_deployed(session, name)

    async def _new_deployed(self, session: Session, name: str) -> App:
        record = self._record(session, new_id("ap"), name, "deployed")
        await self._store.put_app(record)
        return await self._catalog.add_app(record)

    def _record(self, session: Session, app_id: str, name: str, state: str) -> AppRecord:
        return AppRecord(app_id, session.workspace, session.environment, name, state, self._clock.wall())

    # -------------------------------------------------------------------------------------------- publish

    async def publish(self, session: Session, body: AppPublish) -> App:
        """A new version of an app's functions, all of them. Calls that run go on with theirs."""
        await self._check(session, body)
        async with self._changing:
            app = await self._target(session, body)
            version = app.record.version + 1
            tags = check_tags(body.tags) or app.record.tags
            record = replace(app.record, version=version, tags=tags, tag=body.tag[:MAX_TAG])
            rows = [self._row(record, spec, body) for spec in body.functions]
            await self._secrets.use(app.id, [ref for spec in body.functions for ref in spec.secrets])
            await self._store.publish(record, rows, self._clock.wall())
            if app.stopped:
                await self._secrets.release(app.id)
                raise Refusal("not_found", f"app {record.name} was stopped meanwhile")
            variants = [variant for variant in app.variants.values() if not variant.pinned]
            old = [*app.functions.values(), *variants]
            app.record = record
            functions = self._catalog.add_functions(app, rows)
            app.functions = {f.name: f for f in functions}
        for function in old:
            if body.strategy == "recreate":
                await self._recreate(function)
            self._catalog.retire(function)
        await self._catalog.forget_old_variants(app)
        await self.keep_warm(functions)
        return app

    async def history(self, app: App) -> list[AppVersion]:
        """What was published of it, the newest first."""
        return [
            AppVersion(v.version, v.created, v.tag, [f.name for f in await self._published(app, v.version)])
            for v in await self._store.versions(app.id)
        ]

    async def rollback(self, session: Session, body: AppRollback) -> App:
        """Publish an earlier version's functions once more. The app keeps its tags."""
        app = self._catalog.app(session, body.app)
        if app.record.state != "deployed":
            raise Refusal(
                "invalid", f"app {app.record.name} is not deployed: only deployed apps have versions"
            )
        version = body.version or app.record.version - 1
        known = {v.version: v for v in await self._store.versions(app.id)}
        rows = await self._published(app, version) if version in known else []
        if not rows or version == app.record.version:
            raise Refusal(
                "not_found",
                f"app {app.record.name} has no earlier version {version}: see `squall app history`",
            )
        specs = [codec.unpack(row.spec, FunctionSpec) for row in rows]
        recipes = {
            spec.image: codec.unpack(row.recipe, Recipe) for row, spec in zip(rows, specs, strict=True)
        }
        tag = known[version].tag
        return await self.publish(
            session, AppPublish(app.id, specs, recipes, deploy=True, tag=tag, strategy=body.strategy)
        )

    async def _published(self, app: App, version: int) -> list[FunctionRecord]:
        return [row for row in await self._store.functions(app.id, version) if not row.parent]

    async def _target(self, session: Session, body: AppPublish) -> App:
        if not body.deploy:
            app = self._catalog.app(session, body.app)
            if app.record.state != "deployed" and app.owner != session.stem:
                raise Refusal("not_found", f"no app {body.app[:80]!r} of this session")
            return app
        known = self._catalog.apps.get(body.app)
        name = self._catalog.app(session, body.app).record.name if known else check_app(body.app)
        return self._catalog.deployed(session, name) or await self._new_deployed(session, name)

    def _row(self, app: AppRecord, spec: FunctionSpec, body: AppPublish) -> FunctionRecord:
        recipe = body.recipes[spec.image]
        return FunctionRecord(
            new_id("fu"),
            app.id,
            app.workspace,
            app.environment,
            spec.name,
            app.version,
            codec.pack(spec),
            codec.pack(recipe),
            blob=spec.serialized.blob if spec.serialized is not None else "",
        )

    async def _check(self, session: Session, body: AppPublish) -> None:
        if body.strategy not in STRATEGIES:
            raise Refusal("invalid", f"no strategy {body.strategy[:40]!r}: give rolling or recreate")
        if len(body.functions) > MAX_FUNCTIONS:
            raise Refusal(
                "invalid", f"an app of {len(body.functions)} functions: {MAX_FUNCTIONS} at most, split it"
            )
        if len({spec.name for spec in body.functions}) != len(body.functions):
            raise Refusal("invalid", "two functions of one app have the same name: rename one")
        for image, recipe in body.recipes.items():
            if recipe_id(recipe) != image:
                raise Refusal("invalid", f"the recipe of image {image[:40]} is another one")
        for spec in body.functions:
            check_spec(spec)
            if spec.parameters is not None:
                raise Refusal("invalid", f"function {spec.name}: only variants have values of parameters")
            if spec.image not in body.recipes:
                raise Refusal("invalid", f"function {spec.name}: the recipe of its image is missing")
            await self._check_content(session, spec)
        wanted = {m.manifest for s in body.functions for m in s.mounts}
        for recipe in body.recipes.values():
            wanted |= recipe_manifests(recipe)
        await self._catalog.manifests(session.workspace, wanted)

    async def _check_content(self, session: Session, spec: FunctionSpec) -> None:
        await self._secrets.check(session.workspace, spec.name, spec.secrets)
        payload = spec.serialized
        if payload is None or not payload.blob:
            return
        if not await self._blobs.has(session.workspace, check_blob(payload.blob)):
            raise Refusal(
                "not_found", f"function {spec.name}: its serialized code is not here: upload it first"
            )

    async def _recreate(self, function: Function) -> None:
        if function.registered:
            new = function.app.functions.get(function.name)
            if new is not None:
                await self._catalog.prepare(new)
            self.replace_function(function)

    async def set_tags(self, app: App, tags: dict[str, str]) -> None:
        async with self._changing:
            app.record = replace(app.record, tags=check_tags(tags))
            await self._store.put_app(app.record)

    async def keep_warm(self, functions: Iterable[Function]) -> None:
        """Functions with `min_containers` start without waiting for a call."""
        for function in functions:
            if function.autoscaler.min_containers and not function.retired:
                await self._catalog.prepare(function)

    # ------------------------------------------------------------------------------------------------ ends

    async def stop(self, app: App) -> None:
        """Its containers end, its unfinished inputs are cancelled, its name is free."""
        if app.stopped:
            return
        app.stopped = True
        self._catalog.apps.pop(app.id, None)
        for function in [f for f in self._catalog.functions.values() if f.app is app]:
            self._catalog.remove(function)
        app.record = replace(app.record, state="stopped")
        app.functions, app.variants = {}, {}  # who remembers the app, for its last output, needs none
        await self._store.put_app(app.record)
        await self._secrets.release(app.id)

    def session_ended(self, session: Session) -> None:
        """Its ephemeral apps stop; detached ones go on until their last call has ended."""
        for app in [a for a in self._catalog.apps.values() if a.owner == session.stem]:
            app.owner = ""
            if app.record.state == "detached":
                app.winding_down = True
                self.call_ended(app)
            else:
                self._tasks.spawn(self.stop(app))

    def call_ended(self, app: App) -> None:
        if app.winding_down and app.calls == 0:
            self._tasks.spawn(self.stop(app))

    # ------------------------------------------------------------------------------------- after a restart

    def claim(self, session: Session) -> None:
        """A session of the server's earlier life is back: its apps are its own again."""
        prefix = f"ap-{owner_tag(session.stem)}"
        for app in self._catalog.apps.values():
            mine = app.record.workspace == session.workspace and app.id.startswith(prefix)
            if mine and not app.owner and app.record.state != "deployed":
                app.owner, app.winding_down = session.stem, False

    def stop_orphans(self) -> None:
        """Ephemeral apps whose client did not come back after the server's restart."""
        for app in [a for a in self._catalog.apps.values() if not a.owner]:
            if app.record.state == "detached":
                app.winding_down = True
                self.call_ended(app)
            elif app.record.state == "ephemeral":
                self._tasks.spawn(self.stop(app))
