"""Backups come back whole, or say why not and change nothing."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from squall.client import embedded
from squall.daemon.backup import backup, restore
from squall.exception import ConflictError, InvalidError
from squall.store.base import CallRecord, InputRecord, OutputRecord
from squall.store.disk import DiskBlobs
from squall.store.sqlite import SqliteStore

BLOB = "ab" * 32


async def _fill(state: Path) -> None:
    store = SqliteStore(state / "server" / "db.sqlite")
    await store.open()
    await store.create_workspace("team")
    call = CallRecord("fc-1", "team", "main", "fu-1", "unary", 1.0, "", complete=True, cancelled=False)
    await store.add_inputs(call, [InputRecord("fc-1", 0, b"x")])
    await store.add_outputs([OutputRecord("fc-1", 0, b"a result", 2.0)])
    await store.close()


async def _result(state: Path) -> bytes:
    store = SqliteStore(state / "server" / "db.sqlite")
    await store.open()
    (row,) = await store.call_outputs("fc-1")
    await store.close()
    return row.payload


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """What a server has written: a result, a blob, and its socket."""
    state = tmp_path / "state"
    blobs = state / "server" / "blobs" / "team"
    blobs.mkdir(parents=True)
    (blobs / BLOB).write_bytes(b"large")
    asyncio.run(_fill(state))
    os.mkfifo(state / "server" / "server.sock")
    return state


@pytest.fixture
def made(state: Path, tmp_path: Path) -> Path:
    target = tmp_path / "backup.tar"
    assert backup(str(state), str(target)) == target.stat().st_size
    return target


def test_there_and_back(made: Path, tmp_path: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    restore(str(other), str(made))
    assert asyncio.run(_result(other)) == b"a result"
    assert (other / "server" / "blobs" / "team" / BLOB).read_bytes() == b"large"
    assert sorted(os.listdir(other)) == ["daemon.lock", "server"]
    assert not (other / "server" / "server.sock").exists()


def test_while_somebody_writes(state: Path, tmp_path: Path) -> None:
    """A transaction that is not committed is not in it, and holds nobody up."""
    with closing(sqlite3.connect(state / "server" / "db.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM outputs")
        backup(str(state), str(tmp_path / "backup.tar"))
        writer.execute("ROLLBACK")
    restore(str(tmp_path / "other"), str(tmp_path / "backup.tar"))
    assert asyncio.run(_result(tmp_path / "other")) == b"a result"


def test_nothing_is_overwritten(state: Path, made: Path) -> None:
    with pytest.raises(ConflictError, match="exists already"):
        backup(str(state), str(made))
    with pytest.raises(ConflictError, match="has a state already"):
        restore(str(state), str(made))
    assert asyncio.run(_result(state)) == b"a result"


def test_not_beside_a_daemon(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    lock = embedded.lock(str(tmp_path / "other"))
    assert lock is not None
    with pytest.raises(ConflictError, match="squall daemon stop"):
        restore(str(tmp_path / "other"), str(made))
    os.close(lock)


def test_no_state_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="no database"):
        backup(str(tmp_path), str(tmp_path / "backup.tar"))
    assert os.listdir(tmp_path) == []


def rewritten(made: Path, **changes: bytes | None) -> Path:
    """The backup with other contents of some members (None: without it), by their last names."""
    target = made.with_name("changed.tar")
    with tarfile.open(made) as old, tarfile.open(target, "w") as new:
        for entry in old:
            file = old.extractfile(entry)
            assert file is not None
            content = changes.get(Path(entry.name).stem.replace("-", "_"), file.read())
            if content is not None:
                entry.size = len(content)
                new.addfile(entry, io.BytesIO(content))
    return target


def newer(made: Path) -> bytes:
    path = made.with_name("newer.sqlite")
    with tarfile.open(made) as tar:
        database_file = tar.extractfile("server/db.sqlite")
        assert database_file is not None
        path.write_bytes(database_file.read())
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 999")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda made: rewritten(made, db=newer(made)), "written by a newer Squall"),
        (lambda made: rewritten(made, db=b"garbage" * 1000), "damaged"),
        (lambda made: rewritten(made, squall_backup=json.dumps({"format": 2}).encode()), "newer Squall"),
        (lambda made: rewritten(made, squall_backup=None), "no backup"),
        (lambda made: rewritten(made, squall_backup=b"[]"), "damaged"),
        (lambda _made: Path(__file__), "no backup"),
    ],
)
def test_what_cannot_be_used_is_refused(made: Path, tmp_path: Path, spoil: object, told: str) -> None:
    assert callable(spoil)
    with pytest.raises(InvalidError, match=told):
        restore(str(tmp_path / "other"), str(spoil(made)))
    assert os.listdir(tmp_path / "other") == ["daemon.lock"]


def test_a_torn_file(made: Path, tmp_path: Path) -> None:
    os.truncate(made, made.stat().st_size // 2)
    with pytest.raises(InvalidError, match=r"damaged|cannot be used"):
        restore(str(tmp_path / "other"), str(made))


@pytest.mark.parametrize("name", ["server/../../escaped", "/escaped", "node/escaped", "server/link"])
def test_a_backup_leads_nowhere_else(made: Path, tmp_path: Path, name: str) -> None:
    with tarfile.open(made, "a") as tar:
        entry = tarfile.TarInfo(name)
        if name.endswith("link"):
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(InvalidError, match="damaged"):
        restore(str(tmp_path / "other"), str(made))
    assert not (tmp_path / "escaped").exists()


def test_the_commands(state: Path, tmp_path: Path) -> None:
    def squall(*arguments: str) -> str:
        command = [sys.executable, "-m", "squall", "daemon", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    target = str(tmp_path / "b.tar")
    assert target in squall("backup", target, "--state", str(state))
    assert "Restored" in squall("restore", target, "--state", str(tmp_path / "other"))
    assert asyncio.run(_result(tmp_path / "other")) == b"a result"


def test_while_one_is_made_no_blob_is_deleted(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database was copied first: it names the blobs of that moment."""
    blobs = DiskBlobs(state / "server" / "blobs")
    removed: list[int] = []
    inner = tarfile.TarFile.add

    def add(tar: tarfile.TarFile, name: str, *args: object, **more: object) -> None:
        removed.append(asyncio.run(blobs.remove([("team", BLOB)])))
        inner(tar, name, *args, **more)  # type: ignore[arg-type]

    (state / "server" / "blobs" / "team" / BLOB[:2]).mkdir()
    (state / "server" / "blobs" / "team" / BLOB).rename(state / "server" / "blobs" / "team" / BLOB[:2] / BLOB)
    monkeypatch.setattr(tarfile.TarFile, "add", add)
    backup(str(state), str(tmp_path / "busy.tar"))
    assert set(removed) == {0}
    assert asyncio.run(blobs.remove([("team", BLOB)])) == 1
    asyncio.run(blobs.close())
