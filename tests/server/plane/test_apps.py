"""Apps: published, deployed in versions, stopped; each in its own workspace and environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from squall.wire import messages as m
from squall.wire.control import (
    AppCreate,
    AppLookup,
    AppPublish,
    AppRef,
    CallRef,
    Counts,
    FunctionLookup,
    LogsFetch,
    TokenNew,
    WorkspaceCreate,
)
from squall.wire.values import (
    AutoscalerSettings,
    Batching,
    Concurrency,
    MountRef,
    Payload,
    Recipe,
    ResourceRequest,
)
from tests.house.troubleshooting import met
from tests.server.fakes import IMAGE, RECIPE, payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def test_a_deployed_app_is_found_by_name(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    await client.ask("session.close")
    other = await world.client()
    info = await other.ask("function.lookup", FunctionLookup("demo", "f"))
    assert (info.id, info.app, info.is_generator) == (app.functions["f"], app.app, False)
    call = other.call(info.id, b"abc")
    await node.work()
    assert payloads(other.results(call)) == {0: b"cba"}


async def test_a_new_version_takes_over_and_the_old_one_drains(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    old = await client.app(spec(), deploy=True)
    running = client.call(old.functions["f"], b"old")
    await node.work()
    new = await client.app(spec(timeout=9.0), deploy=True)
    assert (new.app, new.version) == (old.app, 2)
    assert new.functions["f"] != old.functions["f"]
    fresh = client.call(old.functions["f"], b"new")
    await node.work()
    starts = {c: s.function_id for c, s in node.containers.items()}
    assert node.inputs[f"{running}:0"][0] in [c for c, f in starts.items() if f == old.functions["f"]]
    assert node.inputs[f"{fresh}:0"][0] in [c for c, f in starts.items() if f == new.functions["f"]]
    node.finish(f"{running}:0")
    client.send(m.Received(running, [0]))
    node.finish(f"{fresh}:0")
    await world.clock.advance(1)
    await node.work()
    assert payloads(client.results(running)) == {0: b"dlo"}
    assert [s.function_id for s in node.containers.values()] == [new.functions["f"]]


async def test_a_function_that_the_new_version_lacks_is_not_found(world: World) -> None:
    client = await world.client()
    old = await client.app(spec("f"), spec("g"), deploy=True)
    await client.app(spec("f"), deploy=True)
    client.call(old.functions["g"], b"x")
    await settle()
    (failed,) = client.of(m.CallFailed)
    assert failed.code == "not_found"
    assert "version 2" in failed.message
    lookup = await client.ask("function.lookup", FunctionLookup("demo", "g"))
    assert lookup.code == "not_found"
    assert lookup.message.endswith("it has: f")


async def test_a_stopped_app_ends_its_work(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"x")
    durable = client.call(app.functions["f"], b"y", durable=True)
    await node.work()
    await client.ask("app.stop", AppRef("demo"))
    await node.work()
    assert client.results(call)[0].status == client.results(durable)[0].status == "cancelled"
    assert node.containers == {}
    client.call(app.functions["f"], b"x")
    await settle()
    assert [f.code for f in client.of(m.CallFailed)] == ["not_found"]
    assert (await client.ask("app.lookup", AppLookup("demo"))).code == "not_found"
    assert world.plane._services.table.calls.keys() <= {call}


async def test_min_containers_start_without_a_call(world: World) -> None:
    client, node = await world.client(), await world.node()
    await client.app(spec(autoscaler=AutoscalerSettings(min_containers=2)), deploy=True)
    await node.work()
    assert len(node.containers) == 2
    await client.app(spec(autoscaler=AutoscalerSettings(min_containers=1)), deploy=True)
    await world.clock.advance(1)
    await node.work()
    assert len(node.containers) == 1


async def test_lookup_makes_an_empty_app_where_asked(world: World) -> None:
    client = await world.client()
    made = await client.ask("app.lookup", AppLookup("new", create_if_missing=True))
    assert (made.name, made.state, made.functions) == ("new", "deployed", {})
    assert (await client.ask("app.lookup", AppLookup("new"))).id == made.id


async def test_lists_show_what_is_mine(world: World) -> None:
    client, other = await world.client(), await world.client(environment="dev")
    app = await client.app(spec(), deploy=True)
    await other.app(spec(), name="elsewhere", deploy=True)
    assert [a.id for a in (await client.ask("app.list")).apps] == [app.app]
    status = await client.ask("status")
    assert (status.workspace, status.environment, status.apps) == ("default", "main", 1)
    assert status.elsewhere == Counts(apps=1)
    await client.connect(token=await world.token(), session="")
    status = await client.ask("status")
    assert (status.apps, status.elsewhere) == (1, Counts()), "without the embedded socket, only its own"


async def test_what_is_another_workspaces_is_not_found(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    spawned = client.call(app.functions["f"], b"x", durable=True)
    running = client.call(app.functions["f"], b"x")
    await node.work()
    thief = await world.client("other")
    for method, body in (
        ("app.get", AppRef(app.app)),
        ("app.stop", AppRef(app.app)),
        ("app.stop", AppRef("demo")),
        ("app.lookup", AppLookup("demo")),
        ("app.publish", AppPublish(app.app, [spec()], {IMAGE: RECIPE})),
        ("function.lookup", FunctionLookup("demo", "f")),
        ("call.get", CallRef(spawned)),
        ("call.get", CallRef(running)),
        ("logs.follow", AppRef(app.app)),
        ("logs.fetch", LogsFetch(app.app)),
        ("logs.fetch", LogsFetch(next(iter(node.containers)))),
    ):
        answer = await thief.ask(method, body)
        assert isinstance(answer, m.Failure), (method, answer)
        assert answer.code == "not_found", (method, answer)
    assert (await thief.ask("container.list")).containers == []
    thief.call(app.functions["f"], b"mine")
    thief.call(app.functions["f"], b"mine", call=running)
    thief.call(app.functions["f"], b"mine", call=spawned, durable=True)
    thief.send(m.Attach(running), m.Cancel(running), m.Received(running, [0]))
    await settle()
    assert {f.code for f in thief.of(m.CallFailed)} == {"not_found"}
    assert len(thief.of(m.CallFailed)) == 5
    assert thief.of(m.Outputs) == []
    assert running in world.plane._services.table.calls


async def test_another_session_cannot_publish_into_an_ephemeral_app(world: World) -> None:
    client, other = await world.client(), await world.client()
    app = await client.app(spec())
    answer = await other.ask("app.publish", AppPublish(app.app, [spec()], {IMAGE: RECIPE}))
    assert answer.code == "not_found"


@pytest.mark.parametrize(
    ("publish", "code"),
    [
        (AppPublish("", [spec(), spec()], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec()], {}), "invalid"),
        (AppPublish("", [spec()], {IMAGE: Recipe("other")}), "invalid"),
        (AppPublish("", [spec("not a name")], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(timeout=-1.0)], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(timeout=float("nan"))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(resources=ResourceRequest(memory_mib=-5))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(concurrency=Concurrency(0, 0))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(concurrency=Concurrency(1001, 1))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(concurrency=Concurrency(2, 3))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(batching=Batching(-1, 1.0))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(batching=Batching(2, float("nan")))], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(batching=Batching(2, 601.0))], {IMAGE: RECIPE}), "invalid"),
        (
            AppPublish("", [spec(concurrency=Concurrency(11, 1), batching=Batching(1000))], {IMAGE: RECIPE}),
            "invalid",
        ),
        (AppPublish("", [spec(concurrency=Concurrency(2, 2), single_use=True)], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(batching=Batching(2), is_generator=True)], {IMAGE: RECIPE}), "invalid"),
        (AppPublish("", [spec(mounts=[MountRef("mo-" + "0" * 32, "/x")])], {IMAGE: RECIPE}), "not_found"),
        (AppPublish("", [spec(serialized=Payload(blob="0" * 64))], {IMAGE: RECIPE}), "not_found"),
        (AppPublish("", [spec(serialized=Payload(blob="../../x"))], {IMAGE: RECIPE}), "invalid"),
    ],
)
async def test_bad_declarations_are_refused(world: World, publish: AppPublish, code: str) -> None:
    client = await world.client()
    publish.app = (await client.ask("app.create", AppCreate("demo"))).id
    answer = await client.ask("app.publish", publish)
    assert isinstance(answer, m.Failure)
    assert answer.code == code
    assert "\n" not in answer.message


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "-a", "a\nb"])
async def test_bad_names_are_refused(world: World, name: str) -> None:
    client = await world.client()
    assert (await client.ask("app.create", AppCreate(name))).code == "invalid"


async def test_only_the_embedded_socket_makes_workspaces_and_tokens(world: World) -> None:
    admin = await world.client()
    made = await admin.ask("workspace.create", WorkspaceCreate("team"))
    again = await admin.ask("workspace.create", WorkspaceCreate("team"))
    assert again.code == "exists"
    met(
        again.message,
        "AlreadyExistsError: there is a workspace ... already: `squall token new --workspace "
        "...` makes another "
        "token for it",
    )
    node = await admin.ask("token.new", TokenNew("team", "node"))
    assert made.token != node.token
    assert (await admin.ask("token.new", TokenNew("nobody"))).code == "not_found"
    assert (await admin.ask("token.new", TokenNew("team", "king"))).code == "invalid"
    member = await world.client()
    await member.connect(token=made.token, session="")
    requests: list[tuple[str, Any]] = [("workspace.create", WorkspaceCreate("x")), ("token.new", TokenNew())]
    for method, body in requests:
        assert (await member.ask(method, body)).code == "auth"
    assert member.welcome is not None
    assert member.welcome.workspace == "team"


async def test_workspaces_get_ranges_of_uids_of_their_own(world: World) -> None:
    first, second, node = await world.client(), await world.client("team"), await world.node()
    for client in (first, second):
        app = await client.app(spec())
        client.call(app.functions["f"], b"x")
    await node.work()
    assert sorted(s.uid_base for s in node.containers.values()) == [1_000_000, 1_065_536]
