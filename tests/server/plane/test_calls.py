"""Inputs to nodes and outcomes home: once each, whatever is sent twice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from squall.wire import messages as m
from squall.wire.control import CallRef
from squall.wire.hops import MOST
from squall.wire.values import InputItem, Outcome, OutputItem, Payload, RetryPolicy
from tests.server.fakes import payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def test_a_call_comes_home(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    assert payloads(client.results(call)) == {0: b"cba"}
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert node.acknowledged() == {(f"{call}:0", 1)}
    client.send(m.Received(call, [0]))
    assert world.plane._services.table.calls == {}
    assert world.plane._services.table.inputs == {}


async def test_the_container_gets_what_it_needs(world: World) -> None:
    client, node = await world.client(environment="dev"), await world.node(gpus={"H100": 2})
    from squall.wire.values import GpuRequest, ResourceRequest

    resources = ResourceRequest(gpus=[GpuRequest("H100", 2)])
    app = await client.app(spec(resources=resources, timeout=7.0))
    client.call(app.functions["f"], b"x")
    await node.work()
    start = node.of(m.StartContainer)[0]
    assert (start.workspace, start.environment, start.app) == ("default", "dev", app.app)
    assert start.uid_base == 1_000_000
    assert start.gpus == ["H100", "H100"]
    assert node.of(m.Assign)[0].inputs[0].timeout == 7.0


async def test_a_map_comes_home_whole(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    call = client.call(app.functions["f"], *(b"%d" % i for i in range(100, 150)), last=False)
    client.call(app.functions["f"], b"150", call=call, start=50, kind="map")
    await node.work()
    assert payloads(client.results(call)) == {i: b"%d" % (100 + i) for i in range(0)} | {
        i: (b"%d" % (100 + i))[::-1] for i in range(51)
    }
    assert len(node.started) <= 4


async def test_an_input_that_is_sent_twice_runs_once(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    client.call(app.functions["f"], b"abc", call=call)
    await node.work()
    client.call(app.functions["f"], b"abc", call=call)
    await node.work()
    assert len(node.of(m.Assign)) == 1
    assert payloads(client.results(call)) == {0: b"cba"}


async def test_a_generator_pauses_for_its_consumer(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(is_generator=True))
    call = client.call(app.functions["f"], b"x", kind="generator")
    await node.work()
    (container,) = node.containers
    values = [Payload(b"%d" % i) for i in range(70)]
    node.send(m.NodeYields(container, f"{call}:0", 1, 0, values))
    got = [p.data for message in client.of(m.Yields) for p in message.payloads]
    assert got == [b"%d" % i for i in range(64)]
    client.send(m.Credit(call, 0, 100))
    assert node.of(m.NodeCredit) == [m.NodeCredit(container, f"{call}:0", 100)]
    node.send(m.NodeYields(container, f"{call}:0", 1, 60, values[60:]))
    got = [p.data for message in client.of(m.Yields) for p in message.payloads]
    assert got == [b"%d" % i for i in range(70)]
    node.finish(f"{call}:0", Outcome("done", yields=70))
    assert client.results(call)[0] == Outcome("done", yields=70)


async def test_values_and_outputs_come_again_on_a_new_connection(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(is_generator=True))
    call = client.call(app.functions["f"], b"x", kind="generator")
    await node.work()
    (container,) = node.containers
    client.vanish()
    node.send(m.NodeYields(container, f"{call}:0", 1, 0, [Payload(b"0"), Payload(b"1")]))
    node.finish(f"{call}:0", Outcome("done", yields=2))
    await world.clock.advance(20)
    await client.connect()
    assert [(y.first, len(y.payloads)) for y in client.of(m.Yields)] == [(0, 2)]
    assert client.results(call)[0].status == "done"


async def test_lost_values_end_a_generator(world: World) -> None:
    """An agent that died took values along: neither a wait for ever nor a sequence with a hole."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(is_generator=True))
    call = client.call(app.functions["f"], b"x", kind="generator")
    await node.work()
    (container,) = node.containers
    node.send(m.NodeYields(container, f"{call}:0", 1, 0, [Payload(b"0")]))
    node.send(m.NodeYields(container, f"{call}:0", 1, 2, [Payload(b"2")]))
    outcome = client.results(call)[0]
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type) == ("failed", "InternalFailure")
    assert "values of the generator were lost" in outcome.error.message
    assert node.of(m.Revoke)[0].inputs == [(f"{call}:0", 1)]
    node.finish(f"{call}:0", Outcome("cancelled"))
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert (f"{call}:0", 1) in node.acknowledged()
    assert len(client.of(m.Outputs)) == 1


