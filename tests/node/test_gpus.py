"""Which GPUs containers get."""

from __future__ import annotations

import pytest

from squall.node import resources
from squall.node.gpus import Gpus, NoGpuError
from squall.runtime.gpus import Gpu

H100 = [Gpu(minor, "H100", f"GPU-{minor}") for minor in range(3)]
L4 = Gpu(3, "L4", "GPU-3")


def test_what_is_there_is_what_the_node_has() -> None:
    gpus = Gpus([*H100, L4])
    assert gpus.counts == {"H100": 3, "L4": 1}
    assert gpus.take("a", ["H100", "H100"]) == (H100[0], H100[1])
    assert gpus.take("b", ["L4", "H100"]) == (L4, H100[2])


def test_no_device_is_given_twice() -> None:
    gpus = Gpus(H100)
    gpus.take("a", ["H100", "H100"])
    with pytest.raises(NoGpuError, match="2 GPUs of type H100 are needed, and 1 are free here"):
        gpus.take("b", ["H100", "H100"])
    gpus.give_back("a")
    assert gpus.take("b", ["H100", "H100"]) == (H100[0], H100[1])
    gpus.give_back("nobody")


def test_an_adopted_container_keeps_its_devices() -> None:
    gpus = Gpus(H100)
    gpus.adopt("a", [0, 9])
    assert gpus.take("b", ["H100"]) == (H100[1],)


def test_fewer_may_be_declared_than_there_are() -> None:
    gpus = Gpus([*H100, L4], {"H100": 1})
    assert gpus.counts == {"H100": 1}
    gpus.take("a", ["H100"])
    with pytest.raises(NoGpuError):
        gpus.take("b", ["H100"])
    with pytest.raises(NoGpuError, match="this node has no GPU of type L4"):
        gpus.take("c", ["L4"])
    assert Gpus([L4], {}).present == []


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="H100:8 is declared, and this machine has 3 of them"):
        Gpus(H100, {"H100": 8})


def test_types_without_devices_are_for_planning() -> None:
    gpus = Gpus([L4], {"B200": 8})
    assert gpus.counts == {"B200": 8}
    assert gpus.only_declared == ["B200"]
    assert gpus.take("a", ["B200"]) == ()
    told = resources.of_this_machine("namespaces", (), gpus)
    assert told.gpus == {"B200": 8}
    assert told.losses == ["GPUs of type B200 are declared only: containers get no device."]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("", None), ("none", {}), ("H100:2, L4", {"H100": 2, "L4": 1}), ("T4,T4", {"T4": 2})],
)
def test_the_option(text: str, meaning: dict[str, int] | None) -> None:
    assert resources.parse_gpus(text) == meaning
