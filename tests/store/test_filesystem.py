from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from squall import filesystem
from squall.store.base import StoreError
from squall.store.errors import refuse_network

if TYPE_CHECKING:
    from pathlib import Path

TABLE = """\
1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
2 1 0:30 / /home rw - fuse.sshfs me@host: rw
3 2 0:31 / /home/local\\040disk rw - fuse.mergerfs x rw
4 1 0:32 / /over rw - ext4 /dev/sdb rw
5 4 0:33 / /over rw - nfs4 server:/ rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homes", "ext4"),
        ("/home", "fuse.sshfs"),
        ("/home/me/state", "fuse.sshfs"),
        ("/home/local disk/x", "fuse.mergerfs"),
        ("/over/x", "nfs4"),
    ],
)
def test_the_mount_of_a_path(path: str, kind: str) -> None:
    assert filesystem.mount_type(path, TABLE) == kind


def test_the_local_disk_is_local(tmp_path: Path) -> None:
    assert filesystem._magic(str(tmp_path)) > 0
    refuse_network(str(tmp_path))


def test_the_kernel_is_asked(tmp_path: Path) -> None:
    assert filesystem._magic("/proc") == 0x9FA0  # PROC_SUPER_MAGIC
    assert filesystem._magic(str(tmp_path / "none")) == -1


@pytest.mark.parametrize(("magic", "kind"), sorted(filesystem.NETWORK.items()))
def test_network_file_systems_are_refused(magic: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_magic", lambda _path: magic)
    with pytest.raises(StoreError, match=rf"\({kind}\).*SQUALL_STATE"):
        refuse_network("/home")


def test_of_fuse_only_network_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_magic", lambda _path: 0x65735546)
    monkeypatch.setattr(filesystem, "_mount_table", lambda: TABLE)
    monkeypatch.setattr(os.path, "realpath", str)
    assert filesystem.network_kind("/home/me") == "fuse.sshfs"
    assert filesystem.network_kind("/home/local disk") == ""