async def test_values_of_what_is_no_generator_are_nothing(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    (container,) = node.containers
    node.send(m.NodeYields(container, f"{call}:0", 1, 0, [Payload(b"0")]))
    node.finish(f"{call}:0")
    assert client.of(m.Yields) == []
    assert payloads(client.results(call)) == {0: b"cba"}


@pytest.mark.parametrize("told", [0, 1, 3])
async def test_an_end_without_the_last_values_is_no_end(world: World, told: int) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(is_generator=True))
    call = client.call(app.functions["f"], b"x", kind="generator")
    await node.work()
    (container,) = node.containers
    node.send(m.NodeYields(container, f"{call}:0", 1, 0, [Payload(b"0"), Payload(b"1")]))
    node.finish(f"{call}:0", Outcome("done", yields=told))
    assert client.results(call)[0].status == "failed"


async def test_a_retry_is_not_delivered(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(retries=RetryPolicy(max_retries=1, initial_delay=1.0)))
    call = client.call(app.functions["f"], b"x")
    await node.work()
    node.finish(f"{call}:0", Outcome("exception"))
    assert client.results(call) == {}
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert node.acknowledged() == {(f"{call}:0", 1)}
    await world.clock.advance(1.1)
    await node.work()
    node.finish(f"{call}:0")
    assert client.results(call)[0].status == "ok"
    assert [i.attempt for a in node.of(m.Assign) for i in a.inputs] == [1, 2]


async def test_an_output_of_a_dead_attempt_is_dropped(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"x")
    await node.work()
    (container, item) = node.inputs[f"{call}:0"]
    node.end(container, "killed")
    await node.work()
    assert node.inputs[f"{call}:0"][1].attempt == 2
    late = m.NodeOutput(f"{call}:0", 1, OutputItem(0, Outcome("ok", Payload(b"stale"))), 1.0)
    node.send(m.NodeOutputs(container, [late]))
    assert client.results(call) == {}
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert (f"{call}:0", 1) in node.acknowledged()
    assert item.attempt == 1
    node.finish(f"{call}:0")
    assert payloads(client.results(call)) == {0: b"x"}


async def test_a_cancelled_call_ends(world: World) -> None:
    client, node = await world.client(), await world.node(cpu_millis=1000)
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"running", b"waiting")
    await node.work()
    client.send(m.Cancel(call))
    await node.work()
    assert {i: o.status for i, o in client.results(call).items()} == {0: "cancelled", 1: "cancelled"}
    assert node.of(m.Revoke)[0].inputs == [(f"{call}:0", 1)]
    late = client.call(app.functions["f"], b"late", call=call, start=2)
    await node.work()
    assert client.results(late)[2].status == "cancelled"


async def test_one_input_is_cancelled(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"a", b"b")
    await node.work()
    client.send(m.Cancel(call, [1]))
    await node.work()
    node.finish(f"{call}:0")
    assert {i: o.status for i, o in client.results(call).items()} == {0: "ok", 1: "cancelled"}


