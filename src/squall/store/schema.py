"""The schema of the SQLite store, as migrations: number n takes a database from version n-1 to n.

A migration that was released is never changed: the next change is the next migration.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from squall.store.base import StoreError

if TYPE_CHECKING:
    import sqlite3

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE workspaces (name TEXT PRIMARY KEY, uid_index INTEGER NOT NULL UNIQUE);
    CREATE TABLE tokens (
        hash TEXT PRIMARY KEY, workspace TEXT NOT NULL REFERENCES workspaces, role TEXT NOT NULL
    );
    CREATE TABLE apps (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, environment TEXT NOT NULL, name TEXT NOT NULL,
        state TEXT NOT NULL, created REAL NOT NULL, version INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX apps_deployed ON apps (workspace, environment, name) WHERE state = 'deployed';
    CREATE INDEX apps_state ON apps (state);
    CREATE TABLE functions (
        id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps, workspace TEXT NOT NULL,
        environment TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, spec BLOB NOT NULL,
        recipe BLOB NOT NULL
    );
    CREATE INDEX functions_app ON functions (app, version);
    CREATE TABLE manifests (
        workspace TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (workspace, id)
    );
    CREATE TABLE calls (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, environment TEXT NOT NULL, function TEXT NOT NULL,
        kind TEXT NOT NULL, created REAL NOT NULL, parent TEXT NOT NULL, complete INTEGER NOT NULL,
        cancelled INTEGER NOT NULL
    );
    CREATE INDEX calls_created ON calls (created);
    -- `done`: there is an output; the payload is empty then, nobody needs it any more.
    CREATE TABLE inputs (
        call TEXT NOT NULL REFERENCES calls ON DELETE CASCADE, number INTEGER NOT NULL,
        payload BLOB NOT NULL, attempt INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (call, number)
    );
    CREATE INDEX inputs_waiting ON inputs (call) WHERE NOT done;
    CREATE TABLE outputs (
        call TEXT NOT NULL, number INTEGER NOT NULL, payload BLOB NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (call, number),
        FOREIGN KEY (call, number) REFERENCES inputs (call, number) ON DELETE CASCADE
    );
    """,
    """
    -- `expired`: what the call had is gone, and who asks for it shall hear that and not "no such call".
    ALTER TABLE calls ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX calls_parent ON calls (parent) WHERE parent != '';
    """,
    """
    -- JSON: a dictionary of texts.
    ALTER TABLE apps ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE apps ADD COLUMN tag TEXT NOT NULL DEFAULT '';
    """,
    """
    ALTER TABLE functions ADD COLUMN parent TEXT NOT NULL DEFAULT '';
    ALTER TABLE functions ADD COLUMN variant BLOB NOT NULL DEFAULT x'';
    ALTER TABLE functions ADD COLUMN autoscaler BLOB NOT NULL DEFAULT x'';
    """,
    "CREATE TABLE nodes (id TEXT PRIMARY KEY);",
    """
    CREATE TABLE versions (
        app TEXT NOT NULL REFERENCES apps, version INTEGER NOT NULL, created REAL NOT NULL, tag TEXT NOT NULL,
        PRIMARY KEY (app, version)
    );
    INSERT INTO versions SELECT DISTINCT app, version, 0, '' FROM functions;
    CREATE INDEX calls_function ON calls (function, created);
    """,
    """
    -- `keys`: JSON, a list of texts. `sealed`: see server/vault.py; the key is not in this database.
    CREATE TABLE secrets (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, environment TEXT NOT NULL, name TEXT NOT NULL,
        version INTEGER NOT NULL, keys TEXT NOT NULL, sealed BLOB NOT NULL, created REAL NOT NULL,
        updated REAL NOT NULL
    );
    CREATE UNIQUE INDEX secrets_name ON secrets (workspace, environment, name) WHERE name != '';
    CREATE TABLE secret_uses (
        secret TEXT NOT NULL REFERENCES secrets ON DELETE CASCADE, app TEXT NOT NULL,
        PRIMARY KEY (secret, app)
    );
    CREATE INDEX secret_uses_app ON secret_uses (app);
    """,
    """
    -- `blob`: what the row's payload, or the function's code, is in; a blob that no row names is deleted.
    -- `kept_blobs`: files of manifests, and all that older rows may name, which had no such column.
    ALTER TABLE inputs ADD COLUMN blob TEXT NOT NULL DEFAULT '';
    ALTER TABLE outputs ADD COLUMN blob TEXT NOT NULL DEFAULT '';
    ALTER TABLE functions ADD COLUMN blob TEXT NOT NULL DEFAULT '';
    CREATE INDEX inputs_blob ON inputs (call, blob) WHERE blob != '';
    CREATE INDEX outputs_blob ON outputs (call, blob) WHERE blob != '';
    CREATE INDEX functions_blob ON functions (workspace, blob) WHERE blob != '';
    CREATE TABLE kept_blobs (
        workspace TEXT NOT NULL, blob TEXT NOT NULL, PRIMARY KEY (workspace, blob)
    ) WITHOUT ROWID;
    INSERT OR IGNORE INTO kept_blobs SELECT workspace, value FROM manifests, json_each(hashes(data));
    INSERT OR IGNORE INTO kept_blobs SELECT workspace, value FROM functions, json_each(hashes(spec));
    INSERT OR IGNORE INTO kept_blobs
        SELECT workspace, value FROM inputs JOIN calls ON calls.id = call, json_each(hashes(payload));
    INSERT OR IGNORE INTO kept_blobs
        SELECT workspace, value FROM outputs JOIN calls ON calls.id = call, json_each(hashes(payload));
    """,
)


def migrate(connection: sqlite3.Connection, path: str, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring a database up to date, each step in one transaction. Raises StoreError if it is not ours."""
    connection.create_function("hashes", 1, _hashes, deterministic=True)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise StoreError(
            f"{path} was written by a newer Squall (schema {version}, this one knows {len(migrations)}): "
            "upgrade Squall, or set SQUALL_STATE to another directory"
        )
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise StoreError(f"{path} is not a database of Squall's: set SQUALL_STATE to another directory")
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _hashes(data: bytes) -> str:
    """All that may be the id of a blob, as JSON: for rows of which nothing else is known."""
    return json.dumps([text.decode() for text in set(re.findall(rb"(?=([0-9a-f]{64}))", data))])
