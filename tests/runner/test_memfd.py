"""Sealed memory files, also where Python was built without the call."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from squall.runner.protocol import memfd

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("by_number", [False, True])
def test_what_is_sealed_stays(by_number: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_number:
        monkeypatch.delattr(os, "memfd_create")
    fd = memfd.of([b"one ", memoryview(b"two")])
    try:
        assert memfd.frozen_size(fd) == 7
        assert os.pread(fd, 100, 0) == b"one two"
        for attempt in (
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 9),
            lambda: os.pwrite(fd, b"x", 0),
        ):
            with pytest.raises(PermissionError):
                attempt()
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_what_is_not_sealed_is_not_frozen(tmp_path: Path) -> None:
    fd = memfd.create()
    memfd.write(fd, b"x")
    assert memfd.frozen_size(fd) is None
    os.close(fd)
    with (tmp_path / "file").open("wb") as file:
        assert memfd.frozen_size(file.fileno()) is None