async def test_a_spawned_call_is_on_disk_before_it_is_accepted(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc", durable=True)
    assert client.of(m.Accepted) == []
    await settle()
    assert client.of(m.Accepted) == [m.Accepted(call, 1)]
    assert await world.store.call_size(call) == (1, 0)
    await node.work()
    assert await world.store.call_size(call) == (1, 1)
    assert payloads(client.results(call)) == {0: b"cba"}
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert node.acknowledged() == {(f"{call}:0", 1)}
    other = await world.client()
    other.send(m.Attach(call))
    await settle()
    assert payloads(other.results(call)) == {0: b"cba"}
    info = await other.ask("call.get", CallRef(call))
    assert (info.inputs, info.done) == (1, 1)


async def test_a_spawn_that_is_repeated_runs_once(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    client.forget()
    client.call(app.functions["f"], b"abc", call=call, durable=True)
    await node.work()
    assert client.of(m.Accepted) == [m.Accepted(call, 1)]
    assert payloads(client.results(call)) == {0: b"cba"}
    assert len(node.of(m.Assign)) == 1
    assert world.plane._services.table.calls == {}


async def test_an_unknown_function_refuses_the_call(world: World) -> None:
    client = await world.client()
    call = client.call("fu-nonsense", b"x")
    await settle()
    (failed,) = client.of(m.CallFailed)
    assert (failed.call, failed.code) == (call, "not_found")


async def test_what_fits_no_node_is_refused_at_once(world: World) -> None:
    client, _node = await world.client(), await world.node(cpu_millis=500)
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"a", b"b")
    await settle()
    (failed,) = client.of(m.CallFailed)
    assert (failed.call, failed.code) == (call, "unplaceable")
    assert "cpu=1" in failed.message
    assert world.plane._services.table.calls == {}


async def test_without_a_node_a_call_waits_and_says_so(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await settle()
    assert client.of(m.Notice) == [m.Notice(app.app, "no node is connected")]
    second = client.call(app.functions["f"], b"abc")
    await settle()
    assert len(client.of(m.Notice)) == 2
    node = await world.node()
    await node.work()
    assert payloads(client.results(call)) == payloads(client.results(second)) == {0: b"cba"}


async def test_a_session_holds_a_bounded_number_of_inputs(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    fine = client.call(app.functions["f"], *[b"x"] * 24_000)
    over = client.call(app.functions["f"], *[b"x"] * 2_000)
    await settle()
    assert [(f.call, f.code) for f in client.of(m.CallFailed)] == [(over, "exhausted")]
    client.send(m.Cancel(fine))
    await settle()
    client.send(m.Received(fine, list(range(24_000))))
    client.forget()
    client.call(app.functions["f"], *[b"x"] * 2_000)
    await settle()
    assert client.of(m.CallFailed) == []


async def test_a_payload_that_was_not_uploaded_is_refused(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    item = InputItem(0, Payload(blob="0" * 64, size=5_000_000))
    client.send(m.Inputs("fc-" + "a" * 32, app.functions["f"], "unary", [item]))
    await settle()
    assert [f.code for f in client.of(m.CallFailed)] == ["not_found"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (m.Inputs("fc-short", "", "unary", []), "invalid"),
        (m.Inputs("fc-" + "a" * 32, "", "circular", []), "invalid"),
        (m.Inputs("fc-" + "a" * 32, "", "unary", [InputItem(-1, Payload())]), "invalid"),
        (m.Inputs("fc-" + "a" * 32, "", "unary", [InputItem(0, Payload(size=1 << 40))]), "invalid"),
        (m.Inputs("fc-" + "a" * 32, "", "generator", [InputItem(0, Payload())]), "invalid"),
    ],
)
async def test_nonsense_is_refused(world: World, message: m.Inputs, code: str) -> None:
    client = await world.client()
    app = await client.app(spec())
    message.function = app.functions["f"]
    client.send(message)
    await settle()
    assert [f.code for f in client.of(m.CallFailed)] == [code]


async def test_a_trace_names_the_hops(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    nonsense = [("server.received", 1.0), ("\x1b[2J", 1.0), ("sdk.call", math.nan), ("sdk.call", -1.0)]
    item = InputItem(0, Payload(b"x"), trace=[("client.send", 0.0), *nonsense])
    client.send(m.Inputs("fc-" + "a" * 32, app.functions["f"], "unary", [item]))
    await node.work()
    (outputs,) = client.of(m.Outputs)
    trace = outputs.items[0].trace
    assert trace is not None
    assert [hop for hop, _ in trace] == [
        "client.send", "server.received", "scheduler.start", "server.ready", "scheduler.assign",
        "server.assigned", "agent.output", "server.output", "server.delivered",
    ]  # fmt: skip
    assert [at for _, at in trace] == sorted(at for _, at in trace)


async def test_only_who_waited_for_a_container_is_told_of_its_start(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    for number in "ab":
        await world.clock.advance(1.0)
        item = InputItem(0, Payload(b"x"), trace=[])
        client.send(m.Inputs("fc-" + number * 32, app.functions["f"], "unary", [item]))
        await node.work()
    traces = [dict(outputs.items[0].trace or []) for outputs in client.of(m.Outputs)]
    assert ["scheduler.start" in trace for trace in traces] == [True, False]


async def test_a_node_cannot_say_more_of_a_trace_than_hops(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.trace = [("agent.output", math.inf), ("x" * 1000, 1.0), *[("user.end", 2.0)] * 10_000]
    app = await client.app(spec())
    item = InputItem(0, Payload(b"x"), trace=[])
    client.send(m.Inputs("fc-" + "a" * 32, app.functions["f"], "unary", [item]))
    await node.work()
    trace = client.of(m.Outputs)[0].items[0].trace
    assert trace is not None
    assert [hop for hop, _ in trace] == ["user.end"] * MOST + ["server.output", "server.delivered"]


async def test_an_import_error_is_the_callers_exception(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.starts = False
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"x")
    await node.work()
    (container,) = node.containers
    error = Payload(b"pickled", size=7)
    node.send(m.ContainerState(container, "failed", "import", "No module named 'numpy'", error))
    outcome = client.results(call)[0]
    assert (outcome.status, outcome.payload) == ("exception", error)
    assert outcome.error is not None
    assert outcome.error.message == "No module named 'numpy'"


@pytest.mark.parametrize(
    ("reason", "error"),
    [("oom", "RemoteError"), ("exit", "RemoteError"), ("signal", "RemoteError"), ("killed", "")],
)
async def test_poison_fails_and_victims_run_again(world: World, reason: str, error: str) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"x")
    await node.work()
    node.end(node.inputs[f"{call}:0"][0], reason, "it was killed")
    await node.work()
    results = client.results(call)
    if error:
        assert results[0].error is not None
        assert (results[0].error.type, results[0].error.message) == (error, "it was killed")
    else:
        assert results == {}
        assert node.inputs[f"{call}:0"][1].attempt == 2
