"""What only the store on disk has to show: it survives, and says what is wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from squall.store import schema
from squall.store.base import CallRecord, FunctionRecord, Identity, InputRecord, StoreError
from squall.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

CALL = CallRecord("fc-0", "default", "main", "fu-1", "unary", 1.0)


async def fill(store: SqliteStore, calls: int, size: int = 100) -> list[object]:
    """Many at once; what came of each."""
    return await asyncio.gather(
        *(
            store.add_inputs(replace(CALL, id=f"fc-{n}"), [InputRecord(f"fc-{n}", 0, bytes(size))])
            for n in range(calls)
        ),
        return_exceptions=True,
    )


def modes(path: Path) -> list[int]:
    return [p.stat().st_mode & 0o777 for p in path.iterdir()]


async def reopened(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    await store.open()
    return store


async def test_what_was_written_is_there_the_next_time(tmp_path: Path) -> None:
    for _ in range(2):
        store = await reopened(tmp_path / "new" / "folder" / "db.sqlite")
        await store.create_workspace("a")
        await fill(store, 300)
        await store.close()
    store = await reopened(tmp_path / "new" / "folder" / "db.sqlite")
    assert (await store.workspace("a")).uid_index == 0
    assert len(await store.unfinished()) == 300
    await store.close()


async def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    path.touch(0o644)
    store = await reopened(path)
    await store.create_workspace("a")
    assert modes(tmp_path) == [0o600] * 3  # with the log and the shared memory
    await store.close()


async def test_it_is_durable_by_its_settings(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "db.sqlite")

    def settings(db: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._write(settings) == ["wal", 2, 1]
    await store.close()


async def test_after_close_it_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db.sqlite")
    with pytest.raises(StoreError, match="not open"):
        await store.workspace("a")
    await store.open()
    writes = asyncio.ensure_future(fill(store, 100))
    await asyncio.sleep(0)
    await store.close()
    assert await writes == [None] * 100
    with pytest.raises(StoreError, match="shutting down"):
        await store.create_workspace("a")
    with pytest.raises(StoreError, match="shutting down"):
        await store.workspace("a")
    await store.close()


def test_acknowledged_rows_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    acknowledged: set[int] = set()
    for life in range(3):
        acknowledged |= run_and_kill(path, life)
    kept = asyncio.run(stored(path))
    assert len(acknowledged) >= 300
    assert acknowledged <= kept


def run_and_kill(path: Path, life: int) -> set[int]:
    """Read acknowledgements until it is in full swing, kill it, and read what it had said by then."""
    command = [sys.executable, "-c", INSERTER, str(path), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(100 + 50 * life)]
        process.kill()
        seen += process.stdout.read().split("\n")[:-1]
    return {int(line) for line in seen}


async def stored(path: Path) -> set[int]:
    store = await reopened(path)
    calls = await store.unfinished()
    await store.close()
    return {int(call.id.removeprefix("fc-")) for call, inputs in calls if inputs[0].payload == b"payload"}


INSERTER = """
import asyncio, os, sys
from squall.store.base import CallRecord, InputRecord
from squall.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    numbers = iter(range(int(sys.argv[2]) * 10_000_000, 1 << 60))
    async def insert():
        for n in numbers:
            call = CallRecord(f"fc-{n}", "w", "e", "fu", "unary", float(n))
            await store.add_inputs(call, [InputRecord(call.id, 0, b"payload")])
            os.write(1, b"%d\\n" % n)
    await asyncio.gather(*(insert() for _ in range(32)))
