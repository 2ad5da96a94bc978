from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall.build import kit, records
from squall.build.base import BuildError, BuiltImage
from squall.build.bases.debian import DebianSlim
from squall.build.bases.host import HostCopy
from squall.build.directories import DirectoryBuilder
from squall.build.pipconfig import PipSettings
from squall.wire.hashing import recipe_id
from squall.wire.values import Manifest, Recipe, Step
from tests.build.doubles import Call, FakeHost, FolderFiles, RecordingSandbox, debian

if TYPE_CHECKING:
    from squall.build.machine import Machine

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Node:
    """A builder with doubles around it."""

    def __init__(self, state: Path, machine: Machine) -> None:
        self.state = state
        self.sandbox = RecordingSandbox()
        self.host = FakeHost()
        self.machine = machine
        self.log: list[tuple[bytes, int, int]] = []
        self.restart()

    def restart(self) -> None:
        self.builder = DirectoryBuilder(
            self.state, self.sandbox, FolderFiles(self.state), self.host, read_machine=self._machine
        )

    async def _machine(self) -> Machine:
        return self.machine

    def ensure(
        self, *steps: Step, python: str = "", manifests: dict[str, Manifest] | None = None
    ) -> BuiltImage:
        recipe = Recipe("debian_slim", python, list(steps))
        return asyncio.run(self.builder.ensure(recipe, manifests or {}, lambda *line: self.log.append(line)))

    @property
    def text(self) -> str:
        return b"".join(data for data, _, _ in self.log).decode()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    return Node(tmp_path / "state", debian(OWN))


def run(*commands: str, force: bool = False) -> Step:
    return Step("run", {"commands": list(commands)}, force)


def env(**variables: str) -> Step:
    return Step("env", {"vars": variables})


def test_layers_stack_from_the_base_up(node: Node) -> None:
    image = node.ensure(run("a"), run("b"))

    first, second = node.sandbox.calls
    assert image.layers == (*second.layers, str(second.upper))
    assert second.layers == (*first.layers, str(first.upper))
    assert len(image.layers) == 3
    assert image.python == f"/usr/bin/python{OWN}"
    assert image.workdir == "/root"


def test_a_whole_image_is_found_at_once_and_by_a_later_process(node: Node) -> None:
    image = node.ensure(run("a"), env(A="1"))
    node.restart()

    assert node.ensure(run("a"), env(A="1")) == image
    assert len(node.sandbox.calls) == 1
    assert asyncio.run(node.builder.images()) == [image.id]
    assert image.id == recipe_id(Recipe("debian_slim", "", [run("a"), env(A="1")]))


def test_equal_beginnings_are_built_once(node: Node) -> None:
    one = node.ensure(run("a"), run("b"))
    two = node.ensure(run("a"), run("c"))

    assert one.layers[:2] == two.layers[:2]
    assert [call.argv[2] for call in node.sandbox.calls] == ["a", "b", "c"]
    assert node.host.ran == ["debian"]
    assert "Step 1 of 2: run_commands a (cached)" in node.text


def test_at_the_same_time_too(node: Node) -> None:
    async def both() -> list[BuiltImage]:
        recipes = [Recipe("debian_slim", "", [run("a"), run(last)]) for last in ("b", "c")]
        return await asyncio.gather(*(node.builder.ensure(r, {}, lambda *_: None) for r in recipes))

    one, two = asyncio.run(both())

    assert one.layers[:2] == two.layers[:2]
    assert node.host.ran == ["debian"]
    assert len(node.sandbox.calls) == 3


def test_what_env_and_workdir_say_has_a_part_in_the_steps_after(node: Node) -> None:
    one = node.ensure(env(A="1"), run("echo $A > /a"))
    two = node.ensure(env(A="2"), Step("workdir", {"path": "/w"}), run("echo $A > /a"))

    assert one.layers[1] != two.layers[1]
    assert node.sandbox.calls[1].env["A"] == "2"
    assert node.sandbox.calls[1].cwd == two.workdir == "/w"
    assert two.env == {"A": "2"}


