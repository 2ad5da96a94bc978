"""The schema of the SQLite store, as migrations: number n takes a database from version n-1 to n."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE workspaces (name TEXT PRIMARY KEY, uid_index INTEGER NOT NULL UNIQUE);
    CREATE TABLE tokens (hash TEXT PRIMARY KEY, workspace TEXT NOT NULL REFERENCES workspaces, role TEXT NOT NULL);
    CREATE TABLE apps (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, environment TEXT NOT NULL, name TEXT NOT NULL,
        state TEXT NOT NULL, created REAL NOT NULL, version INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX apps_deployed ON apps (workspace, environment, name) WHERE state = 'deployed';
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
    CREATE TABLE inputs (
        call TEXT NOT NULL REFERENCES calls ON DELETE CASCADE, idx INTEGER NOT NULL, payload BLOB NOT NULL,
        attempt INTEGER NOT NULL, PRIMARY KEY (call, idx)
    ) WITHOUT ROWID;
    CREATE TABLE outputs (
        call TEXT NOT NULL REFERENCES calls ON DELETE CASCADE, idx INTEGER NOT NULL, payload BLOB NOT NULL,
        created REAL NOT NULL, PRIMARY KEY (call, idx)
    ) WITHOUT ROWID;
    CREATE INDEX outputs_created ON outputs (created);
    """,
)
