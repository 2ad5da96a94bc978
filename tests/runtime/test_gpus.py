"""GPUs: what the driver tells, and what a container is shown of them.

The root tests use a host root of their own, with harmless devices in the place of NVIDIA's (the same calls
mount them). tests/e2e/test_gpus.py computes on a real GPU, where the machine has one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.runtime.driver import DriverError
from squall.runtime.gpus import Gpu, found, parse, type_of
from squall.runtime.launcher.validate import SpecError, parse_spec
from squall.runtime.spec import ContainerSpec
from tests.runtime.box import UID_BASE, Box

if TYPE_CHECKING:
    from collections.abc import Iterator

INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 26
GPU UUID: \t GPU-6b1d7aa9-0a7b-7cc5-e4a6-8b1ee07a0000
Bus Type: \t PCIe
Device Minor: \t 3
GPU Excluded:\t No
"""

#: Names of the nodes, and the memory devices that stand in their places.
NODES = {"nvidiactl": 3, "nvidia-uvm": 5, "nvidia-uvm-tools": 7, "nvidia0": 5, "nvidia1": 7}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A10G", "A10"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("", "GPU"),
    ],
)
def test_types_are_those_that_functions_ask_for(model: str, name: str) -> None:
    assert type_of(model) == name


def test_the_drivers_words_are_read() -> None:
    assert parse(INFORMATION) == Gpu(3, "H100", "GPU-6b1d7aa9-0a7b-7cc5-e4a6-8b1ee07a0000")


@pytest.mark.parametrize("text", ["", "Model: H100\n", "Device Minor: x\n", "Device Minor: -1\n", ":::\n\n"])
def test_what_names_no_node_is_no_gpu(text: str) -> None:
    assert parse(text) is None


def test_gpus_are_found_in_the_order_of_their_nodes(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    for bus, minor in (("0000:01:00.0", 10), ("0000:02:00.0", 2)):
        folder = tmp_path / "proc/driver/nvidia/gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: NVIDIA L4\nDevice Minor: {minor}\n")
    assert [gpu.minor for gpu in found(tmp_path)] == [2, 10]


@pytest.mark.parametrize("gpus", [[0, 0], [-1], [256], ["0"], [True], list(range(65)), [0.5]])
def test_the_launcher_takes_minor_numbers_only(gpus: list[object]) -> None:
    data = ContainerSpec("a", "tests", UID_BASE, ("true",)).to_json() | {"gpus": gpus}
    with pytest.raises(SpecError):
        parse_spec(data, UID_BASE, UID_BASE)


@pytest.fixture(scope="module")
def host_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("host")
    (root / "dev").mkdir()
    try:
        for name, minor in NODES.items():
            os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            (root / "dev" / name).chmod(0o666)
            os.close(os.open(root / "dev" / name, os.O_RDONLY))
    except OSError as error:
        pytest.skip(f"needs device nodes in a temporary directory: {error}")
    libraries, programs = root / "usr/local/nvidia/lib64", root / "usr/local/nvidia/bin"
    for folder in (libraries, programs):
        folder.mkdir(parents=True)
    (libraries / "libcuda.so.580.1").write_text("cuda")
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.580.1")
    (libraries / "libcuda.so").symlink_to("libcuda.so.1")
    (libraries / "libnvidia-ml.so.580.1").write_text("ml")
    (root / "elsewhere").write_text("by a link that leads out")
    (libraries / "libnvidia-ml.so.1").symlink_to(root / "elsewhere")
    (libraries / "libnvidia-eglcore.so.580.1").write_text("draws")
    (libraries / "secret").write_text("of the host")
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho smi\n")
    (programs / "nvidia-smi").chmod(0o755)
    return root


@pytest.fixture(scope="module")
def gpu_box(namespaces: Path, host_root: Path) -> Iterator[Box]:
    box = Box(namespaces / "gpus", ["--no-network", "--host-root", str(host_root)])
    yield box
    box.close()


@pytest.mark.root
def test_a_container_has_the_gpus_it_was_given_and_no_others(gpu_box: Box) -> None:
    names = set(gpu_box.sh("ls /dev", gpus=(0,)).out.split())
    assert names >= {"nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}
    assert names >= {"null", "tty", "urandom", "pts", "shm", "ptmx", "stdin", "fd"}
    assert "nvidia1" not in names
    assert {"nvidia0", "nvidia1"} <= set(gpu_box.sh("ls /dev", gpus=(1, 0)).out.split())


@pytest.mark.root
def test_devices_work_and_their_directory_cannot_be_changed(gpu_box: Box) -> None:
    script = "head -c 3 /dev/nvidia0 | od -An -tx1; : >/dev/null && echo null; : >/dev/shm/a && echo shm"
    assert gpu_box.sh(script, gpus=(0,)).out.splitlines() == [" 00 00 00", "null", "shm"]
    for change in ("touch /dev/a", "rm /dev/nvidia0", "mknod /dev/a c 1 5", "mknod /tmp/a c 1 5"):
        assert gpu_box.sh(change, gpus=(0,)).status.code != 0


@pytest.mark.root
def test_the_drivers_files_are_shown_and_cannot_be_changed(gpu_box: Box) -> None:
    script = "cd /squall/nvidia; find . | sort; cat lib64/libcuda.so lib64/libnvidia-ml.so.1; bin/nvidia-smi"
    result = gpu_box.sh(f"{script}; echo x >>lib64/libcuda.so.1 || echo refused", gpus=(0,))
    assert result.out == (
        ".\n./bin\n./bin/nvidia-smi\n./lib64\n./lib64/libcuda.so\n./lib64/libcuda.so.1\n./lib64/libcuda.so.580.1\n"
        "./lib64/libnvidia-ml.so.1\n./lib64/libnvidia-ml.so.580.1\ncudaby a link that leads outsmi\nrefused\n"
    )


@pytest.mark.root
def test_without_gpus_a_container_sees_none(gpu_box: Box) -> None:
    result = gpu_box.sh("ls /dev /squall/nvidia")
    assert "nvidia" not in result.out
    assert result.status.code != 0


@pytest.mark.root
def test_what_the_host_lacks_is_said_in_one_line(gpu_box: Box, own_box: Box) -> None:
    with pytest.raises(DriverError, match=r"^this host has no /dev/nvidia9 \(No such file"):
        gpu_box.start("true", gpus=(9,))
    if not Path("/dev/nvidiactl").exists():
        with pytest.raises(DriverError, match=r"^this host has no libcuda\.so\.1: install") as told:
            own_box.start("true", gpus=(0,))
        assert "\n" not in str(told.value)


@pytest.mark.root
def test_a_launcher_that_ends_takes_its_tree_down(namespaces: Path, host_root: Path) -> None:
    box = Box(namespaces / "gpus-end", ["--no-network", "--host-root", str(host_root)])
    assert box.sh("true", gpus=(0,)).status.code == 0
    box.close()
    assert list((box.state / "points").glob("*")) == []


@pytest.mark.root
def test_the_next_launcher_gives_gpus_too(namespaces: Path, host_root: Path) -> None:
    box = Box(namespaces / "gpus-next", ["--no-network", "--host-root", str(host_root)])
    try:
        assert box.sh("true", gpus=(0,)).status.code == 0
        box.kill_launcher()
        box.boot_launcher()
        box.runtime.disconnect()
        box.runtime = box.connect()
        assert "nvidia1" in box.sh("ls /dev", gpus=(1,)).out
    finally:
        box.close()
