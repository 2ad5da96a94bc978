"""What a container with GPUs is shown of the host: its device nodes, and the driver's libraries and programs.

The libraries must be those of the kernel's driver, so they cannot be part of an image. Only what computes is
shown (CUDA, its compilers, NVML, video), not what draws. Device files are bind-mounted: a container cannot
make any, and so has only those GPUs that it was given.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from squall.runtime.linux import mounts

if TYPE_CHECKING:
    from pathlib import Path

#: Beneath the host's root; the first one that has `libcuda.so.1`.
LIBRARY_DIRECTORIES = (
    "usr/local/nvidia/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
)
PROGRAM_DIRECTORIES = ("usr/local/nvidia/bin", "usr/bin")
LIBRARIES = (
    *("libcuda.so", "libcudadebugger.so", "libnvidia-ml.so", "libnvidia-cfg.so"),
    *("libnvidia-ptxjitcompiler.so", "libnvidia-nvvm.so", "libnvidia-gpucomp.so", "libnvidia-opencl.so"),
    *("libnvidia-allocator.so", "libnvidia-pkcs11.so", "libnvidia-pkcs11-openssl3.so"),
    *("libnvcuvid.so", "libnvidia-encode.so", "libnvidia-opticalflow.so"),
)
PROGRAMS = ("nvidia-smi",)

#: Nodes that every container with a GPU needs; the second kind only where the host has them.
CONTROL = ("nvidiactl", "nvidia-uvm")
OPTIONAL_CONTROL = ("nvidia-uvm-tools",)

_DEVICE = mounts.NOSUID | mounts.NOEXEC
_FILES = mounts.NOSUID | mounts.NODEV | mounts.RDONLY


class GpuError(Exception):
    """The host cannot give a container a GPU; the message is one line for a user."""


class Gpus:
    """Clones of the host's device nodes and of a tree of the driver's files.

    `root` is the host's; `point` a directory of the launcher's own, which its tree is mounted at.
    """

    def __init__(self, root: Path, point: Path) -> None:
        self._root = root
        self._point = point
        self._mounted = False

    def device_names(self, minors: tuple[int, ...]) -> list[str]:
        extra = [name for name in OPTIONAL_CONTROL if (self._root / "dev" / name).exists()]
        return [*CONTROL, *extra, *(f"nvidia{minor}" for minor in minors)]

    def device(self, name: str) -> int:
        """A detached mount of the device node. Raises GpuError."""
        directory = os.open(self._root / "dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not stat.S_ISCHR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                raise GpuError(f"/dev/{name} is no device: is NVIDIA's driver loaded on this host?")
            node = mounts.clone_tree(directory, name)
            mounts.set_attributes(node, _DEVICE)
        except OSError as error:
            raise GpuError(
                f"this host has no /dev/{name} ({error.strerror}): load NVIDIA's driver there "
                "(nvidia-modprobe -u -c 0) and try again"
            ) from None
        finally:
            os.close(directory)
        return node

    def driver_files(self) -> int:
        """A detached tree with `lib64` and `bin`, read-only. Raises GpuError."""
        if not self._mounted:
            self._mount()
        point = os.open(self._point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            tree = mounts.clone_tree(point, recursive=True)
        finally:
            os.close(point)
        mounts.set_attributes(tree, _FILES, recursive=True)
        return tree

    def close(self) -> None:
        """Take the tree down; containers keep their copies."""
        if self._mounted:
            mounts.detach(str(self._point))
            self._mounted = False

    def _mount(self) -> None:
        """Compose the tree once, in the launcher's own mount namespace; containers get copies."""
        libraries = self._directory(LIBRARY_DIRECTORIES, "libcuda.so.1")
        if libraries is None:
            raise GpuError("this host has no libcuda.so.1: install the libraries of its NVIDIA driver")
        self._point.mkdir(mode=0o755, exist_ok=True)
        files = mounts.new_filesystem("tmpfs", mounts.NOSUID | mounts.NODEV, mode="0755")
        mounts.attach_at(files, str(self._point))
        os.close(files)
        self._mounted = True
        names = [name for name in sorted(os.listdir(libraries)) if _is_wanted(name)]
        _show(libraries, names, self._point / "lib64")
        for program in PROGRAMS:
            directory = self._directory(PROGRAM_DIRECTORIES, program)
            if directory is not None:
                _show(directory, [program], self._point / "bin")

    def _directory(self, candidates: tuple[str, ...], name: str) -> Path | None:
        places = (self._root / place for place in candidates)
        return next((place for place in places if (place / name).exists()), None)


def _is_wanted(name: str) -> bool:
    base, dot, _version = name.partition(".so")
    return bool(dot) and f"{base}.so" in LIBRARIES


def _show(source: Path, names: list[str], target: Path) -> None:
    """Bind-mount files, and make the links among them anew (`libcuda.so.1` leads to a longer name)."""
    target.mkdir(mode=0o755, exist_ok=True)
    directory = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            if (source / name).is_symlink():
                leads_to = (source / name).readlink().name
                if leads_to in names:
                    (target / name).symlink_to(leads_to)
                    continue
            (target / name).touch(mode=0o755)
            # A link that leads elsewhere is followed: to root's own choice, on root's own host.
            real = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
            copy = mounts.clone_tree(real)
            os.close(real)
            mounts.attach_at(copy, str(target / name))
            os.close(copy)
    finally:
        os.close(directory)