asyncio.run(main())
"""


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match=r"newer Squall \(schema 99.*upgrade Squall"):
        await SqliteStore(path).open()


async def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreError, match="not a database of Squall's"):
        await SqliteStore(path).open()


async def test_garbage_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    path.write_bytes(b"this is no database at all. " * 400)
    with pytest.raises(StoreError, match=r"damaged.*restore a backup"):
        await SqliteStore(path).open()


async def test_a_torn_database_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    store = await reopened(path)
    await fill(store, 500)
    await store.close()
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xa5" * 4096 * 8)
    with pytest.raises(StoreError, match="damaged") as caught:
        await SqliteStore(path).open()
    assert "\n" not in str(caught.value)


async def test_migrations_go_on_from_where_the_database_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db.sqlite"
    store = await reopened(path)
    await store.create_workspace("a")
    await store.close()
    second = (*schema.MIGRATIONS, "CREATE TABLE more (x); INSERT INTO more VALUES (1)")
    with sqlite3.connect(path, isolation_level=None) as db:
        schema.migrate(db, str(path), second)
        schema.migrate(db, str(path), second)
        assert db.execute("SELECT count(*) FROM more").fetchone() == (1,)
        assert db.execute("PRAGMA user_version").fetchone() == (len(second),)
    db.close()
    with pytest.raises(StoreError, match="newer"):  # the old program must keep off
        await SqliteStore(path).open()


async def test_functions_of_the_first_schema_are_no_variants(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with sqlite3.connect(path, isolation_level=None) as db:
        schema.migrate(db, str(path), schema.MIGRATIONS[:1])
        db.execute("INSERT INTO apps VALUES ('ap-1', 'default', 'main', 'demo', 'deployed', 1.0, 3)")
        db.execute("INSERT INTO functions VALUES ('fu-1', 'ap-1', 'default', 'main', 'f', 3, x'01', x'02')")
    db.close()
    store = await reopened(path)
    old = FunctionRecord("fu-1", "ap-1", "default", "main", "f", 3, b"\x01", b"\x02", "", b"", b"")
    assert await store.functions("ap-1") == [old]
    await store.put_function(replace(old, id="fu-2", parent="fu-1", variant=b"v"))
    assert [f.parent for f in await store.functions("ap-1", 3)] == ["", "fu-1"]
    await store.close()


async def test_what_rows_of_an_older_schema_name_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    blobs = [character * 64 for character in "abcdef"]
    packed = [b"\x93\xd9\x40" + blob.encode() + b"\xc0" for blob in blobs]
    with sqlite3.connect(path, isolation_level=None) as db:
        schema.migrate(db, str(path), schema.MIGRATIONS[:7])
        db.execute("INSERT INTO apps VALUES ('ap-1', 'w', 'main', 'demo', 'deployed', 1.0, 1, '{}', '')")
        row = ("fu-1", "ap-1", "w", "main", "f", 1, packed[0], b"", "", b"", b"")
        db.execute(f"INSERT INTO functions VALUES ({', '.join('?' * len(row))})", row)
        db.execute("INSERT INTO manifests VALUES ('w', 'mo-1', ?)", (packed[1] + packed[2],))
        db.execute("INSERT INTO calls VALUES ('fc-1', 'w', 'main', 'fu-1', 'map', 1.0, '', 1, 0, 0)")
        db.execute("INSERT INTO inputs VALUES ('fc-1', 0, ?, 0, 0)", (packed[3],))
        db.execute("INSERT INTO inputs VALUES ('fc-1', 1, x'', 0, 1)")
        db.execute("INSERT INTO outputs VALUES ('fc-1', 1, ?, 1.0)", (packed[4],))
    db.close()
    store = await reopened(path)
    assert await store.named_blobs() == {("w", blob) for blob in blobs[:5]}
    await store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(db, "db.sqlite", ("CREATE TABLE a (x); CREATE TABLE a (x)",))
    assert not db.in_transaction
    assert db.execute("PRAGMA user_version").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


async def test_a_network_file_system_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squall.filesystem._magic", lambda _path: 0x6969)
    with pytest.raises(StoreError, match=r"network file system \(NFS\).*SQUALL_STATE"):
        await SqliteStore(tmp_path / "db.sqlite").open()
    store = SqliteStore(tmp_path / "db.sqlite", network_file_system=True)
    await store.open()
    await store.close()


async def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot use"):
        await SqliteStore(tmp_path / "file" / "db.sqlite").open()


async def test_a_locked_database_names_the_other_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squall.store.database._PATIENCE", 0.01)
    path = tmp_path / "db.sqlite"
    store = await reopened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="in use by another process"):
        await store.create_workspace("a")
    other.execute("ROLLBACK")
    other.close()
    await store.create_workspace("a")
    await store.close()


async def test_a_bad_write_among_many_fails_alone(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "db.sqlite")
    results = await asyncio.gather(
        fill(store, 200), store.add_token("x", Identity("nobody", "client")), return_exceptions=True
    )
    assert results[0] == [None] * 200
    assert isinstance(results[1], StoreError)
    assert len(await store.unfinished()) == 200
    await store.close()
