"""The store on SQLite: WAL, `synchronous=FULL`, writes by group commit, reads on threads of their own."""
# ruff: noqa: S608 - the names of columns are ours, values go as parameters

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any, cast

from squall.store.base import (
    AppRecord,
    BlobKey,
    CallRecord,
    FunctionRecord,
    Identity,
    InputRecord,
    NotFound,
    OutputRecord,
    SecretRecord,
    Store,
    StoreError,
    VersionRecord,
    Workspace,
)
from squall.store.database import open_database
from squall.store.errors import store_error
from squall.store.reader import Reader, Rows
from squall.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_APP = "id, workspace, environment, name, state, created, version, tags, tag"
_FUNCTION = "id, app, workspace, environment, name, version, spec, recipe, parent, variant, autoscaler, blob"
_SEALED = "id, workspace, environment, name, version, keys, sealed, created, updated"
_CALL = "id, workspace, environment, function, kind, created, parent, complete, cancelled, expired"

_ADD_CALL = f"INSERT INTO calls ({_CALL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id)"
_ADD_INPUT = (
    "INSERT INTO inputs (call, number, payload, attempt, blob) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

#: Calls that one transaction of `expire` forgets: others' writes go in between.
_EXPIRE_STEP = 200


class SqliteStore(Store):
    """Records in one file, mode 0600, with its log beside it.

    `network_file_system` allows a disk on which synced data may be lost; SQLite's own warnings apply.
    """

    def __init__(self, path: str | os.PathLike[str], *, network_file_system: bool = False) -> None:
        self._path = os.fspath(path)
        self._network = network_file_system
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    async def open(self) -> None:
        try:
            connection = await asyncio.to_thread(open_database, self._path, network=self._network)
        except (OSError, sqlite3.Error) as error:
            raise store_error(error, self._path) from None
        self._writer = Writer(connection, self._path)
        self._reader = Reader(self._path)

    async def close(self) -> None:
        if self._reader is not None:
            await asyncio.to_thread(self._reader.close)
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)

    # ------------------------------------------------------------------------------- workspaces and tokens

    async def create_workspace(self, name: str) -> Workspace:
        def work(db: sqlite3.Connection) -> Workspace:
            db.execute(
                "INSERT INTO workspaces SELECT ?, coalesce(max(uid_index) + 1, 0) FROM workspaces WHERE true"
                " ON CONFLICT (name) DO NOTHING",
                (name,),
            )
            row = db.execute("SELECT name, uid_index FROM workspaces WHERE name = ?", (name,)).fetchone()
            return Workspace(*row)

        return cast("Workspace", await self._write(work))

    async def workspace(self, name: str) -> Workspace:
        row = await self._row(
            f"no workspace {name!r}", "SELECT name, uid_index FROM workspaces WHERE name = ?", name
        )
        return Workspace(*row)

    async def add_token(self, token_hash: str, identity: Identity) -> None:
        row = (token_hash, identity.workspace, identity.role)
        await self._write(lambda db: db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", row))

    async def identify(self, token_hash: str) -> Identity:
        row = await self._row(
            "no such token", "SELECT workspace, role FROM tokens WHERE hash = ?", token_hash
        )
        return Identity(*row)

    # ----------------------------------------------------------------------------------------------- nodes

    async def add_node(self, node: str) -> None:
        await self._write(lambda db: db.execute("INSERT OR IGNORE INTO nodes VALUES (?)", (node,)))

    async def remove_node(self, node: str) -> None:
        await self._write(lambda db: db.execute("DELETE FROM nodes WHERE id = ?", (node,)))

    async def nodes(self) -> list[str]:
        return [node for (node,) in await self._rows("SELECT id FROM nodes ORDER BY id")]

    # ---------------------------------------------------------------------------------- apps and functions

    async def put_app(self, app: AppRecord) -> None:
        await self._write(lambda db: _put_app(db, app))

    async def app(self, app_id: str) -> AppRecord:
        return _app(await self._row(f"no app {app_id}", f"SELECT {_APP} FROM apps WHERE id = ?", app_id))

    async def app_by_name(self, workspace: str, environment: str, name: str) -> AppRecord:
        where = "workspace = ? AND environment = ? AND name = ? AND state = 'deployed'"
        sql = f"SELECT {_APP} FROM apps WHERE {where}"
        return _app(await self._row(f"no deployed app {name!r}", sql, workspace, environment, name))

    async def apps(self, workspace: str | None = None, states: Sequence[str] = ()) -> list[AppRecord]:
        conditions, args = ["true"], list[str]()
        if workspace is not None:
            conditions.append("workspace = ?")
            args.append(workspace)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            args += states
        sql = f"SELECT {_APP} FROM apps WHERE {' AND '.join(conditions)} ORDER BY created DESC, id"
        return [_app(row) for row in await self._rows(sql, *args)]

    async def publish(self, app: AppRecord, functions: Sequence[FunctionRecord], created: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            _put_app(db, app)
            _put_functions(db, functions)
            row = (app.id, app.version, created, app.tag)
            db.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?)", row)

        await self._write(work)

    async def versions(self, app_id: str) -> list[VersionRecord]:
        sql = "SELECT app, version, created, tag FROM versions WHERE app = ? ORDER BY version DESC"
        return [VersionRecord(*row) for row in await self._rows(sql, app_id)]

    async def function(self, function_id: str) -> FunctionRecord:
        sql = f"SELECT {_FUNCTION} FROM functions WHERE id = ?"
        return FunctionRecord(*await self._row(f"no function {function_id}", sql, function_id))

    async def functions(self, app_id: str, version: int | None = None) -> list[FunctionRecord]:
        newest = "coalesce(?, (SELECT max(version) FROM functions WHERE app = ?))"
        sql = f"SELECT {_FUNCTION} FROM functions WHERE app = ? AND version = {newest} ORDER BY name, id"
        return [FunctionRecord(*row) for row in await self._rows(sql, app_id, version, app_id)]

    async def put_function(self, function: FunctionRecord) -> None:
        await self._write(lambda db: _put_functions(db, [function]))

    async def remove_functions(self, function_ids: Sequence[str]) -> None:
        rows = [(function_id,) for function_id in function_ids]
        await self._write(lambda db: db.executemany("DELETE FROM functions WHERE id = ?", rows))

    # --------------------------------------------------------------------------------------------- secrets

    async def put_secret(self, secret: SecretRecord) -> None:
        row = tuple(json.dumps(v) if isinstance(v, tuple) else v for v in astuple(secret))
        changed = ("version", "keys", "sealed", "updated")
        changes = ", ".join(f"{column} = excluded.{column}" for column in changed)
        marks = ", ".join("?" * len(row))
        sql = f"INSERT INTO secrets ({_SEALED}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}"
        await self._write(lambda db: db.execute(sql, row))

    async def secret(self, workspace: str, secret_id: str) -> SecretRecord:
        sql = f"SELECT {_SEALED} FROM secrets WHERE id = ? AND workspace = ?"
        return _secret(await self._row(f"no secret {secret_id}", sql, secret_id, workspace))

    async def secrets(self, workspace: str, environment: str) -> list[SecretRecord]:
        where = "workspace = ? AND environment = ? AND name != ''"
        sql = f"SELECT {_SEALED} FROM secrets WHERE {where} ORDER BY name"
        return [_secret(row) for row in await self._rows(sql, workspace, environment)]

    async def all_secrets(self) -> list[SecretRecord]:
        return [_secret(row) for row in await self._rows(f"SELECT {_SEALED} FROM secrets ORDER BY id")]

    async def remove_secret(self, secret_id: str) -> None:
        await self._write(lambda db: db.execute("DELETE FROM secrets WHERE id = ?", (secret_id,)))

    async def use_secrets(self, app: str, secret_ids: Sequence[str]) -> None:
        sql = "INSERT OR IGNORE INTO secret_uses SELECT id, ? FROM secrets WHERE id = ?"
        rows = [(app, secret_id) for secret_id in secret_ids]
        await self._write(lambda db: db.executemany(sql, rows))

    async def release_secrets(self, app: str, before: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM secret_uses WHERE app = ?", (app,))
            db.execute(
                "DELETE FROM secrets WHERE name = '' AND updated < ?"
                " AND NOT EXISTS (SELECT 1 FROM secret_uses WHERE secret = id)",
                (before,),
            )

        await self._write(work)

    # ------------------------------------------------------------------------------------------- manifests

    async def put_manifest(
        self, workspace: str, manifest_id: str, data: bytes, blobs: Collection[str] = ()
    ) -> None:
        def work(db: sqlite3.Connection) -> None:
            row = (workspace, manifest_id, data)
            db.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?, ?)", row)
            rows = [(workspace, blob) for blob in blobs]
            db.executemany("INSERT OR IGNORE INTO kept_blobs VALUES (?, ?)", rows)

        await self._write(work)

    async def manifest(self, workspace: str, manifest_id: str) -> bytes:
        sql = "SELECT data FROM manifests WHERE workspace = ? AND id = ?"
        (data,) = await self._row(f"no manifest {manifest_id}", sql, workspace, manifest_id)
        return cast("bytes", data)

    # --------------------------------------------------------------------------------------- durable calls

    async def add_inputs(self, call: CallRecord, inputs: Sequence[InputRecord]) -> None:
        rows = [_input_row(record) for record in inputs]

        def work(db: sqlite3.Connection) -> None:
            _put_call(db, call)
            db.executemany(_ADD_INPUT, rows)

        await self._write(work)

    async def add_calls(self, calls: Sequence[tuple[CallRecord, Sequence[InputRecord]]]) -> set[str]:
        rows = [(_call_row(call), [_input_row(i) for i in inputs]) for call, inputs in calls]
        return cast("set[str]", await self._write(lambda db: _add_calls(db, rows)))

    async def set_attempts(self, attempts: Sequence[tuple[str, int, int]]) -> None:
        rows = [(attempt, call, index) for call, index, attempt in attempts]
        sql = "UPDATE inputs SET attempt = ? WHERE call = ? AND number = ?"
        await self._write(lambda db: db.executemany(sql, rows))

    async def add_outputs(self, outputs: Sequence[OutputRecord], *, lazy: bool = False) -> None:
        rows = [(o.call, o.index, o.payload, o.created, o.blob) for o in outputs]
        await self._write(lambda db: _put_outputs(db, rows), lazy=lazy)

    async def cancel_call(self, call_id: str) -> None:
        await self._write(lambda db: db.execute("UPDATE calls SET cancelled = 1 WHERE id = ?", (call_id,)))

    async def call(self, call_id: str) -> CallRecord:
        return _call(
            await self._row(f"no call {call_id}", f"SELECT {_CALL} FROM calls WHERE id = ?", call_id)
        )

    async def calls_of(self, app_id: str, function: str, limit: int) -> list[CallRecord]:
        mine = "function IN (SELECT id FROM functions WHERE app = ? AND name = ?)"
        sql = f"SELECT {_CALL} FROM calls WHERE {mine} ORDER BY created DESC, id LIMIT ?"
        return [_call(row) for row in await self._rows(sql, app_id, function, limit)]

    async def children(self, call_id: str) -> list[CallRecord]:
        # The ids of its inputs are "<call>:<index>"; ";" comes after ":".
        where = "parent != '' AND parent >= ? AND parent < ?"
        sql = f"SELECT {_CALL} FROM calls WHERE {where} ORDER BY created, id"
        return [_call(row) for row in await self._rows(sql, f"{call_id}:", f"{call_id};")]

    async def call_outputs(
        self, call_id: str, start: int = 0, end: int | None = None, limit: int | None = None
    ) -> list[OutputRecord]:
        where = "call = ? AND number >= ? AND number < coalesce(?, 1 << 62)"
        order = "ORDER BY number LIMIT coalesce(?, -1)"
        sql = f"SELECT call, number, payload, created, blob FROM outputs WHERE {where} {order}"
        return [OutputRecord(*row) for row in await self._rows(sql, call_id, start, end, limit)]

    async def call_size(self, call_id: str) -> tuple[int, int]:
        sql = "SELECT count(*), coalesce(sum(done), 0) FROM inputs WHERE call = ?"
        ((inputs, outputs),) = await self._rows(sql, call_id)
        return inputs, outputs

    async def unfinished(self) -> list[tuple[CallRecord, list[InputRecord]]]:
        sql = (
            f"SELECT number, payload, attempt, blob, {_CALL} FROM inputs JOIN calls ON id = call"
            " WHERE NOT done ORDER BY created, call, number"
        )
        found: dict[str, tuple[CallRecord, list[InputRecord]]] = {}
        for number, payload, attempt, blob, *row in await self._rows(sql):
            _, inputs = found.setdefault(row[0], (_call(tuple(row)), []))
            inputs.append(InputRecord(row[0], number, payload, attempt, blob))
        return list(found.values())

    async def expire(self, before: float, forget: float) -> int:
        total = 0
        while count := cast("int", await self._write(lambda db: _expire(db, before))):
            total += count
        await self._write(lambda db: _forget(db, forget))
        return total

    async def named_blobs(self) -> set[BlobKey]:
        sql = (
            "SELECT workspace, blob FROM inputs JOIN calls ON id = call WHERE blob != ''"
            " UNION SELECT workspace, blob FROM outputs JOIN calls ON id = call WHERE blob != ''"
            " UNION SELECT workspace, blob FROM functions WHERE blob != ''"
            " UNION SELECT workspace, blob FROM kept_blobs"
        )
        return {(workspace, blob) for workspace, blob in await self._rows(sql)}

    # ------------------------------------------------------------------------------------------- the paths

    async def _write(self, work: Callable[[sqlite3.Connection], Any], *, lazy: bool = False) -> Any:
        if self._writer is None:
            raise StoreError("the store is not open")
        return await asyncio.wrap_future(self._writer.submit(work, lazy=lazy))

    async def _rows(self, sql: str, *args: object) -> Rows:
        if self._reader is None:
            raise StoreError("the store is not open")
        return await self._reader.rows(sql, args)

    async def _row(self, missing: str, sql: str, *args: object) -> tuple[Any, ...]:
        rows = await self._rows(sql, *args)
        if not rows:
            raise NotFound(missing)
        return rows[0]


def _put_app(db: sqlite3.Connection, app: AppRecord) -> None:
    row = (*astuple(replace(app, tags={}))[:-2], json.dumps(app.tags), app.tag)
    changed = ("name", "state", "created", "version", "tags", "tag")
    changes = ", ".join(f"{column} = excluded.{column}" for column in changed)
    marks = ", ".join("?" * len(row))
    db.execute(
        f"INSERT INTO apps ({_APP}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}",
        row,
    )


def _app(row: tuple[Any, ...]) -> AppRecord:
    *plain, tags, tag = row
    return replace(AppRecord(*plain), tags=json.loads(tags), tag=tag)


def _secret(row: tuple[Any, ...]) -> SecretRecord:
    secret_id, workspace, environment, name, version, keys, *rest = row
    return SecretRecord(secret_id, workspace, environment, name, version, tuple(json.loads(keys)), *rest)


def _put_functions(db: sqlite3.Connection, functions: Sequence[FunctionRecord]) -> None:
    marks = ", ".join("?" * len(_FUNCTION.split(",")))
    db.executemany(
        f"INSERT OR REPLACE INTO functions ({_FUNCTION}) VALUES ({marks})", [astuple(f) for f in functions]
    )


def _call_row(c: CallRecord) -> tuple[Any, ...]:
    return c.id, c.workspace, c.environment, c.function, c.kind, c.created, c.parent, c.complete, c.cancelled


def _input_row(record: InputRecord) -> tuple[Any, ...]:
    return record.call, record.index, record.payload, record.attempt, record.blob


def _add_calls(db: sqlite3.Connection, rows: Sequence[tuple[tuple[Any, ...], list[Any]]]) -> set[str]:
    ids = json.dumps([call[0] for call, _ in rows])
    known = db.execute("SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(?))", (ids,))
    taken = {call_id for (call_id,) in known}
    new = [(call, inputs) for call, inputs in rows if call[0] not in taken]
    db.executemany(f"{_ADD_CALL} DO NOTHING", [call for call, _ in new])
    db.executemany(_ADD_INPUT, [row for _, inputs in new for row in inputs])
    return taken


def _put_call(db: sqlite3.Connection, call: CallRecord) -> None:
    cursor = db.execute(
        f"{_ADD_CALL} DO UPDATE SET complete = max(complete, excluded.complete)"
        " WHERE workspace = excluded.workspace AND environment = excluded.environment",
        _call_row(call),
    )
    if cursor.rowcount == 0:  # somebody else's: clients choose the ids of calls
        raise NotFound(f"no call {call.id}")


def _put_outputs(db: sqlite3.Connection, rows: list[tuple[str, int, bytes, float, str]]) -> None:
    """The first one of an input stays; of an input that was forgotten meanwhile there is nothing to keep."""
    for row in rows:
        done = db.execute(
            "UPDATE inputs SET done = 1, payload = x'', blob = '' WHERE call = ? AND number = ? AND NOT done",
            row[:2],
        )
        if done.rowcount:
            db.execute("INSERT INTO outputs VALUES (?, ?, ?, ?, ?)", row)


def _expire(db: sqlite3.Connection, before: float) -> int:
    old = (
        "SELECT id FROM calls WHERE created < ? AND complete AND NOT expired"
        " AND NOT EXISTS (SELECT 1 FROM inputs WHERE call = id AND NOT done)"
        " AND NOT EXISTS (SELECT 1 FROM outputs WHERE call = id AND outputs.created >= ?) LIMIT ?"
    )
    ids = db.execute(old, (before, before, _EXPIRE_STEP)).fetchall()
    db.executemany("DELETE FROM inputs WHERE call = ?", ids)  # their outputs go with them
    db.executemany("UPDATE calls SET expired = 1 WHERE id = ?", ids)
    return len(ids)


def _forget(db: sqlite3.Connection, made_before: float) -> None:
    db.execute("DELETE FROM calls WHERE expired AND created < ?", (made_before,))
    apps = db.execute(
        "SELECT id FROM apps WHERE state = 'stopped' AND created < ?", (made_before,)
    ).fetchall()
    db.executemany("DELETE FROM functions WHERE app = ?", apps)
    db.executemany("DELETE FROM versions WHERE app = ?", apps)
    db.executemany("DELETE FROM apps WHERE id = ?", apps)


def _call(row: tuple[Any, ...]) -> CallRecord:
    return CallRecord(*row[:-3], *map(bool, row[-3:]))
