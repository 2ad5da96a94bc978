"""Doubles of the store and of blobs: the same answers from dictionaries, and nothing survives."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from squall.store.base import (
    AppRecord,
    BlobKey,
    Blobs,
    CallRecord,
    FunctionRecord,
    Identity,
    InputRecord,
    NotFound,
    OutputRecord,
    SecretRecord,
    Store,
    StoreError,
    Upload,
    VersionRecord,
    Workspace,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence


_K = TypeVar("_K")
_V = TypeVar("_V")


class MemoryStore(Store):
    def __init__(self) -> None:
        self._workspaces: dict[str, Workspace] = {}
        self._tokens: dict[str, Identity] = {}
        self._nodes: set[str] = set()
        self._apps: dict[str, AppRecord] = {}
        self._functions: dict[str, FunctionRecord] = {}
        self._versions: dict[tuple[str, int], VersionRecord] = {}
        self._manifests: dict[tuple[str, str], bytes] = {}
        self._sources: set[BlobKey] = set()
        self._secrets: dict[str, SecretRecord] = {}
        self._secret_uses: set[tuple[str, str]] = set()
        self._calls: dict[str, CallRecord] = {}
        self._inputs: dict[str, dict[int, InputRecord]] = {}
        self._outputs: dict[str, dict[int, OutputRecord]] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close; what was stored can be read on."""

    # ------------------------------------------------------------------------------- workspaces and tokens

    async def create_workspace(self, name: str) -> Workspace:
        return self._workspaces.setdefault(name, Workspace(name, len(self._workspaces)))

    async def workspace(self, name: str) -> Workspace:
        return _found(self._workspaces, name, f"no workspace {name!r}")

    async def add_token(self, token_hash: str, identity: Identity) -> None:
        if identity.workspace not in self._workspaces:
            raise StoreError(f"the record was refused: there is no workspace {identity.workspace!r}")
        self._tokens[token_hash] = identity

    async def identify(self, token_hash: str) -> Identity:
        return _found(self._tokens, token_hash, "no such token")

    # ----------------------------------------------------------------------------------------------- nodes

    async def add_node(self, node: str) -> None:
        self._nodes.add(node)

    async def remove_node(self, node: str) -> None:
        self._nodes.discard(node)

    async def nodes(self) -> list[str]:
        return sorted(self._nodes)

    # ---------------------------------------------------------------------------------- apps and functions

    async def put_app(self, app: AppRecord) -> None:
        self._check_app(app)
        known = self._apps.get(app.id, app)
        self._apps[app.id] = replace(app, workspace=known.workspace, environment=known.environment)

    def _check_app(self, app: AppRecord) -> None:
        key = (app.workspace, app.environment, app.name)
        for other in self._apps.values():
            same = key == (other.workspace, other.environment, other.name) and other.id != app.id
            if same and app.state == other.state == "deployed":
                raise StoreError(f"the record was refused: an app {app.name!r} is deployed already")

    async def app(self, app_id: str) -> AppRecord:
        return _found(self._apps, app_id, f"no app {app_id}")

    async def app_by_name(self, workspace: str, environment: str, name: str) -> AppRecord:
        for app in self._apps.values():
            key = (app.workspace, app.environment, app.name)
            if app.state == "deployed" and key == (workspace, environment, name):
                return app
        raise NotFound(f"no deployed app {name!r}")

    async def apps(self, workspace: str | None = None, states: Sequence[str] = ()) -> list[AppRecord]:
        found = [
            app
            for app in self._apps.values()
            if workspace in (None, app.workspace) and (not states or app.state in states)
        ]
        return sorted(found, key=lambda app: (-app.created, app.id))

    async def publish(self, app: AppRecord, functions: Sequence[FunctionRecord], created: float) -> None:
        strangers = [f.id for f in functions if f.app != app.id and f.app not in self._apps]
        if strangers:
            raise StoreError(f"the record was refused: there is no app of function {strangers[0]}")
        await self.put_app(app)
        self._functions.update({f.id: f for f in functions})
        self._versions[app.id, app.version] = VersionRecord(app.id, app.version, created, app.tag)

    async def versions(self, app_id: str) -> list[VersionRecord]:
        return sorted((v for v in self._versions.values() if v.app == app_id), key=lambda v: -v.version)

    async def function(self, function_id: str) -> FunctionRecord:
        return _found(self._functions, function_id, f"no function {function_id}")

    async def functions(self, app_id: str, version: int | None = None) -> list[FunctionRecord]:
        of_app = [f for f in self._functions.values() if f.app == app_id]
        newest = max((f.version for f in of_app), default=0) if version is None else version
        return sorted((f for f in of_app if f.version == newest), key=lambda f: (f.name, f.id))

    async def put_function(self, function: FunctionRecord) -> None:
        if function.app not in self._apps:
            raise StoreError(f"the record was refused: there is no app of function {function.id}")
        self._functions[function.id] = function

    async def remove_functions(self, function_ids: Sequence[str]) -> None:
        for function_id in function_ids:
            self._functions.pop(function_id, None)

    # --------------------------------------------------------------------------------------------- secrets

    async def put_secret(self, secret: SecretRecord) -> None:
        key = (secret.workspace, secret.environment, secret.name)
        for other in self._secrets.values():
            same = secret.name and key == (other.workspace, other.environment, other.name)
            if same and other.id != secret.id:
                raise StoreError(f"the record was refused: there is a secret {secret.name!r} already")
        self._secrets[secret.id] = secret

    async def secret(self, workspace: str, secret_id: str) -> SecretRecord:
        found = self._secrets.get(secret_id)
        if found is None or found.workspace != workspace:
            raise NotFound(f"no secret {secret_id}")
        return found

    async def secrets(self, workspace: str, environment: str) -> list[SecretRecord]:
        place = (workspace, environment)
        found = [s for s in self._secrets.values() if s.name and (s.workspace, s.environment) == place]
        return sorted(found, key=lambda secret: secret.name)

    async def all_secrets(self) -> list[SecretRecord]:
        return sorted(self._secrets.values(), key=lambda secret: secret.id)

    async def remove_secret(self, secret_id: str) -> None:
        self._secrets.pop(secret_id, None)

    async def use_secrets(self, app: str, secret_ids: Sequence[str]) -> None:
        self._secret_uses |= {(secret_id, app) for secret_id in secret_ids if secret_id in self._secrets}

    async def release_secrets(self, app: str, before: float) -> None:
        self._secret_uses = {use for use in self._secret_uses if use[1] != app}
        used = {secret_id for secret_id, _ in self._secret_uses}
        kept = (s for s in self._secrets.values() if s.name or s.updated >= before or s.id in used)
        self._secrets = {secret.id: secret for secret in kept}

    # ------------------------------------------------------------------------------------------- manifests

    async def put_manifest(
        self, workspace: str, manifest_id: str, data: bytes, blobs: Collection[str] = ()
    ) -> None:
        self._manifests.setdefault((workspace, manifest_id), data)
        self._sources |= {(workspace, blob) for blob in blobs}

    async def manifest(self, workspace: str, manifest_id: str) -> bytes:
        return _found(self._manifests, (workspace, manifest_id), f"no manifest {manifest_id}")

    # --------------------------------------------------------------------------------------- durable calls

    async def add_inputs(self, call: CallRecord, inputs: Sequence[InputRecord]) -> None:
        known = self._calls.get(call.id, call)
        if (known.workspace, known.environment) != (call.workspace, call.environment):
            raise NotFound(f"no call {call.id}")
        strangers = {i.call for i in inputs} - {call.id, *self._calls}
        if strangers:
            raise StoreError(f"the record was refused: there is no call {strangers.pop()}")
        self._calls[call.id] = replace(known, complete=known.complete or call.complete)
        for record in inputs:
            self._inputs.setdefault(record.call, {}).setdefault(record.index, record)

    async def add_calls(self, calls: Sequence[tuple[CallRecord, Sequence[InputRecord]]]) -> set[str]:
        taken = {call.id for call, _ in calls if call.id in self._calls}
        for call, inputs in calls:
            if call.id not in taken:
                await self.add_inputs(call, inputs)
        return taken

    async def set_attempts(self, attempts: Sequence[tuple[str, int, int]]) -> None:
        for call_id, index, attempt in attempts:
            inputs = self._inputs.get(call_id, {})
            if index in inputs:
                inputs[index] = replace(inputs[index], attempt=attempt)

    async def add_outputs(self, outputs: Sequence[OutputRecord], *, lazy: bool = False) -> None:  # noqa: ARG002
        for record in outputs:
            if record.index in self._inputs.get(record.call, {}):
                self._outputs.setdefault(record.call, {}).setdefault(record.index, record)

    async def cancel_call(self, call_id: str) -> None:
        if call_id in self._calls:
            self._calls[call_id] = replace(self._calls[call_id], cancelled=True)

    async def call(self, call_id: str) -> CallRecord:
        return _found(self._calls, call_id, f"no call {call_id}")

    async def calls_of(self, app_id: str, function: str, limit: int) -> list[CallRecord]:
        ids = {f.id for f in self._functions.values() if (f.app, f.name) == (app_id, function)}
        mine = [call for call in self._calls.values() if call.function in ids]
        return sorted(mine, key=lambda call: (-call.created, call.id))[:limit]

    async def children(self, call_id: str) -> list[CallRecord]:
        mine = [call for call in self._calls.values() if call.parent.rpartition(":")[0] == call_id]
        return sorted(mine, key=lambda call: (call.created, call.id))

    async def call_outputs(
        self, call_id: str, start: int = 0, end: int | None = None, limit: int | None = None
    ) -> list[OutputRecord]:
        found = sorted(self._outputs.get(call_id, {}).items())
        return [o for index, o in found if start <= index and (end is None or index < end)][:limit]

    async def call_size(self, call_id: str) -> tuple[int, int]:
        return len(self._inputs.get(call_id, {})), len(self._outputs.get(call_id, {}))

    async def unfinished(self) -> list[tuple[CallRecord, list[InputRecord]]]:
        calls = sorted(self._calls.values(), key=lambda call: (call.created, call.id))
        waiting = [(call, self._waiting(call.id)) for call in calls]
        return [(call, inputs) for call, inputs in waiting if inputs]

    def _waiting(self, call_id: str) -> list[InputRecord]:
        done = self._outputs.get(call_id, {})
        return [i for index, i in sorted(self._inputs.get(call_id, {}).items()) if index not in done]

    async def expire(self, before: float, forget: float) -> int:
        old = [call.id for call in self._calls.values() if self._is_over(call, before)]
        for call_id in old:
            self._calls[call_id] = replace(self._calls[call_id], expired=True)
            self._inputs.pop(call_id, None)
            self._outputs.pop(call_id, None)
        self._calls = {i: c for i, c in self._calls.items() if not c.expired or c.created >= forget}
        gone = {a.id for a in self._apps.values() if a.state == "stopped" and a.created < forget}
        self._apps = {i: a for i, a in self._apps.items() if i not in gone}
        self._functions = {i: f for i, f in self._functions.items() if f.app not in gone}
        self._versions = {i: v for i, v in self._versions.items() if v.app not in gone}
        return len(old)

    async def named_blobs(self) -> set[BlobKey]:
        rows = [(row.call, row.blob) for call in self._calls for row in self._waiting(call)]
        rows += [(row.call, row.blob) for found in self._outputs.values() for row in found.values()]
        named = {(self._calls[call].workspace, blob) for call, blob in rows if blob}
        code = {(f.workspace, f.blob) for f in self._functions.values() if f.blob}
        return named | code | self._sources

    def _is_over(self, call: CallRecord, before: float) -> bool:
        if call.expired:
            return False
        newest = max((o.created for o in self._outputs.get(call.id, {}).values()), default=call.created)
        return call.complete and not self._waiting(call.id) and max(newest, call.created) < before


