"""Images are built once, where there is a node, and the log goes to all who wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.wire import codec, control
from squall.wire import messages as m
from squall.wire.control import ImageEnsure, ManifestPut
from squall.wire.hashing import manifest_id, recipe_id
from squall.wire.values import Manifest, Recipe, Step
from tests.server.fakes import IMAGE, RECIPE, FakeClient, settle

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


def ask(client: FakeClient, image: str = IMAGE, recipe: Recipe = RECIPE) -> None:
    client.send(m.Request(500, "image.ensure", codec.pack(ImageEnsure(image, recipe))))


def answer(client: FakeClient) -> object:
    return client.answer(500, "image.ensure")


async def test_two_who_ask_wait_for_one_build(world: World) -> None:
    first, second, node = await world.client(), await world.client(), await world.node()
    node.hold = True
    ask(first)
    await settle()
    node.send(m.BuildLog(IMAGE, b"early\n", 1, 2))
    ask(second)
    await settle()
    node.send(m.BuildLog(IMAGE, b"late\n", 2, 2))
    assert answer(first) is None
    node.send(m.ImageDone(IMAGE))
    await settle()
    assert len(node.of(m.BuildImage)) == 1
    for client in (first, second):
        assert [log.data for log in client.of(m.BuildLog)] == [b"early\n", b"late\n"]
        assert answer(client) == control.Empty()


async def test_each_workspace_builds_in_its_own_range_of_uids(world: World) -> None:
    node = await world.node()
    node.hold = True
    orders = []
    for workspace, word in (("default", "a"), ("team", "b")):
        recipe = Recipe("debian_slim", "", [Step("run", {"commands": [word]})])
        ask(await world.client(workspace), recipe_id(recipe), recipe)
        await settle()
        orders.append(node.of(m.BuildImage)[-1])
    assert [order.workspace for order in orders] == ["default", "team"]
    assert orders[0].uid_base >= 1_000_000
    assert orders[1].uid_base - orders[0].uid_base == 65_536


async def test_an_image_that_is_there_is_not_built(world: World) -> None:
    client, node = await world.client(), await world.node()
    ask(client)
    await node.work()
    assert await client.ask("image.ensure", ImageEnsure(IMAGE, RECIPE)) == control.Empty()
    assert len(node.of(m.BuildImage)) == 1


async def test_a_failed_build_shows_its_last_lines(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    ask(client)
    await settle()
    node.send(m.ImageDone(IMAGE, "step 1 failed with exit code 1", "no such package: nmupy"))
    await settle()
    failure = answer(client)
    assert failure == m.Failure(500, "build", "step 1 failed with exit code 1\nno such package: nmupy")
    ask(client)
    await settle()
    assert len(node.of(m.BuildImage)) == 1, "the same request again has the same answer"
    assert (await (await world.client()).ask("status")).nodes[0].state == "connected"


async def test_a_build_survives_its_node(world: World) -> None:
    client, first = await world.client(), await world.node("no-1")
    first.hold = True
    ask(client)
    await settle()
    first.beating = False
    second = await world.node("no-2")
    await world.clock.advance(36)
    await second.work()
    assert answer(client) == control.Empty()


async def test_a_build_request_that_got_lost_is_repeated(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    ask(client)
    await settle()
    node.connection.close()
    node.hold = False
    await node.connect()
    await node.work()
    assert answer(client) == control.Empty()


async def test_without_a_node_it_waits_then_says_so(world: World) -> None:
    client = await world.client()
    ask(client)
    await settle()
    assert [n.text for n in client.of(m.Notice)] == ["the image waits for a node to connect"]
    await world.clock.advance(61)
    failure = answer(client)
    assert isinstance(failure, m.Failure)
    assert failure.code == "unavailable"


async def test_a_node_that_comes_late_builds(world: World) -> None:
    client = await world.client()
    ask(client)
    await world.clock.advance(30)
    node = await world.node()
    await node.work()
    assert answer(client) == control.Empty()


async def test_the_id_must_be_the_recipes(world: World) -> None:
    client = await world.client()
    answer = await client.ask("image.ensure", ImageEnsure(IMAGE, Recipe("other")))
    assert answer.code == "invalid"


async def test_files_of_steps_must_be_the_workspaces_own(world: World) -> None:
    manifest = Manifest([])
    put = ManifestPut(manifest_id(manifest), manifest)
    recipe = Recipe("debian_slim", steps=[Step("copy", {"sources": [{"manifest": put.id, "target": "/x"}]})])
    ensure = ImageEnsure(recipe_id(recipe), recipe)
    owner, thief, node = await world.client(), await world.client("other"), await world.node()
    assert await owner.ask("manifest.put", put) == control.Empty()
    assert (await thief.ask("image.ensure", ensure)).code == "not_found"
    assert node.of(m.BuildImage) == []
    ask(owner, ensure.image, recipe)
    await node.work()
    (build,) = node.of(m.BuildImage)
    assert build.manifests == {put.id: manifest}
