"""Guests through the agent: bytes both ways within a window, and an end whatever happens."""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from squall.runtime.double import DoubleRuntime
from squall.wire import messages as m
from squall.wire.guests import WINDOW, GuestCredit, GuestData, GuestEnd, GuestResize, Join
from tests.node.fake_server import until

if TYPE_CHECKING:
    from tests.node.conftest import Node, Run

WAITS = "def f():\n    pass\n"


def join(node: Node, container: str, *argv: str, **fields: Any) -> str:
    guest = f"gu-{secrets.token_hex(16)}"
    node.server.send(Join(guest, container, list(argv), **fields))
    return guest


def said(node: Node, guest: str, fd: int = 1) -> bytes:
    found = [x for x in node.server.messages if isinstance(x, GuestData) and x.guest == guest and x.fd == fd]
    return b"".join(x.data for x in found)


async def ended(node: Node, guest: str) -> GuestEnd:
    return await node.server.expect(GuestEnd, guest=guest)


def test_pipes(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        guest = join(node, container, "/bin/sh", "-c", "cat; echo $A >&2; exit 3", env={"A": "asked"})
        node.server.send(GuestData(guest, 0, b"one "), GuestData(guest, 0, b"two"), GuestData(guest, 0, b""))
        assert await ended(node, guest) == GuestEnd(guest, code=3)
        assert (said(node, guest), said(node, guest, 2)) == (b"one two", b"asked\n")
        credit = [x.size for x in node.server.messages if isinstance(x, GuestCredit)]
        assert sum(credit) == 7

    run(scenario)


def test_terminal(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        script = "stty size; read x; stty size; cat; kill -9 $$"
        guest = join(node, container, "/bin/sh", "-c", script, terminal=True, rows=7, columns=8)
        await until(lambda: b"7 8" in said(node, guest))
        node.server.send(GuestResize(guest, 9, 10), GuestData(guest, 0, b"\n"))
        await until(lambda: b"9 10" in said(node, guest))
        node.server.send(GuestData(guest, 0, b""))  # Ctrl-D
        assert await ended(node, guest) == GuestEnd(guest, signal=9)

    run(scenario)


def test_output_stays_within_the_window(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        script = f"head -c {3 * WINDOW} /dev/zero; echo x >&2"
        guest = join(node, container, "/bin/sh", "-c", script)
        await until(lambda: len(said(node, guest)) == WINDOW)
        await node.server.expect(m.Heartbeat, after=len(node.server.messages))
        assert len(said(node, guest)) == WINDOW
        while len(said(node, guest)) < 3 * WINDOW:
            before = len(said(node, guest))
            node.server.send(GuestCredit(guest, WINDOW // 2))
            await until(lambda before=before: len(said(node, guest)) > before)  # type: ignore[misc]
        node.server.send(GuestCredit(guest, WINDOW))
        assert (await ended(node, guest)).code == 0
        assert said(node, guest, 2) == b"x\n"

    run(scenario)


def test_input_waits_for_the_program(run: Run) -> None:
    """Credit comes for what it took, no more."""

    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        guest = join(node, container, "/bin/sh", "-c", "echo up; read x <&3; cat | wc -c", env={})
        pieces = [bytes(32 << 10)] * 8
        for piece in pieces:
            node.server.send(GuestData(guest, 0, piece))
        node.server.send(GuestData(guest, 0, b""))
        assert (await ended(node, guest)).code is not None
        assert b"262144" in said(node, guest)

    run(scenario)


def test_program_that_closes_its_input(run: Run) -> None:
    """What it does not want counts as taken: the sender must not wait for ever."""

    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        guest = join(node, container, "/bin/sh", "-c", "exec 0<&-; echo up; sleep 600")
        await until(lambda: b"up" in said(node, guest))
        for _ in range(8):
            node.server.send(GuestData(guest, 0, bytes(32 << 10)))

        def taken() -> int:
            return sum(x.size for x in node.server.messages if isinstance(x, GuestCredit))

        await until(lambda: taken() == 8 * (32 << 10))
        node.server.send(GuestEnd(guest))

    run(scenario)


def test_what_cannot_run_is_told(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        guest = join(node, container, "/no/such")
        assert "cannot run '/no/such'" in (await ended(node, guest)).error
        nobody = join(node, "ct-none", "true")
        assert (await ended(node, nobody)).error == "container ct-none does not run"

    run(scenario)


def test_background_process_does_not_keep_the_guest(run: Run) -> None:
    """One in a session of its own holds the output open."""

    async def scenario(node: Node) -> None:
        container = await node.container(WAITS)
        guest = join(node, container, "/bin/sh", "-c", "setsid sleep 600 & echo done")
        assert (await ended(node, guest)).code == 0
        assert said(node, guest) == b"done\n"

    run(scenario)


@pytest.mark.parametrize("how", ["hung up", "server away", "agent ends", "container ends"])
def test_nothing_stays(run: Run, how: str) -> None:
    runtime = DoubleRuntime()

    def prepare(node: Node) -> None:
        node.runtime = runtime

    async def scenario(node: Node) -> None:
        order = node.order(WAITS)
        node.server.send(order)
        await until(lambda: bool(runtime.specs))
        guest = join(node, order.container, "true", terminal=True, rows=1, columns=1)
        await until(lambda: bool(runtime.guests))
        played = runtime.guests[0]
        os.write(played.theirs[0], b"shown")
        await until(lambda: said(node, guest) == b"shown")
        if how == "hung up":
            node.server.send(GuestEnd(guest))
        elif how == "server away":
            node.server.drop()
        elif how == "agent ends":
            assert node._running is not None
            node._running.cancel()
            await asyncio.gather(node._running, return_exceptions=True)
        else:
            played.close()
            await ended(node, guest)
        await until(lambda: played.closed)

    run(scenario, prepare)
