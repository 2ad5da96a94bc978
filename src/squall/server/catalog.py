"""Apps and functions that are alive, and their way from the store to the scheduler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from squall.scheduling.model import FunctionAdded, FunctionRemoved
from squall.server.config import recipe_manifests, scheduler_config
from squall.server.model import App, Function
from squall.server.names import Refusal
from squall.store.base import NotFound
from squall.wire import codec
from squall.wire.values import FunctionSpec, Manifest, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from squall.server.dispatch import Dispatcher
    from squall.server.session import Session
    from squall.store.base import AppRecord, FunctionRecord, Store

#: Workspaces get host uids from here on, each UID_RANGE of them.
UID_FIRST = 1_000_000
UID_RANGE = 65_536


class Catalog:
    """All apps that are not stopped, and the functions of theirs that anybody has used or published."""

    def __init__(self, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self._preparing: dict[str, asyncio.Lock] = {}

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
        function = _current(function)
        return function if function.registered else None

    async def find(self, session: Session, function_id: str) -> Function:
        """The function that a new call of this id runs, ready to run. Raises Refusal."""
        function = await self.load(function_id)
        if function is None or not _reaches(session, function.app):
            raise Refusal("not_found", "no such function: its app was stopped, or never was here")
        function = _current(function)
        await self.prepare(function)
        return function

    async def load(self, function_id: str) -> Function | None:
        """A function of a live app, of whichever version; None when there is no such."""
        if function_id not in self.functions:
            try:
                record = await self._store.function(function_id)
            except NotFound:
                return None
            if function_id not in self.functions and record.app in self.apps:
                self.add_functions(self.apps[record.app], [record])
        return self.functions.get(function_id)

    def add_functions(self, app: App, records: Iterable[FunctionRecord]) -> list[Function]:
        """Functions as the store has them; those of an older version than the app's are retired."""
        added: list[Function] = []
        for record in records:
            spec, recipe = codec.unpack(record.spec, FunctionSpec), codec.unpack(record.recipe, Recipe)
            function = Function(record.id, app, record.name, record.version, spec, recipe)
            function.retired = record.version < app.record.version
            self.functions[record.id] = function
            added.append(function)
        return added

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
        if function.registered:
            function.registered = False
            self._dispatcher.feed(FunctionRemoved(function.id))


def _reaches(session: Session, app: App) -> bool:
    record = app.record
    return record.workspace == session.workspace and record.environment == session.environment


def _current(function: Function) -> Function:
    """A newer version of a function takes the calls of an older one."""
    if not function.retired:
        return function
    current = function.app.functions.get(function.name)
    if current is None:
        app = function.app.record
        raise Refusal("not_found", f"app {app.name} has no function {function.name} in version {app.version}")
    return current
