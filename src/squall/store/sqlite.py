"""The store on SQLite: WAL, `synchronous=FULL`, writes by group commit, reads on the caller's loop.

Reads are single indexed look-ups of a local file, some microseconds each: a thread hop would cost more.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squall.store.base import (
    AppRecord,
    CallRecord,
    FunctionRecord,
    Identity,
    InputRecord,
    NotFound,
    OutputRecord,
    Store,
    StoreError,
    Workspace,
)
from squall.store.filesystem import refuse_network_file_system
from squall.store.schema import MIGRATIONS
from squall.store.writer import Writer, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_APP = "id, workspace, environment, name, state, created, version"
_FUNCTION = "id, app, workspace, environment, name, version, spec, recipe"
_CALL = "id, workspace, environment, function, kind, created, parent, complete, cancelled"


class SqliteStore(Store):
    """Records in one file (mode 0600) of a local directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None

    async def open(self) -> None:
        refuse_network_file_system(self._path.parent)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            connection = _connect(self._path)
            _migrate(connection, self._path)
            self._reader = _connect(self._path)
        except sqlite3.Error as error:
            raise StoreError(explain(error)) from None
        except OSError as error:
            raise StoreError(f"cannot use {self._path}: {error.strerror}; set SQUALL_STATE to another directory") from None
        self._writer = Writer(connection)

    async def close(self) -> None:
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
        if self._reader is not None:
            self._reader.close()

    # ------------------------------------------------------------------------------------------- the paths

    async def _write(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        if self._writer is None:
            raise StoreError("the store is not open")
        return await asyncio.wrap_future(self._writer.submit(work))

    def _rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        if self._reader is None:
            raise StoreError("the store is not open")
        try:
            return self._reader.execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise StoreError(explain(error)) from None

    def _row(self, what: str, sql: str, *args: object) -> tuple[Any, ...]:
        rows = self._rows(sql, *args)
        if not rows:
            raise NotFound(what)
        return rows[0]

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

        result: Workspace = await self._write(work)
        return result

    async def workspace(self, name: str) -> Workspace:
        return Workspace(*self._row(name, "SELECT name, uid_index FROM workspaces WHERE name = ?", name))

    async def add_token(self, token_hash: str, identity: Identity) -> None:
        row = (token_hash, identity.workspace, identity.role)
        await self._write(lambda db: db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", row))

    async def identify(self, token_hash: str) -> Identity:
        return Identity(*self._row("token", "SELECT workspace, role FROM tokens WHERE hash = ?", token_hash))

    # -------------------------------------------------------------------------------------------- apps

    async def put_app(self, app: AppRecord) -> None:
        await self._write(lambda db: _put_app(db, app))

    async def app(self, app_id: str) -> AppRecord:
        return AppRecord(*self._row(app_id, f"SELECT {_APP} FROM apps WHERE id = ?", app_id))

    async def app_by_name(self, workspace: str, environment: str, name: str) -> AppRecord:
        sql = f"SELECT {_APP} FROM apps WHERE workspace = ? AND environment = ? AND name = ? AND state = 'deployed'"
        return AppRecord(*self._row(name, sql, workspace, environment, name))

    async def apps(self, workspace: str | None = None, states: Sequence[str] = ()) -> list[AppRecord]:
        rows = self._rows(f"SELECT {_APP} FROM apps WHERE ? IS NULL OR workspace = ? ORDER BY created DESC, id", workspace, workspace)
        return [app for app in (AppRecord(*row) for row in rows) if not states or app.state in states]

    async def publish(self, app: AppRecord, functions: Sequence[FunctionRecord]) -> None:
        def work(db: sqlite3.Connection) -> None:
            _put_app(db, app)
            rows = [(f.id, f.app, f.workspace, f.environment, f.name, f.version, f.spec, f.recipe) for f in functions]
            db.executemany("INSERT OR REPLACE INTO functions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

        await self._write(work)

    async def function(self, function_id: str) -> FunctionRecord:
        sql = f"SELECT {_FUNCTION} FROM functions WHERE id = ?"
        return FunctionRecord(*self._row(function_id, sql, function_id))

    async def functions(self, app_id: str, version: int | None = None) -> list[FunctionRecord]:
        sql = (
            f"SELECT {_FUNCTION} FROM functions WHERE app = ? AND version ="
            " coalesce(?, (SELECT max(version) FROM functions WHERE app = ?)) ORDER BY name"
        )
        return [FunctionRecord(*row) for row in self._rows(sql, app_id, version, app_id)]

    # --------------------------------------------------------------------------------------- manifests

    async def put_manifest(self, workspace: str, manifest_id: str, data: bytes) -> None:
        row = (workspace, manifest_id, data)
        await self._write(lambda db: db.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?, ?)", row))

    async def manifest(self, workspace: str, manifest_id: str) -> bytes:
        sql = "SELECT data FROM manifests WHERE workspace = ? AND id = ?"
        data: bytes = self._row(manifest_id, sql, workspace, manifest_id)[0]
        return data

    # ----------------------------------------------------------------------------------- durable calls

    async def add_inputs(self, call: CallRecord, inputs: Sequence[InputRecord]) -> None:
        c = call
        row = (c.id, c.workspace, c.environment, c.function, c.kind, c.created, c.parent, c.complete, c.cancelled)

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET complete = max(complete, excluded.complete)",
                row,
            )
            rows = [(i.call, i.index, i.payload, i.attempt) for i in inputs]
            db.executemany("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?)", rows)

        await self._write(work)

    async def set_attempts(self, attempts: Sequence[tuple[str, int, int]]) -> None:
        rows = [(attempt, call, index) for call, index, attempt in attempts]
        sql = "UPDATE inputs SET attempt = ? WHERE call = ? AND idx = ?"
        await self._write(lambda db: db.executemany(sql, rows))

    async def add_outputs(self, outputs: Sequence[OutputRecord]) -> None:
        rows = [(o.call, o.index, o.payload, o.created) for o in outputs]
        await self._write(lambda db: db.executemany("INSERT OR IGNORE INTO outputs VALUES (?, ?, ?, ?)", rows))

    async def cancel_call(self, call_id: str) -> None:
        await self._write(lambda db: db.execute("UPDATE calls SET cancelled = 1 WHERE id = ?", (call_id,)))

    async def call(self, call_id: str) -> CallRecord:
        return _call(self._row(call_id, f"SELECT {_CALL} FROM calls WHERE id = ?", call_id))

    async def call_outputs(self, call_id: str, start: int = 0) -> list[OutputRecord]:
        sql = "SELECT call, idx, payload, created FROM outputs WHERE call = ? AND idx >= ? ORDER BY idx"
        return [OutputRecord(*row) for row in self._rows(sql, call_id, start)]

    async def call_size(self, call_id: str) -> tuple[int, int]:
        sql = "SELECT (SELECT count(*) FROM inputs WHERE call = ?), (SELECT count(*) FROM outputs WHERE call = ?)"
        inputs, outputs = self._rows(sql, call_id, call_id)[0]
        return inputs, outputs

    async def unfinished(self) -> list[tuple[CallRecord, list[InputRecord]]]:
        sql = (
            "SELECT i.call, i.idx, i.payload, i.attempt FROM inputs i LEFT JOIN outputs o"
            " ON o.call = i.call AND o.idx = i.idx WHERE o.call IS NULL ORDER BY i.call, i.idx"
        )
        waiting: dict[str, list[InputRecord]] = {}
        for row in self._rows(sql):
            waiting.setdefault(row[0], []).append(InputRecord(*row))
        calls = [await self.call(call_id) for call_id in waiting]
        return [(call, waiting[call.id]) for call in sorted(calls, key=lambda c: c.created) if not call.cancelled]

    async def expire(self, before: float) -> int:
        old = (
            "SELECT call FROM outputs GROUP BY call HAVING max(created) < ? AND count(*) ="
            " (SELECT count(*) FROM inputs WHERE inputs.call = outputs.call)"
        )
        count: int = await self._write(lambda db: db.execute(f"DELETE FROM calls WHERE id IN ({old})", (before,)).rowcount)
        return count


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer Squall (schema {version}, this one knows {len(MIGRATIONS)}): upgrade Squall"
        )
    for number in range(version, len(MIGRATIONS)):
        script = f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
        connection.executescript(script)


def _put_app(db: sqlite3.Connection, app: AppRecord) -> None:
    row = (app.id, app.workspace, app.environment, app.name, app.state, app.created, app.version)
    db.execute(
        "INSERT INTO apps VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " name = excluded.name, state = excluded.state, version = excluded.version",
        row,
    )


def _call(row: tuple[Any, ...]) -> CallRecord:
    return CallRecord(*row[:7], complete=bool(row[7]), cancelled=bool(row[8]))
