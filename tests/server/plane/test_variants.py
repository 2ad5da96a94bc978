"""Classes and variants: parameters and options of their own, with containers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from squall.server import catalog
from squall.wire import messages as m
from squall.wire.control import (
    AppCreate,
    AppPublish,
    AppRef,
    FunctionAutoscaler,
    FunctionGet,
    FunctionInfo,
    FunctionLookup,
    FunctionVariant,
    StatsQuery,
)
from squall.wire.values import (
    AutoscalerSettings,
    Batching,
    ClassSpec,
    Concurrency,
    FunctionSpec,
    GpuRequest,
    MethodSpec,
    Overrides,
    ParameterSpec,
    ResourceRequest,
    RetryPolicy,
)
from tests.server.fakes import IMAGE, RECIPE, payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import FakeClient, FakeNode, World

pytestmark = pytest.mark.anyio

METHODS = {"run": MethodSpec(), "stream": MethodSpec(is_generator=True)}
SIZES = {"size": ParameterSpec("str"), "layers": ParameterSpec("int", 3)}


def model(parameters: dict[str, ParameterSpec] | None = None, **fields: Any) -> FunctionSpec:
    return spec("Model", class_=ClassSpec(METHODS, SIZES if parameters is None else parameters), **fields)


async def variant(
    client: FakeClient, function: str, overrides: Any = None, **parameters: Any
) -> FunctionInfo:
    body = FunctionVariant(function, parameters, overrides or Overrides())
    answer: FunctionInfo = await client.ask("function.variant", body)
    assert isinstance(answer, FunctionInfo), answer
    return answer


def functions_of(node: FakeNode) -> list[str]:
    return [start.function_id for start in node.containers.values()]


async def failure(client: FakeClient, call: str) -> m.CallFailed:
    await settle()
    (failed,) = [f for f in client.of(m.CallFailed) if f.call == call]
    assert "\n" not in failed.message
    return failed


# ------------------------------------------------------------------------------------------------- methods


async def test_calls_name_a_method(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(model({}))
    call = client.call(app.functions["Model"], b"abc", method="run")
    node.hold = True
    await node.work()
    ((_, given),) = node.inputs.values()
    assert (given.method, given.generator) == ("run", False)
    stream = client.call(app.functions["Model"], b"abc", method="stream", kind="generator")
    node.finish(f"{call}:0")
    await node.work()
    ((_, given),) = node.inputs.values()
    assert (given.input, given.method, given.generator) == (f"{stream}:0", "stream", True)
    assert payloads(client.results(call)) == {0: b"cba"}


@pytest.mark.parametrize(
    ("inputs", "code", "said"),
    [
        ({}, "invalid", "Model is a class"),
        ({"method": "other"}, "not_found", "no method 'other'; it has: run, stream"),
        ({"method": "run", "kind": "generator"}, "invalid", r"Model.run is no generator"),
        ({"method": "stream"}, "invalid", r"Model.stream is a generator"),
        ({"method": "stream", "kind": "generator", "durable": True}, "invalid", "cannot be spawned"),
    ],
)
async def test_methods_are_checked(world: World, inputs: dict[str, Any], code: str, said: str) -> None:
    client = await world.client()
    app = await client.app(model({}))
    failed = await failure(client, client.call(app.functions["Model"], b"x", **inputs))
    assert failed.code == code
    assert said in failed.message


async def test_later_inputs_of_a_call_are_checked_too(world: World) -> None:
    client = await world.client()
    app = await client.app(model({}))
    call = client.call(app.functions["Model"], b"x", method="run", kind="map", last=False)
    client.call(app.functions["Model"], b"x", method="stream", kind="map", call=call, start=1)
    assert (await failure(client, call)).code == "invalid"


async def test_a_function_has_no_methods(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    failed = await failure(client, client.call(app.functions["f"], b"x", method="run"))
    assert "f is a function and has no methods" in failed.message


async def test_a_lookup_tells_of_methods_and_parameters(world: World) -> None:
    client = await world.client()
    await client.app(model(), spec(), deploy=True)
    found = await client.ask("function.lookup", FunctionLookup("demo", "Model"))
    assert found.class_ == ClassSpec(METHODS, SIZES)
    assert (await client.ask("function.lookup", FunctionLookup("demo", "f"))).class_ is None


# ---------------------------------------------------------------------------------------------- parameters


async def test_each_set_of_parameters_has_containers_of_its_own(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(model())
    small, large = [await variant(client, app.functions["Model"], size=s) for s in ("small", "large")]
    assert len({small.id, large.id, app.functions["Model"]}) == 3
    for each in (small, large, small):
        client.call(each.id, b"x", method="run")
        await node.work()
    bound = {s.function_id: s.function.parameters for s in node.containers.values()}
    assert bound == {small.id: {"size": "small", "layers": 3}, large.id: {"size": "large", "layers": 3}}
    assert len(node.started) == 2


async def test_equal_requests_give_the_same_id(world: World) -> None:
    client, other = await world.client(), await world.client()
    app = await client.app(model(), deploy=True)
    function = app.functions["Model"]
    env = {"A": "1", "B": "2"}
    first = await variant(client, function, Overrides(env=env), size="s")
    again = await variant(other, function, Overrides(env=dict(reversed(env.items()))), layers=3, size="s")
    assert first.id == again.id
    assert first.id != (await variant(client, function, Overrides(env={"A": "1"}), size="s")).id
    assert first.class_ == ClassSpec(METHODS, SIZES)


async def test_nothing_asked_is_the_function_itself(world: World) -> None:
    client = await world.client()
    app = await client.app(model({"layers": ParameterSpec("int", 3)}), spec())
    assert (await variant(client, app.functions["Model"])).id == app.functions["Model"]
    assert (await variant(client, app.functions["Model"], layers=3)).id == app.functions["Model"]
    assert (await variant(client, app.functions["f"])).id == app.functions["f"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "Model needs the parameter size"),
        ({"size": "s", "other": 1}, "no parameter other; it has size, layers"),
        ({"size": 1}, "parameter size of Model is a str, and not 1"),
        ({"size": "s", "layers": True}, "layers of Model is an int, and not True"),
        ({"size": "s", "layers": 1.0}, "is an int"),
        ({"size": "s", "layers": 1 << 63}, "is an int"),
        ({"size": b"s"}, "is a str"),
        ({"size": ["s"]}, "is a str"),
        ({"size": "x" * 70_000}, "over 64 KiB"),
    ],
)
async def test_parameters_are_checked(world: World, parameters: dict[str, Any], said: str) -> None:
    client = await world.client()
    app = await client.app(model())
    answer = await client.ask("function.variant", FunctionVariant(app.functions["Model"], parameters))
    assert answer.code == "invalid"
    assert said in answer.message
    assert "\n" not in answer.message


async def test_a_class_that_needs_parameters_does_not_run_without(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(model(autoscaler=AutoscalerSettings(min_containers=1)))
    await node.work()
    assert node.containers == {}
    failed = await failure(client, client.call(app.functions["Model"], b"x", method="run"))
    assert "needs the parameters size" in failed.message
    answer = await client.ask("function.variant", FunctionVariant(app.functions["Model"], {"size": None}))
    assert answer.code == "invalid"


@pytest.mark.parametrize(
    "bad",
    [
        ClassSpec({}),
        ClassSpec({"not a name": MethodSpec()}),
        ClassSpec(METHODS, {"x": ParameterSpec("float")}),
        ClassSpec(METHODS, {"x": ParameterSpec("int", "1")}),
        ClassSpec(METHODS, {"a-b": ParameterSpec("int")}),
    ],
)
async def test_bad_classes_are_refused(world: World, bad: ClassSpec) -> None:
    client = await world.client()
    app = await client.ask("app.create", AppCreate("demo"))
    body = AppPublish(app.id, [spec("Model", class_=bad)], {IMAGE: RECIPE})
    assert (await client.ask("app.publish", body)).code == "invalid"


async def test_nobody_publishes_values_of_parameters(world: World) -> None:
    client = await world.client()
    app = await client.ask("app.create", AppCreate("demo"))
    body = AppPublish(
        app.id, [spec("Model", class_=ClassSpec(METHODS, SIZES), parameters={"size": "s"})], {IMAGE: RECIPE}
    )
    assert (await client.ask("app.publish", body)).code == "invalid"


# ------------------------------------------------------------------------------------------------- options


async def test_options_change_what_they_name(world: World) -> None:
    client, node = await world.client(), await world.node(gpus={"H100": 1})
    app = await client.app(
        spec(
            resources=ResourceRequest(cpu_millis=500, cpu_limit_millis=600, memory_mib=100),
            env={"A": "1", "B": "1"},
            timeout=7.0,
        )
    )
    changes = Overrides(
        cpu_millis=2000,
        gpus=[GpuRequest("H100")],
        env={"B": "2", "C": "3"},
        retries=RetryPolicy(4),
        max_containers=5,
        scaledown_window=9.0,
    )
    other = await variant(client, app.functions["f"], changes)
    client.call(other.id, b"x")
    await node.work()
    (start,) = node.containers.values()
    made = start.function
    assert made.resources == ResourceRequest(2000, None, 100, gpus=[GpuRequest("H100")])
    assert (made.env, made.retries, made.timeout) == ({"A": "1", "B": "2", "C": "3"}, RetryPolicy(4), 7.0)
    assert made.autoscaler == AutoscalerSettings(0, 5, 0, 9.0)
    client.call(app.functions["f"], b"x")
    await node.work()
    assert sorted(functions_of(node)) == sorted([other.id, app.functions["f"]])


@pytest.mark.parametrize(
    "changes", [Overrides(timeout=-1.0), Overrides(max_containers=1), Overrides(cpu_millis=0)]
)
async def test_impossible_options_are_refused(world: World, changes: Overrides) -> None:
    client = await world.client()
    app = await client.app(spec(autoscaler=AutoscalerSettings(min_containers=2)))
    answer = await client.ask("function.variant", FunctionVariant(app.functions["f"], {}, changes))
    assert answer.code == "invalid"


@pytest.mark.covers("Function.stats(all_variants)")
async def test_statistics_of_all_variants(world: World) -> None:
    client, node = await world.client(), await world.node()
    small = ResourceRequest(cpu_millis=100)
    app = await client.app(spec(resources=small), spec("g", resources=small))
    for function in ("f", "g"):
        other = await variant(client, app.functions[function], Overrides(timeout=1.0))
        client.call(app.functions[function], b"x")
        client.call(other.id, b"x", b"y")
    await node.work()
    for query, ended in (
        (StatsQuery(app.functions["f"]), 1),
        (StatsQuery(app.functions["f"], all_variants=True), 3),
        (StatsQuery(other.id), 2),
    ):
        assert (await client.ask("function.stats", query)).ended == {"ok": ended}


async def test_sharing_is_an_option(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), model({}))
    shared = await variant(client, app.functions["f"], Overrides(concurrency=Concurrency(4, 4)))
    client.call(shared.id, b"1", b"2", b"3")
    await node.work()
    assert [s.function.capacity for s in node.containers.values()] == [4]
    assert len(node.inputs) == 3
    batched = FunctionVariant(app.functions["Model"], {}, Overrides(batching=Batching(2, 0.1)))
    answer = await client.ask("function.variant", batched)
    assert (answer.code, "Model" in answer.message) == ("invalid", True)


async def test_a_variant_has_no_variants(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    other = await variant(client, app.functions["f"], Overrides(timeout=1.0))
    assert (await client.ask("function.variant", FunctionVariant(other.id))).code == "invalid"


async def test_variants_are_their_workspaces(world: World) -> None:
    client, thief = await world.client(), await world.client("other")
    app = await client.app(spec(), deploy=True)
    other = await variant(client, app.functions["f"], Overrides(timeout=1.0))
    body = FunctionVariant(app.functions["f"], {}, Overrides(timeout=1.0))
    assert (await thief.ask("function.variant", body)).code == "not_found"
    assert (await thief.ask("function.autoscaler", FunctionAutoscaler(other.id))).code == "not_found"
    assert (await failure(thief, thief.call(other.id, b"x"))).code == "not_found"


# ----------------------------------------------------------------------------------- versions and restarts


async def test_a_new_version_takes_a_variants_calls_as_a_variant(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(model(), deploy=True)
    old = await variant(client, app.functions["Model"], Overrides(cpu_millis=100), size="s")
    client.call(old.id, b"x", method="run")
    await node.work()
    assert functions_of(node) == [old.id]
    new = await client.app(model(timeout=5.0), deploy=True)
    await world.clock.advance(1)
    await node.work()
    assert node.containers == {}, "it is retired together with its parent"
    call = client.call(old.id, b"abc", method="run")
    await node.work()
    (start,) = node.containers.values()
    assert start.function_id not in (old.id, new.functions["Model"])
    assert (start.function.timeout, start.function.parameters) == (5.0, {"size": "s", "layers": 3})
    assert start.function.resources.cpu_millis == 100
    assert payloads(client.results(call)) == {0: b"cba"}
    asked = await variant(client, app.functions["Model"], Overrides(cpu_millis=100), size="s")
    assert asked.id == start.function_id, "and asking by the old id gives the same"


async def test_a_new_version_without_the_parameter_says_so(world: World) -> None:
    client = await world.client()
    app = await client.app(model(), deploy=True)
    old = await variant(client, app.functions["Model"], size="s")
    await client.app(model({}), deploy=True)
    failed = await failure(client, client.call(old.id, b"x", method="run"))
    assert "no parameter size" in failed.message


async def test_variants_of_old_versions_are_forgotten(world: World) -> None:
    client = await world.client()
    ids = []
    for n in range(4):
        app = await client.app(model(timeout=1.0 + n), deploy=True)
        ids.append((await variant(client, app.functions["Model"], size="s")).id)
    assert [i for i in ids if i in world.store._functions] == ids[2:]


async def test_a_variant_outlives_the_server(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(model(), deploy=True)
    other = await variant(client, app.functions["Model"], size="s")
    running = client.call(other.id, b"abc", method="run", durable=True)
    await node.work()
    await world.restart()
    await node.connect()
    await client.connect()
    await node.work()
    assert functions_of(node) == [other.id], "its container is taken in again"
    client.send(m.Attach(running))
    node.finish(f"{running}:0")
    await node.work()
    assert payloads(client.results(running)) == {0: b"cba"}
    fresh = client.call(other.id, b"xyz", method="run")
    await world.clock.advance(world.settings.adoption)
    await node.work()
    node.finish(f"{fresh}:0")
    await node.work()
    assert payloads(client.results(fresh)) == {0: b"zyx"}
    found = await client.ask("function.lookup", FunctionLookup("demo", "Model"))
    assert found.id == app.functions["Model"]


# --------------------------------------------------------------------------------------------------- bound


async def test_idle_variants_make_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MAX_VARIANTS", 3)
    client, node = await world.client(), await world.node()
    app = await client.app(model(autoscaler=AutoscalerSettings(scaledown_window=1000.0)))
    function = app.functions["Model"]
    busy = await variant(client, function, size="busy")
    client.call(busy.id, b"x", method="run")
    await node.work()
    first = await variant(client, function, size="1")
    await variant(client, function, size="2")
    answer = await client.ask("function.variant", FunctionVariant(function, {"size": "3"}))
    assert answer.code == "exhausted"
    assert "3 parameter sets" in answer.message
    await world.clock.advance(catalog.VARIANT_KEPT + 1)
    await variant(client, function, size="3")
    assert busy.id in world.store._functions
    assert first.id not in world.store._functions
    assert functions_of(node) == [busy.id], "what has containers stays"
    assert (await variant(client, function, size="1")).id == first.id, "and comes again when asked for"


# ---------------------------------------------------------------------------------------------- autoscaler


async def test_the_autoscaler_is_changed_live(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    ask = FunctionAutoscaler(app.functions["f"])
    assert await client.ask("function.autoscaler", ask) == AutoscalerSettings()
    now = await client.ask("function.autoscaler", FunctionAutoscaler(app.functions["f"], 2, 3))
    await node.work()
    assert now == AutoscalerSettings(2, 3)
    assert len(node.containers) == 2
    await client.ask("function.autoscaler", FunctionAutoscaler(app.functions["f"], 0, None, None, 5.0))
    await world.clock.advance(6)
    await node.work()
    assert len(node.containers) == 0
    assert await client.ask("function.autoscaler", ask) == AutoscalerSettings(0, 3, 0, 5.0)


async def test_a_change_outlives_the_server_and_not_the_version(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(model({}), deploy=True)
    other = await variant(client, app.functions["Model"], Overrides(timeout=1.0))
    for function in (app.functions["Model"], other.id):
        await client.ask("function.autoscaler", FunctionAutoscaler(function, min_containers=1))
    await world.restart()
    await client.connect(session="")
    await node.connect(forget=True)
    await node.work()
    assert sorted(functions_of(node)) == sorted([app.functions["Model"], other.id])
    again = await client.ask("function.autoscaler", FunctionAutoscaler(other.id))
    assert again == AutoscalerSettings(min_containers=1)
    new = await client.app(model({}), deploy=True)
    await world.clock.advance(1)
    await node.work()
    assert node.containers == {}
    ask = FunctionAutoscaler(new.functions["Model"])
    assert await client.ask("function.autoscaler", ask) == AutoscalerSettings()


@pytest.mark.parametrize("change", [(-1,), (3, 2), (0, 0), (0, 1, 0, -1.0), (20_000,)])
async def test_impossible_changes_are_refused(world: World, change: tuple[Any, ...]) -> None:
    client = await world.client()
    app = await client.app(spec())
    answer = await client.ask("function.autoscaler", FunctionAutoscaler(app.functions["f"], *change))
    assert answer.code == "invalid"


# --------------------------------------------------------------------------------------------------- exits


async def test_stopping_an_app_waits_for_what_has_exits(world: World) -> None:
    client, node = await world.client(), await world.node()
    described = ClassSpec(METHODS, exits=True)
    app = await client.app(spec("Model", class_=described))
    client.call(app.functions["Model"], b"x", method="run")
    await node.work()
    number = client._number + 1
    assert await client.ask("app.stop", AppRef(app.app)) is None
    await node.work()
    assert client.answer(number, "app.stop") is not None
    assert node.containers == {}


async def test_stopping_an_app_does_not_wait_forever(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec("Model", class_=ClassSpec(METHODS, exits=True)))
    client.call(app.functions["Model"], b"x", method="run")
    await node.work()
    number = client._number + 1
    assert await client.ask("app.stop", AppRef(app.app)) is None
    await world.clock.advance(60)
    assert client.answer(number, "app.stop") is not None


async def ran_on(world: World, client: FakeClient, node: FakeNode, function: str, method: str = "") -> str:
    """The function whose container a call of this id gets."""
    before = set(node.containers)
    client.call(function, b"x", method=method)
    await node.work()
    (container,) = set(node.containers) - before
    return node.containers[container].function_id


async def test_a_version_stays_what_it_was(world: World) -> None:
    client, node = await world.client(), await world.node(cpu_millis=64_000)
    first = await client.app(spec(env={"V": "1"}), deploy=True)
    old = await client.ask("function.lookup", FunctionLookup("demo", "f", 1))
    await client.app(spec(env={"V": "2"}), deploy=True)
    again = await client.ask("function.lookup", FunctionLookup("demo", "f", 1))
    newest = await client.ask("function.lookup", FunctionLookup("demo", "f"))
    assert old.id == again.id != newest.id
    assert (old.version, newest.version) == (1, 2)
    assert await ran_on(world, client, node, old.id) == old.id
    assert await ran_on(world, client, node, first.functions["f"]) == newest.id
    said = [start.function.env["V"] for start in node.containers.values()]
    assert said == ["1", "2"]
    await world.restart()
    await client.connect()
    await node.connect(forget=True)
    assert await ran_on(world, client, node, old.id) == old.id
    await client.app(spec(env={"V": "3"}), deploy=True)
    call = client.call(old.id, b"x")
    await node.work()
    assert len(client.results(call)) == 1
    await client.ask("app.stop", AppRef("demo"))
    await node.work()
    assert node.containers == {}


async def test_a_version_of_a_class_has_variants_of_its_own(world: World) -> None:
    client, node = await world.client(), await world.node(cpu_millis=64_000)
    await client.app(model(env={"V": "1"}), deploy=True)
    pinned = await client.ask("function.lookup", FunctionLookup("demo", "Model", 1))
    small = await variant(client, pinned.id, size="s")
    for version in ("2", "3", "4"):
        await client.app(model(env={"V": version}), deploy=True)
    assert (await variant(client, pinned.id, size="s")).id == small.id
    assert await ran_on(world, client, node, small.id, "run") == small.id
    (start,) = node.containers.values()
    assert (start.function.env["V"], start.function.parameters) == ("1", {"size": "s", "layers": 3})


async def test_a_version_that_is_not_there_and_what_cannot_be_changed(world: World) -> None:
    client = await world.client()
    await client.app(spec(), deploy=True)
    for name, version in (("f", 7), ("g", 1)):
        said = await client.ask("function.lookup", FunctionLookup("demo", name, version))
        assert said.code == "not_found"
        assert "`squall app history demo`" in said.message
    pinned = await client.ask("function.lookup", FunctionLookup("demo", "f", 1))
    assert (await client.ask("function.autoscaler", FunctionAutoscaler(pinned.id, 1))).code == "invalid"
    stranger = await world.client("other")
    assert (await stranger.ask("function.get", FunctionGet(pinned.id))).code == "not_found"
