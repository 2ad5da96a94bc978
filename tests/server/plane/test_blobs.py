"""Uploads in order and within bounds, downloads as fast as they are read, each workspace its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from squall.server import blobs as room
from squall.wire import control
from squall.wire import messages as m
from squall.wire.control import BlobsHave, ManifestPut
from squall.wire.hashing import manifest_id
from squall.wire.values import CHUNK, FileEntry, Manifest
from tests.server.fakes import FakeClient, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 9000
BLOB = hashlib.sha256(DATA).hexdigest()


def chunks(data: bytes, blob: str, number: int = 50) -> list[m.BlobChunk]:
    offsets = range(0, max(1, len(data)), CHUNK)
    return [m.BlobChunk(number, blob, o, data[o : o + CHUNK], last=o + CHUNK >= len(data)) for o in offsets]


async def upload(client: FakeClient, data: bytes, blob: str = "") -> object:
    client.send(*chunks(data, blob or hashlib.sha256(data).hexdigest()))
    await settle()
    (answer,) = [a for a in client.connection.sent if isinstance(a, (m.Response, m.Failure)) and a.id == 50]
    client.forget()
    return answer


async def test_up_and_down(world: World) -> None:
    client = await world.client()
    assert (await client.ask("blobs.missing", BlobsHave([BLOB]))).hashes == [BLOB]
    assert await upload(client, DATA) == m.Response(50)
    assert (await client.ask("blobs.missing", BlobsHave([BLOB]))).hashes == []
    client.send(m.BlobFetch(9, BLOB))
    await settle()
    pieces = client.of(m.BlobChunk)
    assert b"".join(p.data for p in pieces) == DATA
    assert [p.offset for p in pieces] == [0, CHUNK, 2 * CHUNK]
    assert [p.last for p in pieces] == [False, False, True]


async def test_an_empty_blob(world: World) -> None:
    client = await world.client()
    assert await upload(client, b"") == m.Response(50)
    client.send(m.BlobFetch(9, hashlib.sha256(b"").hexdigest()))
    await settle()
    assert [(p.data, p.last) for p in client.of(m.BlobChunk)] == [(b"", True)]


async def test_a_wrong_hash_is_refused(world: World) -> None:
    client = await world.client()
    answer = await upload(client, DATA, "0" * 64)
    assert isinstance(answer, m.Failure)
    assert answer.code == "invalid"
    assert not await world.blobs.has("default", "0" * 64)
    assert await upload(client, DATA) == m.Response(50), "and the connection goes on"


@pytest.mark.parametrize("blob", ["../../../etc/passwd", "A" * 64, ""])
async def test_names_that_are_no_hash_are_refused(world: World, blob: str) -> None:
    client = await world.client()
    client.send(m.BlobChunk(1, blob, 0, b"x", last=True), m.BlobFetch(2, blob))
    await settle()
    assert [(f.id, f.code) for f in client.of(m.Failure)] == [(1, "invalid"), (2, "invalid")]


async def test_a_gap_is_refused_once(world: World) -> None:
    client = await world.client()
    first, _, last = chunks(DATA, BLOB)
    client.send(first, last, m.BlobChunk(51, BLOB, 5, b"x"), m.BlobChunk(51, BLOB, 6, b"x", last=True))
    await settle()
    assert [(f.id, f.code) for f in client.of(m.Failure)] == [(50, "invalid"), (51, "invalid")]
    client.forget()
    assert await upload(client, DATA) == m.Response(50)


async def test_uploads_at_a_time_are_bounded(world: World) -> None:
    client = await world.client()
    for number in range(room.CONCURRENT + 1):
        client.send(m.BlobChunk(number, BLOB, 0, b"x"))
    await settle()
    assert [(f.id, f.code) for f in client.of(m.Failure)] == [(room.CONCURRENT, "exhausted")]


async def test_a_fast_sender_is_paused(world: World) -> None:
    client = await world.client()
    client.send(*chunks(b"\0" * (room.QUEUE_HIGH + 2 * CHUNK), BLOB)[:-1])
    assert client.connection.paused == 1
    await settle()
    assert client.connection.paused == 0


async def test_a_slow_reader_gets_no_more_than_it_takes(world: World) -> None:
    client = await world.client()
    await upload(client, DATA)
    client.connection.unread = room.SEND_HIGH + 1
    client.send(m.BlobFetch(9, BLOB))
    await settle()
    assert client.of(m.BlobChunk) == []


async def test_a_hash_is_no_permission(world: World) -> None:
    client, thief = await world.client(), await world.client("other")
    await upload(client, DATA)
    thief.send(m.BlobFetch(9, BLOB))
    await settle()
    assert [f.code for f in thief.of(m.Failure)] == ["not_found"]
    manifest = Manifest([FileEntry("a.py", BLOB, len(DATA))])
    put = ManifestPut(manifest_id(manifest), manifest)
    assert (await thief.ask("manifest.put", put)).code == "not_found"
    assert await client.ask("manifest.put", put) == control.Empty()


async def test_a_node_moves_blobs_of_workspaces_that_it_works_for(world: World) -> None:
    client, node = await world.client(), await world.node()
    await upload(client, DATA)
    node.send(m.BlobFetch(1, BLOB, "default"))
    await settle()
    assert [f.code for f in node.of(m.Failure)] == ["not_found"]
    app = await client.app(spec())
    client.call(app.functions["f"], b"x")
    await node.work()
    node.send(m.BlobFetch(2, BLOB, "default"), m.BlobFetch(3, BLOB, "other"))
    result = hashlib.sha256(b"result").hexdigest()
    node.send(m.BlobChunk(4, result, 0, b"result", last=True, workspace="default"))
    await settle()
    assert b"".join(p.data for p in node.of(m.BlobChunk)) == DATA
    assert [f.id for f in node.of(m.Failure)] == [1, 3]
    assert node.of(m.Response) == [m.Response(4)]
    assert await world.blobs.has("default", result)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../b", "a//b", "./a", "a\0b"])
async def test_paths_stay_below_their_root(world: World, path: str) -> None:
    client = await world.client()
    await upload(client, DATA)
    manifest = Manifest([FileEntry(path, BLOB, len(DATA))])
    answer = await client.ask("manifest.put", ManifestPut(manifest_id(manifest), manifest))
    assert answer.code == "invalid"


async def test_a_manifest_is_what_its_id_says(world: World) -> None:
    client = await world.client()
    answer = await client.ask("manifest.put", ManifestPut("mo-" + "0" * 32, Manifest([])))
    assert answer.code == "invalid"
