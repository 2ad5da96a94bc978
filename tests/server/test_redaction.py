"""Secrets taken out of output, however it is cut, and out of errors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from squall.server.redaction import HELD, Redactor
from squall.wire.values import ErrorInfo, LogItem, Outcome, Payload


def shown(redactor: Redactor, *pieces: bytes, fd: int = 1) -> bytes:
    items = [redactor.item(LogItem("ct-1", "f", fd, piece, 0.0)).data for piece in pieces]
    return b"".join(items) + redactor.rest().get(fd, b"")


def test_whole_and_in_pieces() -> None:
    text = b"the key is hunter2-abc, again hunter2-abc.\n"
    redactor = Redactor(["hunter2-abc"])
    expected = b"the key is [redacted], again [redacted].\n"
    assert shown(redactor, text) == expected
    for cut in range(len(text)):
        assert shown(redactor, text[:cut], text[cut:]) == expected
    assert shown(redactor, *(bytes([byte]) for byte in text)) == expected


def test_what_may_be_a_beginning_waits_and_nothing_is_lost() -> None:
    redactor = Redactor(["hunter2"])
    assert redactor.item(LogItem("ct-1", "f", 1, b"say hunt", 0.0)).data == b"say "
    assert redactor.item(LogItem("ct-1", "f", 2, b"er2", 0.0)).data == b"er2", "another descriptor"
    assert redactor.item(LogItem("ct-1", "f", 1, b"ing\n", 0.0)).data == b"hunting\n"
    assert shown(redactor, b"hun") == b"hun"


def test_values_within_values() -> None:
    redactor = Redactor(["secret", "secret-long", "cret-x"])
    assert shown(redactor, b"a secret", b"-long one") == b"a [redacted] one"
    assert shown(redactor, b"secret.") == b"[redacted]."
    assert shown(redactor, b"secret") == b"[redacted]"
    assert b"secret" not in shown(redactor, b"secre", b"t-", b"x")


def test_lines_of_a_value_count_too() -> None:
    redactor = Redactor(["-----BEGIN\nabcdefgh\nijkl\n-----END"])
    assert shown(redactor, b"  abcdefgh\n  ijkl\n") == b"  [redacted]\n  [redacted]\n"


def test_short_values_are_no_secrets() -> None:
    assert shown(Redactor(["yes", "1", ""]), b"yes, 1\n") == b"yes, 1\n"


def test_no_more_is_held_back_than_said() -> None:
    redactor = Redactor(["a" * 60_000])
    kept = redactor.item(LogItem("ct-1", "f", 1, b"a" * 50_000, 0.0)).data
    assert len(kept) == 50_000 - HELD


def test_errors() -> None:
    redactor = Redactor(["hunter2"])
    outcome = Outcome("exception", Payload(b"p"), ErrorInfo("E", "no hunter2", 'File "x"\nE: no hunter2\n'))
    told = redactor.outcome(outcome)
    assert told.error == ErrorInfo("E", "no [redacted]", 'File "x"\nE: no [redacted]\n')
    assert told.payload == outcome.payload
    ok = Outcome("ok", Payload(b"p"))
    assert redactor.outcome(ok) is ok


@given(
    st.lists(st.text("ab\n", min_size=4, max_size=8), min_size=1, max_size=3),
    st.lists(st.text("ab\n", max_size=12), max_size=6),
)
def test_no_value_ever_shows(values: list[str], pieces: list[str]) -> None:
    redactor = Redactor(values)
    out = shown(redactor, *(piece.encode() for piece in pieces))
    assert not any(value.encode() in out for value in values if len(value) >= 4)