def test_variables_of_one_step_are_of_its_commands_alone(node: Node) -> None:
    with_own = Step("run", {"commands": ["echo $A > /a"], "env": {"A": "3"}})
    plain = node.ensure(env(A="1"), run("echo $A > /a"))
    image = node.ensure(env(A="1"), with_own, run("echo $A > /b"))
    assert [call.env["A"] for call in node.sandbox.calls] == ["1", "3", "1"]
    assert image.env == {"A": "1"}
    assert image.layers[1] != plain.layers[1]


def test_forcing_builds_anew_with_all_that_stands_on_it(node: Node) -> None:
    before = node.ensure(run("a"), run("b"))
    node.ensure(run("a", force=True))

    after = node.ensure(run("a"), run("b", force=True))

    assert after.layers[0] == before.layers[0]
    assert after.layers[1] != before.layers[1]
    assert after.layers[2] != before.layers[2]
    assert len(node.sandbox.calls) == 4


def test_a_failing_step_leaves_no_layer_and_is_tried_again(node: Node) -> None:
    node.sandbox.code = 7
    with pytest.raises(BuildError) as caught:
        node.ensure(run("a"), run("b"))
    assert str(caught.value) == "step 1 of 2 (run_commands a) failed with exit code 7"
    assert caught.value.tail == "last words"
    assert len(list((node.state / "layers").glob("*/fs"))) == 1  # the base

    node.sandbox.code = 0
    assert len(node.ensure(run("a"), run("b")).layers) == 3


