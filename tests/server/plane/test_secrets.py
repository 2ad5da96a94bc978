"""Secrets through the control plane: who reaches them, what containers get, when they go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from squall.server.secrets import MAX_BYTES, MAX_KEYS, UNUSED
from squall.wire import control
from squall.wire import messages as m
from squall.wire import secrets as wire_secrets
from squall.wire.values import LogItem, Overrides, SecretRef
from tests.server.fakes import IMAGE, RECIPE, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import FakeClient, World

pytestmark = pytest.mark.anyio

VALUE = "hunter2-abcdefg"


async def made(client: FakeClient, name: str = "db", **values: str) -> SecretRef:
    info = await client.ask("secret.put", wire_secrets.SecretPut(values or {"PASSWORD": VALUE}, name))
    assert isinstance(info, wire_secrets.SecretInfo), info
    return SecretRef(info.id, info.name, info.version)


def with_secrets(*refs: SecretRef) -> Any:
    return replace(spec(), secrets=list(refs))


async def test_no_answer_has_a_value(world: World) -> None:
    client = await world.client()
    ref = await made(client)
    told = await client.ask("secret.get", wire_secrets.SecretGet("db", ["PASSWORD"]))
    assert (told.id, told.name, told.version, told.keys) == (ref.id, "db", 1, ["PASSWORD"])
    assert (await client.ask("secret.list")).secrets == [told]
    assert not any(VALUE.encode() in record.sealed for record in await world.store.all_secrets())


async def test_what_is_missing_is_said(world: World) -> None:
    client = await world.client()
    await made(client)
    said = await client.ask("secret.get", wire_secrets.SecretGet("db", ["USER", "PASSWORD"]))
    assert (said.code, said.message) == ("not_found", "the secret db has no USER: it has PASSWORD")
    said = await client.ask("secret.get", wire_secrets.SecretGet("none"))
    assert "squall secret create none" in said.message
    assert (await client.ask("secret.put", wire_secrets.SecretPut({}, "none", "update"))).code == "not_found"


async def test_create_replace_update_delete(world: World) -> None:
    client = await world.client()
    ref = await made(client, A="1111", B="2222")
    assert (await client.ask("secret.put", wire_secrets.SecretPut({}, "db"))).code == "exists"
    update = wire_secrets.SecretPut({"C": "3333"}, "db", "update", ["A"])
    assert (await client.ask("secret.put", update)).keys == ["B", "C"]
    replaced = await client.ask("secret.put", wire_secrets.SecretPut({"Z": "9999"}, "db", "replace"))
    assert (replaced.id, replaced.version, replaced.keys) == (ref.id, 3, ["Z"])
    await client.ask("secret.delete", wire_secrets.SecretDelete("db"))
    assert (await client.ask("secret.list")).secrets == []
    assert (await client.ask("secret.delete", wire_secrets.SecretDelete("db"))).code == "not_found"


@pytest.mark.parametrize(
    "values",
    [
        {"1A": "x"},
        {"SQUALL_TOKEN": "x"},
        {"A=B": "x"},
        {"A": "nul\0"},
        {"A": "x" * (MAX_BYTES + 1)},
        {f"A{n}": "" for n in range(MAX_KEYS + 1)},
    ],
)
async def test_sizes_and_names_are_bounded(world: World, values: dict[str, str]) -> None:
    client = await world.client()
    said = await client.ask("secret.put", wire_secrets.SecretPut(values, "db"))
    assert said.code == "invalid"
    assert "\n" not in said.message


async def test_another_workspace_and_environment_cannot_reach_it(world: World) -> None:
    client = await world.client()
    ref = await made(client)
    for stranger in (await world.client("other"), await world.client(environment="staging")):
        assert (await stranger.ask("secret.get", wire_secrets.SecretGet("db"))).code == "not_found"
        assert (await stranger.ask("secret.delete", wire_secrets.SecretDelete("db"))).code == "not_found"
        assert (await stranger.ask("secret.list")).secrets == []
    other = await world.client("other")
    app = await other.ask("app.create", control.AppCreate("theirs"))
    body = control.AppPublish(app.id, [with_secrets(ref)], {IMAGE: RECIPE})
    assert (await other.ask("app.publish", body)).code == "not_found"


async def test_only_containers_that_name_it_get_it(world: World) -> None:
    client, node = await world.client(), await world.node()
    ref, later = await made(client), await made(client, "more", PASSWORD="above-it", X="xxxx")
    first = await client.app(with_secrets(ref, later))
    second = await client.app(spec(), name="plain")
    for app in (first, second):
        client.call(next(iter(app.functions.values())), b"x")
        await node.work()
    got = sorted((start.secrets for start in node.containers.values()), key=len)
    assert got == [{}, {"PASSWORD": "above-it", "X": "xxxx"}]
    assert "above-it" not in repr(list(node.containers.values()))


async def test_new_containers_get_the_newest_value(world: World) -> None:
    client, node = await world.client(), await world.node()
    ref = await made(client)
    app = await client.app(with_secrets(ref), deploy=True)
    await client.ask("secret.put", wire_secrets.SecretPut({"PASSWORD": "newer-value"}, "db", "replace"))
    client.call(app.functions["f"], b"x")
    await node.work()
    assert [start.secrets for start in node.containers.values()] == [{"PASSWORD": "newer-value"}]


async def test_a_deleted_one_fails_the_start_and_says_which(world: World) -> None:
    client, node = await world.client(), await world.node()
    ref = await made(client)
    app = await client.app(with_secrets(ref))
    await client.ask("secret.delete", wire_secrets.SecretDelete("db"))
    call = client.call(app.functions["f"], b"x")
    await node.work()
    assert node.containers == {}
    error = client.results(call)[0].error
    assert error is not None
    assert "needs the secret db, which is not there any more" in error.message


async def test_a_variant_has_more_of_them(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(with_secrets(await made(client)))
    ref = await made(client, "", EXTRA="extra-value")
    body = control.FunctionVariant(app.functions["f"], overrides=Overrides(secrets=[ref]))
    variant = await client.ask("function.variant", body)
    client.call(variant.id, b"x")
    await node.work()
    (start,) = node.containers.values()
    assert start.secrets == {"PASSWORD": VALUE, "EXTRA": "extra-value"}


async def test_logs_and_errors_are_redacted(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(with_secrets(await made(client)))
    client.call(app.functions["f"], b"x")
    await node.work()
    (container,) = node.containers
    for piece in (b"password hunter2-", b"abcdefg!\n", b"hunt"):
        node.connection.deliver(m.NodeLogs([LogItem(container, "f", 1, piece, 0.0)]))
    node.connection.deliver(
        m.ContainerState(container, "exited", "exit", f"exited with {VALUE}", exit_code=1)
    )
    await settle()
    printed = b"".join(item.data for logs in client.of(m.Logs) for item in logs.items)
    assert printed == b"password [redacted]!\nhunt"
    assert VALUE not in repr(client.connection.sent)


async def test_nameless_ones_live_as_long_as_an_app_uses_them(world: World) -> None:
    client = await world.client()
    first, same = await made(client, "", A="aaaa"), await made(client, "", A="aaaa")
    unused = await made(client, "", B="bbbb")
    assert first == same
    assert (await client.ask("secret.list")).secrets == []
    app = await client.app(with_secrets(first))
    other = await client.app(with_secrets(first), name="other")
    world.clock.time += UNUSED + 1
    await client.ask("app.stop", control.AppRef(app.app))
    assert [record.id for record in await world.store.all_secrets()] == [first.id]
    await client.ask("app.stop", control.AppRef(other.app))
    assert await world.store.all_secrets() == []
    assert unused.id != first.id


async def test_after_a_restart_they_open_and_logs_are_redacted(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(with_secrets(await made(client)), deploy=True)
    node.hold = True
    client.call(app.functions["f"], b"x", durable=True)
    await node.work()
    (container,) = node.containers
    await world.restart()
    await client.connect()
    await node.connect()
    await settle()
    await client.ask("logs.follow", control.AppRef(app.app))
    node.connection.deliver(m.NodeLogs([LogItem(container, "f", 1, VALUE.encode() + b"\n", 0.0)]))
    await settle()
    printed = b"".join(item.data for logs in client.of(m.Logs) for item in logs.items)
    assert printed == b"[redacted]\n"


async def test_rotation_is_for_the_machines_own_user(world: World) -> None:
    client, stranger = await world.client(), await world.client("other")
    await made(client)
    await made(stranger)
    before = world.vault.key_id
    assert (await stranger.ask("secret.rotate")).code == "auth"
    assert (await client.ask("secret.rotate")).number == 2
    assert world.vault.key_id != before
    assert {record.sealed[:4] for record in await world.store.all_secrets()} == {world.vault.key_id}
