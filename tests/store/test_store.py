"""One suite for every store: SQLite on disk and the double in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from squall.store.base import (
    AppRecord,
    CallRecord,
    FunctionRecord,
    Identity,
    InputRecord,
    NotFound,
    OutputRecord,
    SecretRecord,
    StoreError,
    VersionRecord,
)

if TYPE_CHECKING:
    from squall.store.base import Store

pytestmark = pytest.mark.anyio

APP = AppRecord("ap-1", "default", "main", "demo", "deployed", 1.0, 1)
CALL = CallRecord("fc-1", "default", "main", "fu-1", "map", 1.0, "fc-0:7", complete=False)


def function(version: int, name: str = "f", app: str = "ap-1") -> FunctionRecord:
    return FunctionRecord(f"fu-{app}-{name}-{version}", app, "default", "main", name, version, b"\0s", b"r")


def inputs(call: str, *indexes: int) -> list[InputRecord]:
    return [InputRecord(call, index, b"in%d" % index) for index in indexes]


async def test_workspaces_get_ranges_of_their_own(store: Store) -> None:
    first, second = await store.create_workspace("a"), await store.create_workspace("b")
    assert (first.uid_index, second.uid_index) == (0, 1)
    assert await store.create_workspace("a") == first
    assert await store.workspace("b") == second
    with pytest.raises(NotFound, match="no workspace 'c'"):
        await store.workspace("c")


async def test_tokens(store: Store) -> None:
    await store.create_workspace("a")
    await store.add_token("hash", Identity("a", "client"))
    assert await store.identify("hash") == Identity("a", "client")
    with pytest.raises(NotFound):
        await store.identify("other")
    with pytest.raises(StoreError):
        await store.add_token("x", Identity("no such workspace", "client"))
    with pytest.raises(NotFound):
        await store.identify("x")


async def test_nodes(store: Store) -> None:
    for node in ("no-2", "no-1", "no-2"):
        await store.add_node(node)
    assert await store.nodes() == ["no-1", "no-2"]
    await store.remove_node("no-2")
    await store.remove_node("no-3")
    assert await store.nodes() == ["no-1"]


async def test_an_app_is_replaced_by_its_id(store: Store) -> None:
    await store.put_app(APP)
    await store.put_app(replace(APP, state="stopped", version=3))
    assert await store.app("ap-1") == replace(APP, state="stopped", version=3)
    with pytest.raises(NotFound):
        await store.app("ap-2")


async def test_an_app_is_found_by_name_while_deployed(store: Store) -> None:
    await store.put_app(APP)
    assert await store.app_by_name("default", "main", "demo") == APP
    for place in (("other", "main", "demo"), ("default", "other", "demo"), ("default", "main", "other")):
        with pytest.raises(NotFound):
            await store.app_by_name(*place)
    await store.put_app(replace(APP, state="stopped"))
    with pytest.raises(NotFound):
        await store.app_by_name("default", "main", "demo")


async def test_one_deployed_app_of_a_name(store: Store) -> None:
    await store.put_app(APP)
    with pytest.raises(StoreError, match="refused"):
        await store.put_app(replace(APP, id="ap-2"))
    await store.put_app(replace(APP, id="ap-2", state="ephemeral"))
    assert (await store.app_by_name("default", "main", "demo")).id == "ap-1"


async def test_apps_come_newest_first(store: Store) -> None:
    old, new = replace(APP, created=1.0), replace(APP, id="ap-2", created=2.0, state="stopped")
    other = replace(APP, id="ap-3", workspace="other")
    for app in (old, new, other):
        await store.put_app(app)
    assert await store.apps("default") == [new, old]
    assert {app.id for app in await store.apps()} == {"ap-1", "ap-2", "ap-3"}
    assert await store.apps("default", ["deployed", "ephemeral"]) == [old]
    assert await store.apps(states=["stopped"]) == [new]


async def test_publish_and_versions(store: Store) -> None:
    await store.publish(APP, [function(1, "b"), function(1, "a")], 5.0)
    await store.publish(replace(APP, version=2), [function(2, "a")], 6.0)
    assert await store.functions("ap-1") == [function(2, "a")]
    assert await store.functions("ap-1", 1) == [function(1, "a"), function(1, "b")]
    assert await store.functions("ap-2") == []
    assert (await store.app("ap-1")).version == 2
    tag = APP.tag
    assert await store.versions("ap-1") == [
        VersionRecord("ap-1", 2, 6.0, tag),
        VersionRecord("ap-1", 1, 5.0, tag),
    ]
    assert await store.versions("ap-2") == []
    assert await store.function("fu-ap-1-b-1") == function(1, "b")
    with pytest.raises(NotFound):
        await store.function("fu-none")


async def test_publish_is_all_or_nothing(store: Store) -> None:
    await store.put_app(APP)
    with pytest.raises(StoreError):
        await store.publish(replace(APP, version=2), [function(2), function(2, app="ap-unknown")], 7.0)
    assert (await store.app("ap-1")).version == 1
    assert await store.functions("ap-1") == []
    assert await store.versions("ap-1") == []


async def test_manifests_belong_to_a_workspace(store: Store) -> None:
    await store.put_manifest("a", "mo-1", b"data")
    await store.put_manifest("a", "mo-1", b"data")
    assert await store.manifest("a", "mo-1") == b"data"
    with pytest.raises(NotFound):
        await store.manifest("b", "mo-1")


async def test_functions_change_one_by_one(store: Store) -> None:
    await store.publish(APP, [function(1)], 5.0)
    variant = replace(function(1), id="fu-v", spec=b"", recipe=b"", parent="x", variant=b"asked")
    await store.put_function(variant)
    await store.put_function(replace(variant, autoscaler=b"scaled"))
    assert await store.function("fu-v") == replace(variant, autoscaler=b"scaled")
    assert [f.id for f in await store.functions("ap-1")] == ["fu-ap-1-f-1", "fu-v"]
    await store.remove_functions(["fu-v", "fu-none"])
    assert [f.id for f in await store.functions("ap-1")] == ["fu-ap-1-f-1"]
    with pytest.raises(StoreError, match="refused"):
        await store.put_function(replace(variant, app="ap-none"))


async def test_inputs_are_taken_once(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0, 1))
    await store.add_inputs(CALL, [InputRecord("fc-1", 1, b"another"), *inputs("fc-1", 2)])
    assert await store.unfinished() == [(CALL, inputs("fc-1", 0, 1, 2))]
    assert await store.call_size("fc-1") == (3, 0)
    assert await store.call_size("fc-none") == (0, 0)


async def test_calls_are_added_together_and_once(store: Store) -> None:
    other, third = replace(CALL, id="fc-2"), replace(CALL, id="fc-3", workspace="other")
    assert await store.add_calls([(CALL, inputs("fc-1", 0)), (third, inputs("fc-3", 0))]) == set()
    again = [(replace(CALL, complete=True), inputs("fc-1", 1)), (other, inputs("fc-2", 0, 1))]
    assert await store.add_calls([*again, (replace(third, workspace="w"), inputs("fc-3", 1))]) == {
        "fc-1",
        "fc-3",
    }
    assert await store.call("fc-1") == CALL
    assert await store.call("fc-3") == third
    sizes = [await store.call_size(call) for call in ("fc-1", "fc-2", "fc-3")]
    assert sizes == [(1, 0), (2, 0), (1, 0)]


async def test_complete_sticks(store: Store) -> None:
    await store.add_inputs(CALL, [])
    assert await store.call("fc-1") == CALL
    await store.add_inputs(replace(CALL, complete=True), [])
    await store.add_inputs(CALL, [])
    assert await store.call("fc-1") == replace(CALL, complete=True)


@pytest.mark.parametrize("stranger", [{"workspace": "other"}, {"environment": "other"}])
async def test_a_call_of_somebody_else_is_not_added_to(store: Store, stranger: dict[str, str]) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0))
    with pytest.raises(NotFound):
        await store.add_inputs(replace(CALL, **stranger, complete=True), inputs("fc-1", 1))  # type: ignore[arg-type]
    assert await store.unfinished() == [(CALL, inputs("fc-1", 0))]


async def test_attempts_are_remembered(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0, 1))
    await store.set_attempts([("fc-1", 1, 4), ("fc-1", 9, 1), ("fc-none", 0, 1)])
    ((_, waiting),) = await store.unfinished()
    assert [(i.index, i.attempt) for i in waiting] == [(0, 0), (1, 4)]


async def test_the_first_output_stays(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0, 1, 2))
    first = [OutputRecord("fc-1", 2, b"two", 2.0), OutputRecord("fc-1", 0, b"zero", 2.0)]
    await store.add_outputs(first)
    await store.add_outputs([OutputRecord("fc-1", 0, b"late", 3.0)])
    assert await store.call_outputs("fc-1") == first[::-1]
    assert await store.call_outputs("fc-1", 1) == first[:1]
    assert await store.call_size("fc-1") == (3, 2)
    assert await store.unfinished() == [(CALL, inputs("fc-1", 1))]


async def test_outputs_of_what_was_forgotten_are_dropped(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0))
    await store.add_outputs([OutputRecord("fc-none", 0, b"", 1.0), OutputRecord("fc-1", 5, b"", 1.0)])
    assert await store.call_outputs("fc-none") == await store.call_outputs("fc-1") == []


async def test_a_cancelled_call_is_still_unfinished(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0))
    await store.cancel_call("fc-1")
    await store.cancel_call("fc-none")
    assert (await store.call("fc-1")).cancelled
    ((call, _),) = await store.unfinished()
    assert call.cancelled


async def test_unfinished_calls_come_oldest_first(store: Store) -> None:
    for number, created in enumerate((3.0, 1.0, 2.0)):
        call = replace(CALL, id=f"fc-{number}", created=created)
        await store.add_inputs(call, inputs(call.id, 1, 0))
    found = await store.unfinished()
    assert [call.id for call, _ in found] == ["fc-1", "fc-2", "fc-0"]
    assert all([i.index for i in waiting] == [0, 1] for _, waiting in found)


async def test_calls_expire_when_they_are_done(store: Store) -> None:
    call = replace(CALL, complete=True)
    await store.add_inputs(call, inputs("fc-1", 0, 1))
    await store.add_outputs([OutputRecord("fc-1", 0, b"", 2.0)])
    assert await store.expire(10.0, 0.0) == 0  # an input is under way
    await store.add_outputs([OutputRecord("fc-1", 1, b"", 5.0)])
    assert await store.expire(5.0, 0.0) == 0  # an output is not old enough
    assert await store.expire(5.1, 0.0) == 1
    assert await store.call_size("fc-1") == (0, 0)
    assert await store.call_outputs("fc-1") == []
    assert (await store.call("fc-1")).expired
    assert await store.expire(9.0, CALL.created + 0.1) == 0  # long after: nobody will ask any more
    with pytest.raises(NotFound):
        await store.call("fc-1")


async def test_apps_that_were_stopped_are_forgotten_in_the_end(store: Store) -> None:
    for name, state in (("ap-1", "stopped"), ("ap-2", "deployed"), ("ap-3", "ephemeral")):
        await store.publish(replace(APP, id=name, name=name, state=state), [function(1, app=name)], 1.0)
    await store.expire(0.0, APP.created)
    assert len(await store.apps()) == 3  # a record may be needed yet
    await store.expire(0.0, APP.created + 0.1)
    assert {app.id for app in await store.apps()} == {"ap-2", "ap-3"}
    with pytest.raises(NotFound):
        await store.function("fu-ap-1-f-1")
    assert await store.versions("ap-1") == []
    assert (await store.function("fu-ap-2-f-1")).app == "ap-2"


async def test_outputs_in_parts(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", *range(6)))
    await store.add_outputs([OutputRecord("fc-1", n, b"", 2.0) for n in (0, 2, 3, 5)])

    async def indexes(start: int, end: int | None = None, limit: int | None = None) -> list[int]:
        return [row.index for row in await store.call_outputs("fc-1", start, end, limit)]

    assert await indexes(1) == [2, 3, 5]
    assert await indexes(0, 3) == [0, 2]
    assert await indexes(1, None, 2) == [2, 3]
    assert await indexes(0, 0) == []


async def test_children_are_found_by_the_call_that_made_them(store: Store) -> None:
    await store.add_inputs(CALL, inputs("fc-1", 0))
    for name, parent, created in (("a", "fc-1:0", 3.0), ("b", "fc-1:12", 2.0), ("c", "fc-12:0", 1.0)):
        await store.add_inputs(replace(CALL, id=f"fc-{name}", parent=parent, created=created), [])
    assert [call.id for call in await store.children("fc-1")] == ["fc-b", "fc-a"]
    assert await store.children("fc-a") == []


async def test_a_call_that_may_grow_does_not_expire(store: Store) -> None:
    await store.add_inputs(CALL, [])
    assert await store.expire(10.0, 0.0) == 0
    await store.add_inputs(replace(CALL, complete=True), [])
    assert await store.expire(10.0, 0.0) == 1


async def test_many_calls_expire(store: Store) -> None:
    for number in range(450):
        await store.add_inputs(replace(CALL, id=f"fc-{number}", complete=True), [])
    assert await store.expire(10.0, 0.0) == 450


def secret(number: int, name: str = "", workspace: str = "default", **changes: Any) -> SecretRecord:
    fields = {"keys": ("A", "B"), "sealed": b"\0sealed", "created": 1.0, "updated": 1.0, **changes}
    return SecretRecord(f"st-{number}", workspace, "main", name, 1, **fields)


async def test_secrets_by_name_and_workspace(store: Store) -> None:
    first, other = secret(1, "db"), secret(2, "db", "other")
    for record in (first, other, secret(3)):
        await store.put_secret(record)
    assert await store.secrets("default", "main") == [first]
    assert await store.secrets("default", "staging") == []
    assert await store.secret("other", "st-2") == other
    with pytest.raises(NotFound):
        await store.secret("default", "st-2")
    with pytest.raises(StoreError):
        await store.put_secret(secret(4, "db"))
    changed = replace(first, version=2, sealed=b"new", updated=2.0, keys=("C",))
    await store.put_secret(changed)
    assert await store.secrets("default", "main") == [changed]
    assert [s.id for s in await store.all_secrets()] == ["st-1", "st-2", "st-3"]
    await store.remove_secret("st-1")
    assert await store.secrets("default", "main") == []


async def test_nameless_secrets_go_when_nobody_uses_them(store: Store) -> None:
    for record in (secret(1), secret(2), secret(3, updated=9.0), secret(4, "named")):
        await store.put_secret(record)
    await store.use_secrets("ap-1", ["st-1", "st-4", "st-none"])
    await store.use_secrets("ap-2", ["st-1"])
    await store.use_secrets("ap-2", ["st-1"])
    await store.release_secrets("", 5.0)
    assert [s.id for s in await store.all_secrets()] == ["st-1", "st-3", "st-4"]
    await store.release_secrets("ap-1", 5.0)
    assert [s.id for s in await store.all_secrets()] == ["st-1", "st-3", "st-4"]
    await store.release_secrets("ap-2", 5.0)
    assert [s.id for s in await store.all_secrets()] == ["st-3", "st-4"]


async def test_blobs_that_records_name(store: Store) -> None:
    async def named() -> set[str]:
        found = await store.named_blobs()
        assert all(workspace == "default" for workspace, _ in found)
        return {blob for _, blob in found}

    await store.put_manifest("default", "mo-1", b"", ["source"])
    await store.put_manifest("default", "mo-1", b"", ["source"])
    await store.publish(APP, [replace(function(1), blob="code")], 1.0)
    await store.add_inputs(CALL, [replace(i, blob=f"in{i.index}") for i in inputs("fc-1", 0, 1, 2)[:2]])
    await store.add_inputs(replace(CALL, complete=True), inputs("fc-1", 2))
    assert await named() == {"source", "code", "in0", "in1"}
    await store.add_outputs([OutputRecord("fc-1", 0, b"", 2.0, "out0"), OutputRecord("fc-1", 2, b"", 2.0)])
    assert await named() == {"source", "code", "in1", "out0"}, "arguments are needed until there is a result"
    await store.add_outputs([OutputRecord("fc-1", 1, b"", 2.0)])
    assert await named() == {"source", "code", "out0"}
    await store.expire(3.0, 0.0)
    assert await named() == {"source", "code"}
    await store.remove_functions([function(1).id])
    assert await named() == {"source"}
