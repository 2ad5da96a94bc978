from __future__ import annotations

from dataclasses import replace

import pytest

from squall.server import auth
from squall.server.auth import Authenticator, AuthRefused, new_token, token_hash
from squall.server.connection import Peer
from squall.store.base import Identity
from squall.store.memory import MemoryStore
from squall.wire.messages import Hello
from squall.wire.values import PROTOCOL

pytestmark = pytest.mark.anyio

TOKEN = new_token()
NODE_TOKEN = new_token()
HELLO = Hello(PROTOCOL, "client", "0")
GOOD = replace(HELLO, token=TOKEN)
BAD = replace(HELLO, token="sq-guess")
UNIX = Peer("unix", uid=0)


def tcp(address: str = "192.0.2.7") -> Peer:
    return Peer("tcp", address=address)


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore()
        self.authenticator = Authenticator(self.store, clock=lambda: self.now)

    async def refused(self, peer: Peer, hello: Hello) -> str:
        with pytest.raises(AuthRefused) as caught:
            await self.authenticator.identify(peer, hello)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    async def accepted(self, peer: Peer, hello: Hello) -> Identity:
        return await self.authenticator.identify(peer, hello)

    async def guess(self, peer: Peer, times: int) -> str:
        return [await self.refused(peer, BAD) for _ in range(times)][-1]


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.store.create_workspace("team")
    await made.store.add_token(token_hash(TOKEN), Identity("team", "client"))
    await made.store.add_token(token_hash(NODE_TOKEN), Identity("team", "node"))
    return made


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(t.startswith("sq-") and len(t) == 46 and t.isascii() and "\n" not in t for t in tokens)


def test_of_a_token_only_its_hash_is_stored() -> None:
    assert token_hash("sq-a") == token_hash("sq-a") != token_hash("sq-b")
    assert len(token_hash(TOKEN)) == 64
    assert TOKEN not in token_hash(TOKEN)
    assert token_hash("\udcff")  # anything that msgpack lets through


async def test_a_token_says_who_it_is(bench: Bench) -> None:
    assert await bench.accepted(tcp(), GOOD) == Identity("team", "client")
    node = replace(HELLO, role="node", token=NODE_TOKEN)
    assert await bench.accepted(tcp(), node) == Identity("team", "node")


async def test_over_tcp_there_is_always_a_token(bench: Bench) -> None:
    assert await bench.refused(tcp(), HELLO) == (
        "a token is required: make one with `squall token new` on the server and set SQUALL_TOKEN"
    )


async def test_a_wrong_token(bench: Bench) -> None:
    assert (await bench.refused(tcp(), BAD)).startswith("the token is wrong: ")
    assert "the token is wrong" in await bench.refused(UNIX, BAD)


async def test_a_token_for_another_role(bench: Bench) -> None:
    assert "for a client, not for a node" in await bench.refused(tcp(), replace(GOOD, role="node"))
    assert "neither client nor node" in await bench.refused(UNIX, replace(HELLO, role="admin"))


async def test_on_the_unix_socket_none_is_needed(bench: Bench) -> None:
    assert await bench.accepted(UNIX, HELLO) == Identity("default", "client")
    assert await bench.accepted(UNIX, replace(HELLO, role="node")) == Identity("default", "node")
    assert await bench.accepted(UNIX, GOOD) == Identity("team", "client")


async def test_who_guesses_has_to_wait(bench: Bench) -> None:
    assert "the token is wrong" in await bench.guess(tcp(), auth.TRIES)
    assert await bench.refused(tcp(), BAD) == "too many wrong tokens from 192.0.2.7: try again in 6 s"
    assert "too many" in await bench.refused(tcp(), GOOD)
    await bench.accepted(tcp("192.0.2.8"), GOOD)
    bench.now += auth.SECONDS_A_TRY
    await bench.accepted(tcp(), GOOD)


async def test_tries_come_back_one_by_one(bench: Bench) -> None:
    await bench.guess(tcp(), auth.TRIES + 50)
    bench.now += 2 * auth.SECONDS_A_TRY
    assert "the token is wrong" in await bench.guess(tcp(), 2)
    assert "too many" in await bench.refused(tcp(), BAD)
    bench.now += 1000 * auth.SECONDS_A_TRY
    assert "the token is wrong" in await bench.guess(tcp(), auth.TRIES)
    assert "too many" in await bench.refused(tcp(), BAD)


async def test_behind_one_proxy_those_who_were_right_get_in(bench: Bench) -> None:
    await bench.accepted(tcp(), GOOD)
    await bench.guess(tcp(), auth.TRIES + 1)
    await bench.accepted(tcp(), GOOD)
    assert "too many" in await bench.refused(tcp(), replace(HELLO, role="node", token=NODE_TOKEN))


async def test_an_ipv6_host_is_one_address(bench: Bench) -> None:
    for number in range(auth.TRIES):
        await bench.refused(tcp(f"2001:db8::{number:x}:1"), BAD)
    assert "too many wrong tokens from 2001:db8::/64" in await bench.refused(tcp("2001:db8::ffff:1"), GOOD)
    await bench.accepted(tcp("2001:db8:0:1::1"), GOOD)
    await bench.guess(tcp("::ffff:192.0.2.9"), auth.TRIES)
    assert "from 192.0.2.9" in await bench.refused(tcp("192.0.2.9"), BAD)


async def test_memory_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED", 10)
    for number in range(100):
        await bench.refused(tcp(f"10.0.0.{number}"), BAD)
    assert len(bench.authenticator._failures) == 10


async def test_the_unix_socket_is_never_locked_out(bench: Bench) -> None:
    await bench.guess(UNIX, auth.TRIES * 2)
    await bench.accepted(UNIX, GOOD)
