"""Which inputs a container's runner has, kept where the agent's next life finds it.

A file of fixed slots, mapped: noting an input costs a copy of some bytes, and survives `kill -9` of the agent
(not a crash of the host, which ends the containers too). The file is the agent's own; no container sees it.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

#: More than a runner ever has in advance (`inputs.AHEAD_MOST` and those that were dropped meanwhile).
AHEAD = 512
_SLOT = 128
#: Number of the input (0: the slot is free), attempt, length of the id; the id follows.
_HEAD = struct.Struct(">QIB")
#: At the end of a slot: how many inputs of the user's it is (0: one).
_COUNT = struct.Struct(">I")
_ID_LIMIT = _SLOT - _HEAD.size - _COUNT.size


class Noted(NamedTuple):
    number: int
    input: str
    attempt: int
    inputs: int = 1


class Journal:
    """One container's, which works on `running` inputs at once. Raises OSError when the disk is full."""

    def __init__(self, path: Path, running: int = 1) -> None:
        self._slots = AHEAD + running
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._slots * _SLOT)
            self._map = mmap.mmap(fd, self._slots * _SLOT)
        finally:
            os.close(fd)
        self._places = {noted.number: slot for slot, noted in self._read()}
        taken = set(self._places.values())
        self._free = [slot for slot in range(self._slots) if slot not in taken]

    def noted(self) -> list[Noted]:
        """In the order in which the runner got them."""
        return sorted(noted for _, noted in self._read())

    def add(self, number: int, input_id: str, attempt: int, count: int = 1) -> None:
        """An input with an id beyond the slot's room, or beyond the last slot, is not noted."""
        data = input_id.encode()
        if len(data) > _ID_LIMIT or not self._free:
            return
        slot = self._places[number] = self._free.pop()
        start = slot * _SLOT
        # The head last: a slot counts when its number is there.
        self._map[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _COUNT.pack_into(self._map, start + _SLOT - _COUNT.size, count)
        self._map[start : start + _HEAD.size] = _HEAD.pack(number, attempt, len(data))

    def remove(self, number: int) -> None:
        slot = self._places.pop(number, None)
        if slot is not None:
            self._map[slot * _SLOT : slot * _SLOT + _HEAD.size] = bytes(_HEAD.size)
            self._free.append(slot)

    def close(self) -> None:
        self._map.close()

    def _read(self) -> list[tuple[int, Noted]]:
        found = []
        for slot in range(self._slots):
            number, attempt, length = _HEAD.unpack_from(self._map, slot * _SLOT)
            if number:
                start = slot * _SLOT + _HEAD.size
                (count,) = _COUNT.unpack_from(self._map, (slot + 1) * _SLOT - _COUNT.size)
                noted = Noted(number, self._map[start : start + length].decode(), attempt, max(1, count))
                found.append((slot, noted))
        return found
