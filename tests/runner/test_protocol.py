"""Frames of agent and runner, cut out of any pieces."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.runner import protocol
from squall.runner.protocol import BadFrame, Frame, Unframer

frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    st.binary(max_size=50),
)


@given(st.lists(frames, max_size=8), st.integers(1, 40))
def test_frames_come_out_as_they_went_in(given_frames: list[Frame], piece: int) -> None:
    data = b"".join(protocol.encode(*frame) for frame in given_frames)
    unframer = Unframer()
    found = []
    for start in range(0, len(data), piece):
        unframer.feed(data[start : start + piece])
        while (frame := unframer.next()) is not None:
            found.append(frame)
    assert found == given_frames


@given(st.binary(max_size=200))
def test_anything_else_is_a_bad_frame_or_not_yet_one(data: bytes) -> None:
    unframer = Unframer()
    unframer.feed(data)
    try:
        while unframer.next() is not None:
            pass
    except BadFrame:
        pass


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", protocol.FRAME_LIMIT + 1),
        struct.pack(">I", 5),
        struct.pack(">IBQI", 13, 1, 0, 1),
        struct.pack(">IBQI", 15, 1, 0, 2) + b"[]",
        struct.pack(">IBQI", 15, 1, 0, 2) + b"\xff\xff",
    ],
)
def test_bad_frames(data: bytes) -> None:
    unframer = Unframer()
    unframer.feed(data)
    with pytest.raises(BadFrame):
        unframer.next()


def test_no_frame_begins_like_a_client() -> None:
    unframer = Unframer()
    unframer.feed(protocol.CLIENT)
    with pytest.raises(BadFrame):
        unframer.next()
