from __future__ import annotations

import os

from squall.runtime.members import find, parse, read

STAT = "42 (a) R (b) S 7 42 41 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 12345 9000 3 18446744073709551615 1"


def test_names_with_brackets_are_no_trap() -> None:
    process = parse(42, STAT)
    assert (process.parent, process.session, process.is_zombie) == (7, 41, False)
    assert process.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")
    assert process.memory_bytes == 3 * os.sysconf("SC_PAGE_SIZE")


def test_ended_process_is_none() -> None:
    assert read(1 << 22) is None


def test_own_process_is_read() -> None:
    process = read(os.getpid())
    assert process
    assert process.parent == os.getppid()
    assert process.memory_bytes > 1 << 20


def test_a_mark_that_nobody_has_finds_nobody() -> None:
    assert find("SQUALL_CONTAINER=nobody-has-this", None) == []
