"""What drivers and runners are told of a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from squall.build.base import BuiltImage
from squall.node import specs
from squall.node.specs import Places
from squall.runtime.spec import Mount
from squall.wire.messages import StartContainer
from squall.wire.values import FunctionSpec, MountRef, Payload, Recipe, ResourceRequest

IMAGE = BuiltImage(
    "im-1", ("/l/base", "/l/top"), {"A": "image", "B": "image"}, "/work", "/usr/bin/python3.12"
)
PLACES = Places(Path("/s/io"), Path("/s/squall"), {"mo-1": Path("/s/mo-1"), "mo-2": Path("/s/mo-2")})


def order(*mounts: MountRef, **function: object) -> StartContainer:
    spec = FunctionSpec("f", "work", "f", "im-1", mounts=list(mounts), env={"B": "function"}, **function)  # type: ignore[arg-type]
    return StartContainer("ct-1", "fu-1", spec, "ap-1", "w", "main", 1_065_536, Recipe("debian_slim"), {})


def test_a_container_with_mounts() -> None:
    mounts = (MountRef("mo-1", "/squall/source"), MountRef("mo-2", "/data"))
    spec = specs.isolated(order(*mounts), IMAGE, PLACES)
    assert spec.argv == ("/usr/bin/python3.12", "/opt/squall/squall/runner")
    assert spec.layers == IMAGE.layers
    assert spec.mounts == (
        Mount("/s/io", "/run/squall"),
        Mount("/s/squall", "/opt/squall"),
        Mount("/s/mo-1", "/squall/source"),
        Mount("/s/mo-2", "/data"),
    )
    assert all(m.read_only for m in spec.mounts)
    assert (spec.cwd, spec.uid_base, spec.workspace, spec.network) == ("/work", 1_065_536, "w", "egress")
    assert (spec.env["A"], spec.env["B"]) == ("image", "function")
    assert spec.env["SQUALL_SOCKET"] == "/run/squall/agent.sock"
    assert spec.env["PATH"].startswith("/usr/local/sbin")


def test_a_function_cannot_pretend_to_be_another_container() -> None:
    wanted = order()
    wanted.function.env["SQUALL_TASK_ID"] = "ct-other"
    assert specs.isolated(wanted, IMAGE, PLACES).env["SQUALL_TASK_ID"] == "ct-1"


def test_limits_and_network() -> None:
    request = ResourceRequest(cpu_millis=2000, cpu_limit_millis=4000, memory_mib=512, memory_limit_mib=1024)
    spec = specs.isolated(order(resources=request, block_network=True), IMAGE, PLACES)
    assert (spec.resources.cpu_millis, spec.resources.cpu_limit_millis) == (2000, 4000)
    assert (spec.resources.memory_mib, spec.resources.memory_limit_mib) == (512, 1024)
    assert spec.network == "none"


def test_without_mounts_paths_are_the_hosts() -> None:
    wanted = order(MountRef("mo-1", "/squall/source"), MountRef("mo-2", "/squall/source/more"))
    spec = specs.unisolated(wanted, IMAGE, PLACES, Path("/s/home"))
    assert spec.argv[1] == "/s/squall/squall/runner"
    assert spec.mounts == ()
    assert spec.env["SQUALL_SOCKET"] == "/s/io/agent.sock"
    assert specs.config(wanted, PLACES.trees)["paths"] == ["/s/mo-1", "/s/mo-2"]


def test_without_mounts_files_elsewhere_are_refused() -> None:
    with pytest.raises(specs.SpecError, match="/data"):
        specs.unisolated(order(MountRef("mo-2", "/data")), IMAGE, PLACES, Path("/s/home"))


def test_config() -> None:
    wanted = order(MountRef("mo-1", "/squall/source"), MountRef("mo-2", "/squallish/source"))
    config = specs.config(wanted, None)
    assert config["paths"] == ["/squall/source"]
    assert (config["module"], config["qualname"], config["serialized"]) == ("work", "f", False)
    assert specs.config(order(serialized=Payload(b"x")), None)["serialized"] is True
