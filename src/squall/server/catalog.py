"""Apps and functions that are alive, and their way from the store to the scheduler."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from squall.scheduling.model import FunctionAdded, FunctionRemoved
from squall.server import variants
from squall.server.config import check_scale, check_spec, recipe_manifests, scheduler_config
from squall.server.model import PINNED, App, Function
from squall.server.names import Refusal
from squall.store.base import FunctionRecord, NotFound
from squall.wire import codec
from squall.wire.control import FunctionVariant
from squall.wire.values import AutoscalerSettings, FunctionSpec, Manifest, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from squall.server.clock import Clock
    from squall.server.dispatch import Dispatcher
    from squall.server.secrets import Secrets
    from squall.server.session import Session
    from squall.store.base import AppRecord, Store
    from squall.wire.control import FunctionAutoscaler

#: Workspaces get host uids from here on, each UID_RANGE of them.
UID_FIRST = 1_000_000
UID_RANGE = 65_536
#: Variants of one app, and the seconds for which one without calls and containers is kept after each request
#: for it (`wire.control.FunctionVariant` promises them).
MAX_VARIANTS = 2_000
VARIANT_KEPT = 300.0


class Catalog:
    """All apps that are not stopped, and the functions of theirs that anybody has used or published."""

    def __init__(self, store: Store, dispatcher: Dispatcher, clock: Clock, secrets: Secrets) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._secrets = secrets
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self._preparing: dict[str, asyncio.Lock] = {}
        self._rescaling = asyncio.Lock()

    # ------------------------------------------------------------------------------------------------ apps

    async def uid_base(self, workspace: str) -> int:
        return UID_FIRST + UID_RANGE * (await self._store.workspace(workspace)).uid_index

    async def add_app(self, record: AppRecord, owner: str = "") -> App:
        app = App(record, await self.uid_base(record.workspace), owner)
        self.apps[app.id] = app
        return app

    def app(self, session: Session, ref: str) -> App:
        """An app of the session's workspace and environment, by id or by its deployed name."""
        app = self.apps.get(ref) or self.deployed(session, ref)
        if app is None or not _reaches(session, app):
            raise Refusal("not_found", f"no app {ref[:80]!r} in environment {session.environment}")
        return app

    def deployed(self, session: Session, name: str) -> App | None:
        for app in self.visible(session):
            if app.record.name == name and app.record.state == "deployed":
                return app
        return None

    def visible(self, session: Session) -> Iterator[App]:
        return (app for app in self.apps.values() if _reaches(session, app))

    # ------------------------------------------------------------------------------------------- functions

    def ready(self, session: Session, function_id: str) -> Function | None:
        """The function that a new call of this id runs, if it needs no loading."""
        function = self.functions.get(function_id)
        if function is None or not _reaches(session, function.app):
            return None
        if function.retired:
            if function.request is not None:
                return None
            function = _successor(function)
        return function if function.registered else None

    async def find(self, session: Session, function_id: str) -> Function:
        """The function that a new call of this id runs, ready to run. Raises Refusal."""
        function = await self.current(session, function_id)
        await self.prepare(function)
        return function

    async def current(self, session: Session, function_id: str) -> Function:
        """A newer version of a function takes the calls of an older one, variants as variants."""
        function = await self.load(function_id)
        if function is None or not _reaches(session, function.app):
            raise Refusal("not_found", "no such function: its app was stopped, or never was here")
        if not function.retired:
            return function
        successor = _successor(function)
        return successor if function.request is None else await self.variant(successor, function.request)

    async def load(self, function_id: str) -> Function | None:
        """A function of a live app, of whichever version; None when there is no such.

        A retired one stays for those who call it by its old id: `ready` finds its successor by it.
        """
        if function_id not in self.functions:
            try:
                record = await self._store.function(function_id.removesuffix(PINNED))
            except NotFound:
                return None
            record = replace(record, id=function_id)
            if record.parent and await self.load(record.parent) is None:
                return None
            if function_id not in self.functions and record.app in self.apps:
                self.add_functions(self.apps[record.app], [record])
        return self.functions.get(function_id)

    async def pinned(self, app: App, name: str, version: int) -> Function:
        """A function as it was in a version, with containers of its own. Raises Refusal."""
        for record in await self._store.functions(app.id, version):
            found = None if record.name != name or record.parent else await self.load(record.id + PINNED)
            if found is not None:
                return found
        raise Refusal(
            "not_found",
            f"app {app.record.name} has no function {name[:80]!r} in version {version}: `squall app history "
            f"{app.record.name}` lists what it had",
        )

    def add_functions(self, app: App, records: Iterable[FunctionRecord]) -> list[Function]:
        """Functions as the store has them; those of an older version than the app's are retired."""
        return [self._add(app, record) for record in sorted(records, key=lambda r: bool(r.parent))]

    def _add(self, app: App, record: FunctionRecord) -> Function:
        """Of a variant, the parent is here."""
        request = codec.unpack(record.variant, FunctionVariant) if record.parent else None
        if request is None:
            spec, recipe = codec.unpack(record.spec, FunctionSpec), codec.unpack(record.recipe, Recipe)
        else:
            parent = self.functions[record.parent]
            spec, recipe = variants.derived(parent.spec, request), parent.recipe
        scale = codec.unpack(record.autoscaler, AutoscalerSettings) if record.autoscaler else spec.autoscaler
        function = Function(record.id, app, record.name, record.version, spec, recipe, scale, request)
        function.retired = record.version < app.record.version and not function.pinned
        self.functions[function.id] = function
        if request is not None:
            function.asked = self._clock.now()
            app.variants[function.id] = function
        return function

    # -------------------------------------------------------------------------------------------- variants

    async def variant(self, parent: Function, request: FunctionVariant) -> Function:
        """What answers a request; made and stored if it is new. Raises Refusal."""
        request = variants.checked(parent.spec, replace(request, function=parent.id))
        if variants.is_parent(parent.spec, request):
            return parent
        function = await self.load(variants.id_of(request))
        if function is None:
            function = await self._new_variant(parent, request)
        function.asked = self._clock.now()
        return function

    async def _new_variant(self, parent: Function, request: FunctionVariant) -> Function:
        derived = variants.derived(parent.spec, request)
        check_spec(derived)
        app = parent.app
        await self._secrets.check(app.record.workspace, parent.name, derived.secrets)
        await self._secrets.use(app.id, derived.secrets)
        await self._make_room(app)
        record = FunctionRecord(
            variants.id_of(request),
            app.id,
            app.record.workspace,
            app.record.environment,
            parent.name,
            parent.version,
            b"",
            b"",
            parent.id,
            codec.pack(request),
        )
        await self._store.put_function(record)
        if app.stopped:
            raise Refusal("not_found", f"app {app.record.name} was stopped meanwhile")
        return self.functions.get(record.id) or self._add(app, record)

    async def _make_room(self, app: App) -> None:
        """Variants that nobody has used for long are forgotten, where there are too many."""
        if len(app.variants) < MAX_VARIANTS:
            return
        before = self._clock.now() - VARIANT_KEPT
        idle = [v for v in app.variants.values() if not v.calls and not v.containers and v.asked < before]
        if not idle:
            raise Refusal(
                "exhausted",
                f"app {app.record.name} has {MAX_VARIANTS} parameter sets and options in use: pass what "
                "differs as arguments, or wait for some to end",
            )
        for variant in idle:
            self.remove(variant)
        await self._store.remove_functions([variant.id for variant in idle])

    async def forget_old_variants(self, app: App) -> None:
        """Those of the version before the last one: their ids have long been asked for again."""
        old = await self._store.functions(app.id, app.record.version - 2)
        gone = [r.id for r in old if r.parent and not r.parent.endswith(PINNED)]
        await self._store.remove_functions([each for each in gone if each not in self.functions])

    async def rescale(self, function: Function, change: FunctionAutoscaler) -> AutoscalerSettings:
        """Other limits for its containers, from now on and over restarts. Raises Refusal."""
        if function.pinned:
            raise Refusal(
                "invalid", f"{function.name} is pinned to version {function.version}: it scales as then"
            )
        async with self._rescaling:
            settings = variants.rescaled(function.autoscaler, change)
            if settings != function.autoscaler:
                check_scale(function.name, settings)
                record = await self._store.function(function.id)
                await self._store.put_function(replace(record, autoscaler=codec.pack(settings)))
                function.autoscaler = settings
                await self._rescaled(function)
            return settings

    async def _rescaled(self, function: Function) -> None:
        if function.registered:
            self._dispatcher.feed(FunctionAdded(scheduler_config(function)))
        elif function.autoscaler.min_containers:
            await self.prepare(function)

    async def prepare(self, function: Function) -> None:
        """Load what its containers need and tell the scheduler of it."""
        async with self._preparing.setdefault(function.id, asyncio.Lock()):
            if function.manifests is None:
                wanted = {m.manifest for m in function.spec.mounts} | recipe_manifests(function.recipe)
                function.manifests = await self.manifests(function.app.record.workspace, wanted)
        self._preparing.pop(function.id, None)
        if not function.registered and not function.app.stopped:
            function.registered = True
            self._dispatcher.feed(FunctionAdded(scheduler_config(function)))

    async def manifests(self, workspace: str, wanted: Iterable[str]) -> dict[str, Manifest]:
        """Raises Refusal for one that the workspace does not have."""
        found: dict[str, Manifest] = {}
        for manifest_id in wanted:
            try:
                data = await self._store.manifest(workspace, manifest_id)
            except NotFound:
                raise Refusal("not_found", f"manifest {manifest_id} is not here: upload it first") from None
            found[manifest_id] = codec.unpack(data, Manifest)
        return found

    def retire(self, function: Function) -> None:
        """A newer version is there: running inputs and the queue end, idle containers go."""
        function.retired = True
        if function.registered:
            self._dispatcher.feed(FunctionAdded(scheduler_config(function)))
        self.forget_retired(function)

    def forget_retired(self, function: Function) -> None:
        """Nobody calls a retired function any more: it is taken out once its last call has ended."""
        if function.retired and not function.calls:
            self.remove(function)

    def remove(self, function: Function) -> None:
        """Its inputs are cancelled and its containers end."""
        self.functions.pop(function.id, None)
        function.app.variants.pop(function.id, None)
        if function.registered:
            function.registered = False
            self._dispatcher.feed(FunctionRemoved(function.id))


def _reaches(session: Session, app: App) -> bool:
    record = app.record
    return record.workspace == session.workspace and record.environment == session.environment


def _successor(function: Function) -> Function:
    """Of a retired one: the newest version's, which is no variant."""
    current = function.app.functions.get(function.name)
    if current is None:
        app = function.app.record
        raise Refusal("not_found", f"app {app.name} has no function {function.name} in version {app.version}")
    return current
