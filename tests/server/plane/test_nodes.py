"""Nodes: leases, broken connections, adoption; what runs twice and what must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.wire import messages as m
from squall.wire.control import CallRef
from squall.wire.values import ContainerUsage, Outcome, OutputItem, Payload
from tests.house.troubleshooting import met
from tests.server.fakes import FakeNode, payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def test_a_lost_nodes_inputs_run_elsewhere(world: World) -> None:
    client, first = await world.client(), await world.node("no-1")
    first.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await first.work()
    first.beating = False
    second = await world.node("no-2")
    await world.clock.advance(36)
    await second.work()
    assert payloads(client.results(call)) == {0: b"cba"}
    assert second.of(m.Assign)[0].inputs[0].attempt == 2
    assert first.connection.closed


async def test_what_a_lost_node_says_later_does_not_count(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    (container,) = node.containers
    node.connection.close()
    await world.clock.advance(31)
    await node.connect()
    await node.work()
    assert [s.container for s in node.stopped] == [container]
    late = m.NodeOutput(f"{call}:0", 1, OutputItem(0, Outcome("ok", Payload(b"stale"))), 1.0)
    node.send(m.NodeOutputs(container, [late]))
    assert client.results(call) == {}
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert (f"{call}:0", 1) in node.acknowledged()
    node.finish(f"{call}:0")
    assert payloads(client.results(call)) == {0: b"cba"}


async def test_a_node_that_comes_back_in_time_goes_on(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    node.connection.close()
    await world.clock.advance(20)
    await node.connect()
    await node.work()
    assert not [*node.of(m.StartContainer), *node.of(m.Assign), *node.of(m.StopContainer)]
    node.finish(f"{call}:0")
    assert payloads(client.results(call)) == {0: b"cba"}


async def test_what_got_lost_with_the_connection_is_done_again(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    first = client.call(app.functions["f"], b"abc")
    await node.work()
    node.connection.close()
    second = client.call(app.functions["f"], b"def")
    client.send(m.Cancel(first))
    await settle()
    await node.connect()
    await node.work()
    node.hold = False
    await node.work()
    assert client.results(first)[0].status == "cancelled"
    node.finish(f"{second}:0")
    assert payloads(client.results(second)) == {0: b"fed"}


async def test_a_container_that_is_not_announced_has_ended(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    node.connection.close()
    await node.connect(forget=True)
    node.hold = False
    await node.work()
    assert payloads(client.results(call)) == {0: b"cba"}
    assert node.of(m.Assign)[0].inputs[0].attempt == 2


async def test_a_stop_that_got_lost_is_said_again(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    client.call(app.functions["f"], b"abc")
    await node.work()
    (container,) = node.containers
    node.connection.close()
    await client.ask("session.close")
    await settle()
    await node.connect()
    await node.work()
    assert container in [s.container for s in node.stopped]
    assert node.containers == {}


async def test_a_newer_connection_replaces_the_older(world: World) -> None:
    node = await world.node()
    old = node.connection
    await node.connect()
    assert old.closed
    assert not node.connection.closed


async def test_strange_containers_are_stopped(world: World) -> None:
    node = FakeNode(world, "no-1")
    await node.connect()
    stranger = m.AnnouncedContainer("ct-x", "fu-unknown", ready=True, inputs=[])
    node.send(m.Announce("no-1", node.resources, [stranger], []))
    assert node.connection.closed, "Announce comes once"
    again = world.connect()
    again.deliver(m.Hello(1, "node", "0"), m.Announce("no-1", node.resources, [stranger], []))
    await settle()
    assert m.StopContainer("ct-x") in again.sent


async def test_a_node_speaks_only_for_its_own_containers(world: World) -> None:
    client, node = await world.client(), await world.node("no-1")
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    (container,) = node.containers
    liar = await world.node("no-2")
    forged = m.NodeOutput(f"{call}:0", 1, OutputItem(0, Outcome("ok", Payload(b"forged"))), 1.0)
    liar.send(
        m.NodeOutputs(container, [forged]),
        m.ContainerState(container, "exited", "oom"),
        m.NodeYields(container, f"{call}:0", 1, 0, [Payload(b"forged")]),
    )
    assert client.results(call) == {}
    assert client.of(m.Yields) == []
    node.finish(f"{call}:0")
    assert payloads(client.results(call)) == {0: b"cba"}


@pytest.mark.parametrize("message", [m.Heartbeat(1), m.NodeLogs([])])
async def test_the_first_word_is_announce(world: World, message: object) -> None:
    connection = world.connect()
    connection.deliver(m.Hello(1, "node", "0"))
    await settle()
    connection.deliver(message)
    assert connection.closed


async def test_heartbeats_are_answered_and_tell_of_use(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    client.call(app.functions["f"], b"abc")
    await node.work()
    (container,) = node.containers
    node.send(m.Heartbeat(77, {container: ContainerUsage(1.5, 2, 3), "ct-other": ContainerUsage()}))
    assert node.of(m.Heartbeat)[-1] == m.Heartbeat(77)
    (info,) = (await client.ask("container.list")).containers
    assert (info.id, info.function, info.state) == (container, "f", "ready")
    assert (info.cpu_seconds, info.memory_peak_bytes) == (1.5, 3)


async def test_a_restarted_server_adopts_what_runs(world: World) -> None:
    """Nothing runs twice: waiting clients offer again, and get the running attempt's outcome."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    durable = client.call(app.functions["f"], b"abc", durable=True)
    waiting = client.call(app.functions["f"], b"def")
    await node.work()
    await world.restart()
    await node.connect()
    await client.connect()
    client.call(app.functions["f"], b"def", call=waiting)
    await world.clock.advance(20)
    await node.work()
    assert not [*node.of(m.StartContainer), *node.of(m.Assign)]
    node.finish(f"{durable}:0")
    node.finish(f"{waiting}:0")
    await settle()
    assert payloads(client.results(waiting)) == {0: b"fed"}
    assert await world.store.call_size(durable) == (1, 1)
    client.send(m.Attach(durable))
    await settle()
    assert payloads(client.results(durable)) == {0: b"cba"}


