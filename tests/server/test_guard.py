from __future__ import annotations

import pytest

from squall.server.transport.guard import Guard, allowed_uid


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        (b"localhost", True),
        (b"Localhost:8000", True),
        (b"127.0.0.1:8000", True),
        (b"[::1]:8000", True),
        (b"203.0.113.9", True),
        (b"", False),
        (b"localhost.", False),
        (b"localhost@evil", False),
        (b"127.0.0.1.evil", False),
        (b"0x7f000001", False),
        (b"2130706433", False),
        (b"\xff\xfe", False),
    ],
)
def test_hosts(host: bytes, fine: bool) -> None:
    assert (Guard().refusal([(b"host", host)]) == "") is fine


def test_a_refusal_is_one_short_line() -> None:
    text = Guard().refusal([(b"Host", b"x\n" * 10_000)])
    assert text
    assert "\n" not in text
    assert len(text) < 300


def test_one_bad_origin_of_two_is_enough() -> None:
    guard = Guard(origins=frozenset({"https://ui"}))
    headers = [(b"host", b"localhost"), (b"origin", b"https://ui")]
    assert guard.refusal(headers) == ""
    assert guard.refusal([*headers, (b"Origin", b"https://evil")])
    assert guard.refusal([(b"origin", b"https://evil")], any_host=True)


@pytest.mark.parametrize(
    ("uid", "allowed"), [(0, True), (1000, True), (7, True), (1001, False), (65534, False), (None, False)]
)
def test_users(uid: int | None, allowed: bool) -> None:
    assert allowed_uid(uid, 1000, {7}) is allowed
