"""One suite for every store: SQLite on disk and the double in memory."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from squall.store.base import AppRecord, CallRecord, FunctionRecord, Identity, InputRecord, NotFound, OutputRecord, StoreError
from squall.store.filesystem import file_system
from squall.store.memory import MemoryStore
from squall.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from squall.store.base import Store

CALL = CallRecord("fc-1", "default", "main", "fu-1", "map", 1.0)


@pytest.fixture(params=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Store], Awaitable[Any]]], Any]:
    """Run a coroutine function with an open store."""

    def runner(test: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            store: Store = SqliteStore(tmp_path / "db.sqlite") if request.param == "sqlite" else MemoryStore()
            await store.open()
            try:
                return await test(store)
            finally:
                await store.close()

        return asyncio.run(main())

    return runner


Run = "Callable[[Callable[[Store], Awaitable[Any]]], Any]"


def test_workspaces_get_ranges_of_their_own(run: Any) -> None:
    async def test(store: Store) -> None:
        a, b = await store.create_workspace("a"), await store.create_workspace("b")
        assert (a.uid_index, b.uid_index) == (0, 1)
        assert await store.create_workspace("a") == a
        assert await store.workspace("b") == b
        with pytest.raises(NotFound):
            await store.workspace("c")

    run(test)


def test_tokens(run: Any) -> None:
    async def test(store: Store) -> None:
        await store.create_workspace("a")
        await store.add_token("hash", Identity("a", "client"))
        assert await store.identify("hash") == Identity("a", "client")
        with pytest.raises(NotFound):
            await store.identify("other")
        with pytest.raises(StoreError):
            await store.add_token("x", Identity("no such workspace", "client"))

    run(test)


def test_publish_and_versions(run: Any) -> None:
    async def test(store: Store) -> None:
        for version in (1, 2):
            app = AppRecord("ap-1", "default", "main", "demo", "deployed", 1.0, version)
            await store.publish(app, [FunctionRecord(f"fu-{version}", "ap-1", "default", "main", "f", version, b"s", b"r")])
        assert [f.id for f in await store.functions("ap-1")] == ["fu-2"]
        assert [f.id for f in await store.functions("ap-1", 1)] == ["fu-1"]
        assert (await store.app_by_name("default", "main", "demo")).version == 2
        assert await store.apps("other") == []
        assert len(await store.apps(states=["deployed"])) == 1

    run(test)


def test_manifests_belong_to_a_workspace(run: Any) -> None:
    async def test(store: Store) -> None:
        await store.put_manifest("a", "mo-1", b"data")
        assert await store.manifest("a", "mo-1") == b"data"
        with pytest.raises(NotFound):
            await store.manifest("b", "mo-1")

    run(test)


def test_durable_calls(run: Any) -> None:
    async def test(store: Store) -> None:
        inputs = [InputRecord("fc-1", n, b"in") for n in range(3)]
        await store.add_inputs(CALL, inputs)
        await store.add_inputs(CALL, inputs)
        await store.set_attempts([("fc-1", 1, 4)])
        await store.add_outputs([OutputRecord("fc-1", 0, b"first", 2.0)])
        await store.add_outputs([OutputRecord("fc-1", 0, b"second", 3.0)])
        assert [o.payload for o in await store.call_outputs("fc-1")] == [b"first"]
        assert await store.call_size("fc-1") == (3, 1)
        ((call, waiting),) = await store.unfinished()
        assert call == CALL
        assert [(i.index, i.attempt) for i in waiting] == [(1, 4), (2, 0)]
        await store.cancel_call("fc-1")
        assert await store.unfinished() == []

    run(test)


def test_only_finished_calls_expire(run: Any) -> None:
    async def test(store: Store) -> None:
        await store.add_inputs(CALL, [InputRecord("fc-1", 0, b""), InputRecord("fc-1", 1, b"")])
        await store.add_outputs([OutputRecord("fc-1", 0, b"", 2.0)])
        assert await store.expire(10.0) == 0
        await store.add_outputs([OutputRecord("fc-1", 1, b"", 2.0)])
        assert await store.expire(1.0) == 0
        assert await store.expire(10.0) == 1
        with pytest.raises(NotFound):
            await store.call("fc-1")

    run(test)


def test_many_writers_share_commits_and_a_bad_one_fails_alone(run: Any) -> None:
    async def test(store: Store) -> None:
        calls = [store.add_inputs(CallRecord(f"fc-{n}", "d", "m", "f", "unary", 1.0), []) for n in range(200)]
        bad = store.add_token("x", Identity("nobody", "client"))
        results = await asyncio.gather(*calls, bad, return_exceptions=True)
        assert [type(r) for r in results if r is not None] == [StoreError]
        assert (await store.call("fc-199")).function == "f"

    run(test)


def test_a_newer_or_damaged_database_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer Squall"):
        asyncio.run(SqliteStore(newer).open())
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"this is no database, but it is long enough to look at" * 100)
    with pytest.raises(StoreError, match="damaged"):
        asyncio.run(SqliteStore(damaged).open())


def test_the_file_is_private(tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(tmp_path / "db.sqlite")
        await store.open()
        await store.close()

    asyncio.run(main())
    assert (tmp_path / "db.sqlite").stat().st_mode & 0o077 == 0


def test_network_file_systems_are_told(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/x / ext4 rw 0 0\nserver:/x /home nfs4 rw 0 0\n")
    assert file_system(tmp_path.__class__("/home/me/state"), mounts) == "nfs4"
    assert file_system(tmp_path.__class__("/homes"), mounts) == "ext4"


_WRITER = """
import asyncio, sys
from pathlib import Path
from squall.store.base import CallRecord, InputRecord
from squall.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1])); await store.open()
    for n in range(100_000):
        await store.add_inputs(CallRecord(f"fc-{n}", "d", "m", "f", "unary", 1.0), [InputRecord(f"fc-{n}", 0, b"x")])
        print(n, flush=True)
asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = 50 + len(process.stdout.read().splitlines())

    async def count() -> int:
        store = SqliteStore(path)
        await store.open()
        try:
            return len(await store.unfinished())
        finally:
            await store.close()

    assert asyncio.run(count()) >= acknowledged