async def test_a_client_may_come_back_before_its_node(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    await world.restart()
    other = await world.node("no-2")
    before = client.welcome
    await client.connect()
    assert before is not None
    assert client.welcome is not None
    assert client.welcome.session != before.session, "so the client knows that the server is a new one"
    client.call(app.functions["f"], b"abc", call=call)
    await world.clock.advance(5)
    await other.work()
    assert other.of(m.Assign) == []
    await node.connect()
    await world.clock.advance(10)
    await node.work()
    assert node.of(m.Assign) == other.of(m.Assign) == []
    node.finish(f"{call}:0")
    assert payloads(client.results(call)) == {0: b"cba"}


async def test_an_outcome_waits_for_a_client_that_is_not_back_yet(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    await world.restart()
    await node.connect()
    node.finish(f"{call}:0")
    await client.connect()
    client.call(app.functions["f"], b"abc", call=call)
    await settle()
    assert payloads(client.results(call)) == {0: b"cba"}
    client.send(m.Received(call, [0]))
    await world.clock.advance(40)
    assert world.plane._services.table.calls == {}


async def test_nobody_comes_back_for_a_ghost(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    await world.restart()
    await node.connect()
    await world.clock.advance(31)
    await node.work()
    assert node.of(m.Revoke)[0].inputs == [(f"{call}:0", 1)]
    assert world.plane._services.table.calls == {}
    assert world.plane._services.table.inputs == {}


async def test_old_durable_inputs_run_anew_where_no_node_has_them(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc", b"def", durable=True)
    await node.work()
    node.finish(f"{call}:0")
    await settle()
    await world.node("no-2")
    await world.restart()
    node.hold = False
    await node.connect(forget=True)
    await world.clock.advance(5)
    await node.work()
    assert node.of(m.Assign) == [], "another node may have them"
    await world.clock.advance(6)
    await node.work()
    (assign,) = node.of(m.Assign)
    assert [(i.input, i.attempt) for i in assign.inputs] == [(f"{call}:1", 2)]
    await client.connect()
    assert (await client.ask("call.get", CallRef(call))).done == 2
    client.call(app.functions["f"], b"abc", b"def", call=call, durable=True)
    client.send(m.Attach(call))
    await settle()
    assert payloads(client.results(call)) == {0: b"cba", 1: b"fed"}
    assert client.of(m.Accepted) == [m.Accepted(call, 2)]


async def test_nobody_waits_once_all_nodes_have_announced(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    await world.restart()
    node.hold = False
    await node.connect(forget=True)
    await node.work()
    assert (await world.store.call_outputs(call))[0].index == 0


async def test_a_node_that_never_comes_back_is_waited_for_once(world: World) -> None:
    client, node = await world.client(), await world.node()
    await world.node("no-2")
    app = await client.app(spec(), deploy=True)
    await world.restart()
    await node.connect(forget=True)
    await world.clock.advance(11)
    assert await world.store.nodes() == ["no-1"]
    await world.restart()
    await node.connect(forget=True)
    await client.connect()
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    assert payloads(client.results(call)) == {0: b"cba"}


async def test_a_node_whose_lease_ended_is_not_waited_for(world: World) -> None:
    node = await world.node()
    assert await world.store.nodes() == ["no-1"]
    node.beating = False
    node.connection.close()
    await world.clock.advance(40)
    assert await world.store.nodes() == []


async def test_an_ephemeral_app_waits_for_its_client_after_a_restart(world: World) -> None:
    client, other, node = await world.client(), await world.client(), await world.node()
    app, gone = await client.app(spec()), await other.app(spec())
    for _ in range(2):
        await world.restart()
        await node.connect()
        await world.clock.advance(20)
        await client.connect()
        await world.clock.advance(15)
    assert (await world.store.app(app.app)).state == "ephemeral"
    assert (await world.store.app(gone.app)).state == "stopped"
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    assert payloads(client.results(call)) == {0: b"cba"}


async def test_a_cancelled_durable_call_stays_cancelled(world: World) -> None:
    client = await world.client()
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc", durable=True)
    await settle()
    client.send(m.Cancel(call))
    await settle()
    assert client.results(call)[0].status == "cancelled"
    await world.restart()
    node = await world.node()
    await world.clock.advance(11)
    await node.work()
    assert node.of(m.Assign) == []


async def test_results_expire(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    client.vanish()
    node.beating = False
    node.connection.close()
    await world.clock.advance(7 * 86_400 + 7_200)
    late = await world.client()
    late.send(m.Attach(call))
    await settle()
    assert [f.code for f in late.of(m.CallFailed)] == ["expired"]
    for method in ("call.get", "call.graph"):
        refused = await late.ask(method, CallRef(call))
        assert refused.code == "expired"
        met(
            refused.message,
            "OutputExpiredError: the result of call ... was kept for 7 days and is gone: call it again",
        )
    late.call(app.functions["f"], b"abc", durable=True, call=call)
    await settle()
    assert late.of(m.CallFailed)[-1].code == "expired"


async def test_a_spawned_call_that_is_over_is_not_taken_up_again(world: World) -> None:
    """A node runs it although its result is on disk: who asks gets that, and the node is told to stop."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"), deploy=True)
    call = client.call(app.functions["f"], b"ab", durable=True)
    await node.work()
    running = dict(node.inputs)
    node.finish(f"{call}:0")
    await node.work()
    node.inputs = running
    await world.restart()
    await node.connect()
    later = await world.client()
    later.send(m.Attach(call))
    await node.work()
    assert later.results(call)[0].payload.data == b"ba"
    assert [r.inputs for r in node.of(m.Revoke)] == [[(f"{call}:0", 1)]]
