"""Pickles with large buffers: what goes in comes out, once, and a broken one is an error."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from squall.runner.protocol import INLINE, memfd, spool
from squall.runner.protocol.spool import MemoryFile, TooLargeError

LIMIT = 64 << 20


class Array:
    """Gives its memory out of band, as arrays do."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.memory),)


def data_of(pickled: spool.Pickled) -> bytes | memoryview:
    return pickled if isinstance(pickled, bytes) else pickled.view()


def test_a_small_value_is_a_plain_pickle() -> None:
    pickled = spool.dump({"a": [1, 2]}, LIMIT)
    assert isinstance(pickled, bytes)
    assert pickle.loads(pickled) == spool.load(pickled) == {"a": [1, 2]}


@pytest.mark.parametrize("size", [0, 10, 70_000, INLINE, 5 << 20])
@pytest.mark.parametrize("copy", [False, True])
def test_bytes_come_out_as_bytes(size: int, copy: bool) -> None:
    value = os.urandom(size)
    pickled = spool.dump(value, LIMIT)
    assert isinstance(pickled, MemoryFile) is (size >= INLINE)
    back = spool.load(data_of(pickled), copy=copy)
    assert type(back) is bytes
    assert back == value


def test_arguments_of_all_sizes() -> None:
    args, kwargs = (1, os.urandom(100_000), "x"), {"a": os.urandom(5 << 20), "b": [os.urandom(300_000)]}
    pickled = spool.dump((args, kwargs), LIMIT, arguments=True)
    assert isinstance(pickled, MemoryFile)
    assert memfd.frozen_size(pickled.fd) == len(pickled)
    assert spool.load(pickled.view()) == (args, kwargs)


@pytest.mark.parametrize("size", [100, 100_000, 5 << 20])
@pytest.mark.parametrize("copy", [False, True])
def test_memory_of_arrays_can_be_written_on_both_sides(size: int, copy: bool) -> None:
    memory = bytearray(os.urandom(size))
    pickled = spool.dump(Array(memory), LIMIT)
    content = bytes(data_of(pickled))
    back = spool.load(data_of(pickled), copy=copy)
    assert bytes(back.memory) == memory
    memoryview(back.memory)[0] ^= 1
    assert bytes(data_of(pickled)) == content, "nobody else sees what was written"


def test_what_may_not_be_written_cannot_be() -> None:
    pickled = spool.dump(Array(memoryview(os.urandom(1 << 20))), LIMIT)
    assert memoryview(spool.load(data_of(pickled)).memory).readonly


def test_what_is_loaded_with_copies_outlives_its_file() -> None:
    pickled = spool.dump([Array(bytearray(b"7" * (5 << 20))), Array(bytearray(b"8" * 100_000))], LIMIT)
    view = data_of(pickled)
    assert isinstance(view, memoryview)
    first, second = spool.load(view, copy=True)
    view.release()  # would raise if anything were left in it
    assert (bytes(first.memory[:2]), bytes(second.memory[:2])) == (b"77", b"88")


@pytest.mark.parametrize("value", [bytes(2000), bytes(2 << 20), list(range(1000)), Array(bytearray(1 << 20))])
def test_beyond_the_limit(value: object) -> None:
    with pytest.raises(TooLargeError) as raised:
        spool.dump(value, 1000)
    assert raised.value.size > 1000


def test_what_mentions_main_is_pickled_by_another() -> None:
    asked: list[object] = []

    def other(value: object) -> bytes:
        asked.append(value)
        return b"other"

    assert spool.dump(["a __main__ b"], LIMIT, main=other) == b"other"
    assert spool.dump("a __main__ b", LIMIT, main=other) != b"other", "a text alone names nothing"
    assert spool.dump(b"__main__" * 100_000, LIMIT, main=other) != b"other", "data is no name"
    assert asked == [["a __main__ b"]]


@pytest.mark.parametrize("cut", [1, 4, 16, 30, 1000])
def test_a_damaged_one_is_an_error(cut: int) -> None:
    data = bytes(data_of(spool.dump(os.urandom(1 << 20), LIMIT)))
    with pytest.raises((ValueError, pickle.UnpicklingError, EOFError, KeyError)):
        spool.load(data[cut:-4] + b"sq5b" if cut > 4 else data[:-cut])


@pytest.mark.parametrize("entry", [(0, 1 << 40, 0), (1 << 40, 1, 0), (900, 200, 1)])
def test_a_buffer_beyond_the_end_is_an_error(entry: tuple[int, int, int]) -> None:
    body = pickle.dumps(1) + bytes(900)
    data = body + spool._ENTRY.pack(*entry) + spool._TAIL.pack(5, 1, b"sq5b")
    with pytest.raises(ValueError, match="beyond its end"):
        spool.load(data)


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "text", "x" * (INLINE + 1)])
@pytest.mark.parametrize("arguments", [False, True])
def test_plain_values(value: object, arguments: bool) -> None:
    given = ((value,), {}) if arguments else value
    data = spool.dump(given, LIMIT, arguments=arguments)
    assert isinstance(data, bytes) == (not isinstance(value, str) or len(value) < INLINE)
    assert spool.load(data if isinstance(data, bytes) else data.view()) == given


def test_a_plain_value_over_the_limit() -> None:
    with pytest.raises(TooLargeError):
        spool.dump("x" * 100, 50)