def test_a_layer_is_on_disk_before_it_counts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves is then a layer without a record, or a whole one."""
    seen: list[tuple[bool, bool]] = []
    really = records._libc.syncfs

    def syncfs(fd: int) -> int:
        folder = Path(os.readlink(f"/proc/self/fd/{fd}"))
        record = folder.with_name(f"{folder.name.partition('.')[0]}.json")
        seen.append((any(folder.iterdir()), record.exists()))
        return int(really(fd))

    monkeypatch.setattr(records._libc, "syncfs", syncfs)
    image = node.ensure(run("a"))
    assert seen == [(True, False), (True, False)]

    def broken(_fd: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(records._libc, "syncfs", broken)
    with pytest.raises(OSError, match="cannot be written to disk: Input/output error"):
        node.ensure(run("a"), run("b"))
    assert len(list((node.state / "layers").glob("*/fs"))) == len(image.layers)


def test_what_a_killed_build_left_is_never_used_and_swept_away(node: Node) -> None:
    image = node.ensure(run("a"))
    (made,) = (path for path in (node.state / "layers").glob("*/fs") if str(path) == image.layers[1])
    half = made.parent.with_name(made.parent.name.partition(".")[0] + ".0000")
    (half / "fs").mkdir(parents=True)
    unknown = half.with_name("la-unknown.0000")
    unknown.mkdir()
    node.restart()

    assert sorted(asyncio.run(node.builder.sweep())) == sorted([half.name, unknown.name])
    assert node.ensure(run("a")) == image


def test_sweeping_spares_what_is_built_and_what_runs(node: Node) -> None:
    old = node.ensure(run("a"))
    node.ensure(run("a", force=True))

    async def sweep_during_a_build() -> list[str]:
        found: list[str] = []

        def check(_: Call) -> None:
            found.extend(p.name for p in (node.state / "layers").iterdir() if p.is_dir())

        node.sandbox.during = check
        await node.builder.ensure(Recipe("debian_slim", "", [run("z")]), {}, lambda *_: None)
        return await node.builder.sweep([old.layers[1]])

    assert asyncio.run(sweep_during_a_build()) == []
    assert len(asyncio.run(node.builder.sweep())) == 1
    assert not node.state.joinpath(old.layers[1]).exists()


def test_a_layer_that_is_being_made_is_not_swept(node: Node) -> None:
    async def scenario() -> list[str]:
        store = node.builder._layers
        async with store.locks.hold("la-1"), store.making("la-1") as layer:
            removed = await node.builder.sweep()
            layer.fs.mkdir()
        return removed

    assert asyncio.run(scenario()) == []
    assert node.builder._layers.find("la-1") is not None


def test_an_image_whose_layer_was_lost_is_built_again(node: Node) -> None:
    image = node.ensure(run("a"))
    shutil.rmtree(image.layers[1])

    assert asyncio.run(node.builder.images()) == []
    assert node.ensure(run("a")).layers[0] == image.layers[0]
    assert len(node.sandbox.calls) == 2


def test_the_host_is_the_base_where_no_mirror_is_reached(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(_: str) -> HostCopy:
        return HostCopy("/usr/bin/python-of-the-host")

    monkeypatch.setattr(HostCopy, "find", find)
    node.host.fail = ("debian",)

    image = node.ensure(run("a"))

    assert node.host.ran == ["debian", "host"]
    assert image.python == "/usr/bin/python-of-the-host"
    assert "Cannot make debian_slim" in node.text
    assert "own Python: False" in node.text
    assert len(list((node.state / "layers").glob("*/fs"))) == 2


def test_a_base_that_cannot_be_made_at_all(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(_: str) -> None:
        return None

    monkeypatch.setattr(HostCopy, "find", find)
    node.host.fail = ("debian",)

    with pytest.raises(BuildError, match="cannot be made") as caught:
        node.ensure(run("a"))
    assert caught.value.tail == "no mirror"


def test_a_python_that_cannot_be_had_is_an_error_before_the_build(node: Node) -> None:
    with pytest.raises(BuildError, match=rf"bookworm.*has {OWN}.*python_version='{OWN}'"):
        node.ensure(run("a"), python="3.99")
    assert node.host.ran == []


def test_the_chosen_base_is_part_of_the_hash() -> None:
    debians = [DebianSlim(debian(python)).layer_id for python in ("3.11", "3.13")]

    assert len({*debians, HostCopy("/usr/bin/python3.11").layer_id}) == 3


def test_a_step_sees_the_machines_packages_and_nothing_of_them_is_hashed(node: Node, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def look(call: Call) -> None:
        lent = next(host for host, target in call.binds.items() if target == kit.POINT)
        seen.update(kit=lent, names=sorted(p.name for p in type(tmp_path)(lent).iterdir()), call=call)

    plain = node.ensure(run("a"))
    (tmp_path / "pypi" / "simple").mkdir(parents=True)
    (tmp_path / "limits.txt").write_text("six<2")
    node.machine = debian(
        OWN,
        PipSettings(
            extra_index_urls=(f"file://{tmp_path}/pypi/simple", f"file://{tmp_path}/gone"),
            constraints=(f"{tmp_path}/limits.txt",),
        ),
    )
    node.sandbox.during = look

    image = node.ensure(run("a"), run("b"))

    call = seen["call"]
    assert image.layers[:2] == plain.layers
    assert list(call.binds.values())[:2] == [kit.POINT, kit.UV]
    assert call.binds[f"{tmp_path}/pypi"] == f"{kit.POINT}/local-0"
    assert call.env["UV_INDEX"] == f"file://{kit.POINT}/local-0/simple"
    assert call.env["UV_CONSTRAINT"] == f"{kit.POINT}/constraints-0.txt"
    assert {"constraints-0.txt", "local-0", "pip.conf", "apt", "uv"} <= set(seen["names"])
    assert not any(str(tmp_path / "pypi") in value for value in call.env.values())
    assert list((node.state / "kits").iterdir()) == []


def test_files_are_copied_from_where_the_node_has_them(node: Node) -> None:
    step = Step("files", {"manifest": "mo-1", "target": "/srv"})

    node.ensure(step, manifests={"mo-1": Manifest([])})

    (call,) = node.sandbox.calls
    assert call.binds[str(node.state)] == kit.FILES
    assert call.argv[-2:] == (kit.FILES, "/srv")
    with pytest.raises(BuildError, match="were not sent"):
        node.ensure(Step("files", {"manifest": "mo-2", "target": "/srv"}))


def test_output_is_told_with_the_number_of_its_step(node: Node) -> None:
    node.ensure(env(A="1"), run("a"))

    assert {(number, total) for _, number, total in node.log} == {(0, 2), (1, 2), (2, 2)}
    assert (b"working\n", 2, 2) in node.log