class MemoryBlobs(Blobs):
    def __init__(self) -> None:
        self._blobs: dict[tuple[str, str], bytes] = {}

    async def has(self, workspace: str, blob: str) -> bool:
        return (workspace, blob) in self._blobs

    async def begin(self, workspace: str, blob: str) -> Upload:
        return _MemoryUpload(self._blobs, (workspace, blob))

    async def read(self, workspace: str, blob: str, chunk: int) -> AsyncIterator[bytes]:
        data = _found(self._blobs, (workspace, blob), f"no blob {blob}")
        for start in range(0, len(data), chunk):
            yield data[start : start + chunk]

    async def size(self, workspace: str, blob: str) -> int:
        return len(_found(self._blobs, (workspace, blob), f"no blob {blob}"))

    async def all(self) -> list[BlobKey]:
        return list(self._blobs)

    async def remove(self, blobs: Sequence[BlobKey]) -> int:
        return sum(self._blobs.pop(key, None) is not None for key in blobs)


class _MemoryUpload(Upload):
    def __init__(self, blobs: dict[tuple[str, str], bytes], key: tuple[str, str]) -> None:
        self._blobs = blobs
        self._key = key
        self._pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)

    async def finish(self) -> None:
        data = b"".join(self._pieces)
        if hashlib.sha256(data).hexdigest() != self._key[1]:
            raise ValueError(f"blob {self._key[1][:12]}: the content is not what its id says")
        self._blobs[self._key] = data

    async def abort(self) -> None:
        self._pieces.clear()


def _found(table: dict[_K, _V], key: _K, missing: str) -> _V:
    try:
        return table[key]
    except KeyError:
        raise NotFound(missing) from None
