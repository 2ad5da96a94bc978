"""Framing of the client's side, fed in every way that a network may cut it."""

from __future__ import annotations

import base64
import hashlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.wire.codec import FRAME_LIMIT, ProtocolError
from squall.wire.framing import LengthFraming
from squall.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ClientWebSocket,
    Refused,
    masked,
)


def answer(opening: bytes) -> bytes:
    key = next(x for x in opening.split(b"\r\n") if x.startswith(b"Sec-WebSocket-Key")).split(b": ")[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def opened(*, mask: bool = True) -> ClientWebSocket:
    socket = ClientWebSocket("host:1", mask=mask)
    assert socket.feed(answer(socket.opening())) == []
    assert socket.open
    return socket


def server_frame(payload: bytes, opcode: int = BINARY, *, last: bool = True) -> bytes:
    first = opcode | (0x80 if last else 0)
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 65536:
        return struct.pack(">BBH", first, 126, len(payload)) + payload
    return struct.pack(">BBQ", first, 127, len(payload)) + payload


def read_client_frame(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """(opcode, mask, payload, rest) of a client's frame."""
    assert data[1] & 0x80, "a client's frame is masked"
    length, at = data[1] & 0x7F, 2
    if length == 126:
        length, at = struct.unpack_from(">H", data, 2)[0], 4
    elif length == 127:
        length, at = struct.unpack_from(">Q", data, 2)[0], 10
    key, payload = data[at : at + 4], data[at + 4 : at + 4 + length]
    return data[0] & 15, key, masked(payload, key), data[at + 4 + length :]


def test_the_opening_asks_for_the_path_and_names_the_host() -> None:
    lines = ClientWebSocket("example.org:8443").opening().decode().split("\r\n")
    assert lines[0] == "GET /rpc HTTP/1.1"
    assert "Host: example.org:8443" in lines
    assert lines[-2:] == ["", ""]


def test_frames_behind_the_handshake_in_one_piece_are_read() -> None:
    socket = ClientWebSocket("h")
    assert socket.feed(answer(socket.opening()) + server_frame(b"first")) == [b"first"]


def test_a_wrong_accept_key_is_no_squall_server() -> None:
    socket = ClientWebSocket("h")
    with pytest.raises(ProtocolError, match="no Squall server"):
        socket.feed(answer(ClientWebSocket("h").opening()))


def test_another_status_is_told() -> None:
    with pytest.raises(Refused, match="403 Forbidden") as caught:
        ClientWebSocket("h").feed(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    assert caught.value.status == 403


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n\r\n", b"x" * 20_000])
def test_something_else_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ClientWebSocket("h").feed(data)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("mask", [True, False])
def test_frames_of_every_size_both_ways(size: int, mask: bool) -> None:
    payload = os.urandom(size)
    socket = opened(mask=mask)
    opcode, key, sent, rest = read_client_frame(socket.frame(payload))
    assert (opcode, sent, rest) == (BINARY, payload, b"")
    assert mask or key == b"\0\0\0\0"
    assert socket.feed(server_frame(payload)) == [payload]


def test_masks_differ() -> None:
    socket = opened()
    assert len({read_client_frame(socket.frame(b"x"))[1] for _ in range(20)}) > 1


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 90), max_size=60))
def test_cuts_do_not_matter(messages: list[bytes], cuts: list[int]) -> None:
    socket = opened()
    stream = b"".join(server_frame(m) for m in messages)
    got: list[bytes] = []
    for cut in cuts:
        got += socket.feed(stream[:cut])
        stream = stream[cut:]
    assert got + socket.feed(stream) == messages


def test_fragments_are_joined_and_a_ping_may_come_between() -> None:
    socket = opened()
    data = (
        server_frame(b"one ", last=False)
        + server_frame(b"are you there", PING)
        + server_frame(b"two ", CONTINUATION, last=False)
        + server_frame(b"three", CONTINUATION)
    )
    assert socket.feed(data) == [b"one two three"]
    opcode, _, payload, rest = read_client_frame(socket.replies())
    assert (opcode, payload, rest) == (PONG, b"are you there", b"")
    assert socket.replies() == b""


def test_a_pong_is_no_message() -> None:
    assert opened().feed(server_frame(b"", PONG)) == []


def test_a_farewell_does_not_lose_what_came_before() -> None:
    socket = opened()
    close = struct.pack(">H", 1001) + b"going away"
    assert socket.feed(server_frame(b"last words") + server_frame(close, CLOSE) + b"junk") == [b"last words"]
    assert socket.farewell == "going away"


@pytest.mark.parametrize(
    "data",
    [
        server_frame(b"text", TEXT),
        server_frame(b"x", CONTINUATION),
        server_frame(b"x", last=False) + server_frame(b"y"),
        server_frame(b"x", PING, last=False),
        server_frame(b"x" * 126, PING),
        server_frame(b"x", 3),
        server_frame(b"x", 11),
        bytes((0xC2, 1)) + b"x",
        bytes((0x82, 0x81)) + b"\0\0\0\0x",
        struct.pack(">BBQ", 0x82, 127, FRAME_LIMIT + 1),
        server_frame(b"x" * 10, last=False) + struct.pack(">BBQ", 0x80, 127, FRAME_LIMIT - 9),
    ],
)
def test_what_breaks_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        opened().feed(data)


@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4))
def test_masking_twice_changes_nothing(payload: bytes, key: bytes) -> None:
    assert masked(masked(payload, key), key) == payload
    assert masked(payload, key) == bytes(b ^ key[i % 4] for i, b in enumerate(payload))


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 90), max_size=60))
def test_lengths_frame_in_containers(messages: list[bytes], cuts: list[int]) -> None:
    framing = LengthFraming(b"preface")
    assert framing.opening() == b"preface"
    stream = b"".join(framing.frame(m) for m in messages)
    got: list[bytes] = []
    for cut in cuts:
        got += framing.feed(stream[:cut])
        stream = stream[cut:]
    assert got + framing.feed(stream) == messages


def test_a_length_over_the_limit_is_refused() -> None:
    with pytest.raises(ProtocolError):
        LengthFraming().feed(struct.pack(">I", FRAME_LIMIT + 1))
