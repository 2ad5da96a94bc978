"""The live picture as pure decisions: lines, the model, what is rendered at which width."""

from __future__ import annotations

import pytest
from rich.text import Text

from squall.sdk.lines import MAX_LINE, Lines
from squall.sdk.terminal import is_able, render
from squall.sdk.terminal.model import Model
from squall.sdk.terminal.screen import Region
from squall.wire.messages import BuildLog, Progress
from squall.wire.values import FunctionProgress


def plain(model: Model, now: float, *, final: bool = False) -> list[str]:
    return [line.plain for line in render.render(model, 100, now, final=final)]


def told(model: Model, now: float, **counts: object) -> None:
    model.progress(Progress("ap-1", [FunctionProgress("f", **counts)]), now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pieces", "lines", "rest"),
    [
        ([b"a\nb\nc"], ["a", "b"], ["c"]),
        ([b"  0%", b"\r 50%", b"\r100%"], [], ["100%"]),
        ([b"  0%\r", b" 50%\r", b"100%\r", b"\n"], ["100%"], []),
        ([b"dos\r\n", b"dos\r", b"\n"], ["dos", "dos"], []),
        ([b"a\r\r\n"], ["a"], []),
        ([b"\r100%|##|\n\r  0%|"], ["100%|##|"], ["  0%|"]),
        ([b"bar\r   \r"], [], []),
        ([b"x" * (MAX_LINE + 1)], ["x" * (MAX_LINE + 1)], []),
        ([b"\xff\n"], ["\ufffd"], []),
    ],
)
def test_lines_as_a_terminal_would_show_them(pieces: list[bytes], lines: list[str], rest: list[str]) -> None:
    put_together = Lines()
    assert [line for piece in pieces for line in put_together.add("s", piece)] == lines
    assert [line for _, line in put_together.unfinished()] == rest
    assert [line for _, line in put_together.end()] == rest
    assert put_together.end() == []


def test_streams_do_not_mix() -> None:
    lines = Lines()
    assert lines.add("a", b"one ") == []
    assert lines.add("b", b"two\n") == ["two"]
    assert lines.add("a", b"line\n") == ["one line"]


def test_rate_and_estimate() -> None:
    model = Model()
    told(model, 0.0, inputs=100, ended=0, running=4, busy=2)
    assert plain(model, 0.1)[0].endswith("f 0/100 done, 4 running")
    told(model, 5.0, inputs=100, ended=20, running=4, busy=2)
    assert plain(model, 5.0)[0].endswith("f 20/100 done, 4 running, 4.0/s, about 20.0 s left")
    told(model, 20.0, inputs=100, ended=20, running=4, busy=2)
    told(model, 22.0, inputs=100, ended=50, failed=3, running=4, busy=2)
    assert plain(model, 22.0)[0].endswith("f 50/100 done, 3 failed, 4 running, 15.0/s, about 3.3 s left")


def test_while_inputs_follow_there_is_no_estimate() -> None:
    model = Model()
    told(model, 0.0, inputs=10, more=True)
    told(model, 2.0, inputs=20, ended=10, more=True)
    assert plain(model, 2.0)[0].endswith("f 10/20+ done, 0 running, 5.0/s")
    told(model, 3.0, inputs=20, ended=20, more=True)
    moving = [model.moving]
    told(model, 4.0, inputs=20, ended=20)
    assert [*moving, model.moving] == [True, False]
    assert plain(model, 9.0)[0] == "✓ f 20 inputs done in 3.0 s, 6.7/s"


def test_containers_by_state_and_why_inputs_wait() -> None:
    model = Model()
    told(model, 0.0, inputs=1, starting=2, busy=3, idle=1)
    assert plain(model, 0.0)[1:] == ["  └─ containers: 2 starting, 3 busy, 1 idle"]
    told(model, 1.0, inputs=1, busy=3, waiting="all nodes are full")
    assert plain(model, 1.0)[1:] == ["  ├─ containers: 3 busy", "  └─ waits: all nodes are full"]
    told(model, 2.0, inputs=1, starting=1)
    assert plain(model, 2.0)[-1] == "  └─ waits: its first containers start"
    told(model, 3.0, inputs=1, ended=1)
    assert plain(model, 3.0) == ["✓ f 1 input done in 3.0 s, 0.3/s"]


def test_images() -> None:
    model = Model()
    model.building("im-1234567", 10.0)
    assert plain(model, 10.1) == [], "most images are there at once"
    assert plain(model, 11.0)[0].endswith("image im-123456 1.0 s ")
    model.build_log(BuildLog("im-1234567", b"", 2, 3), ["Collecting magika", ""], 12.0)
    assert plain(model, 75.0)[0].endswith("image im-123456 step 2 of 3, 1 min 05 s Collecting magika")
    model.told("the image waits for a node to connect")
    model.built("im-1234567", 80.0, failed=False)
    assert plain(model, 99.0) == ["✓ image im-123456 built in 1 min 10 s"]
    model.building("im-2", 100.0)
    model.built("im-2", 100.2, failed=False)
    assert len(plain(model, 101.0)) == 1, "it was there already"
    model.building("im-3", 100.0)
    model.built("im-3", 100.2, failed=True)
    assert plain(model, 101.0)[-1] == "✗ image im-3 failed after 0.2 s"


def test_bars_stand_below_their_function() -> None:
    model = Model()
    told(model, 0.0, inputs=2, running=2, busy=2)
    model.bars = [("f ct-1111", " 10%|#"), ("f ct-2222", "\x1b[A 20%|##"), ("g ct-3333", "90%")]
    assert plain(model, 0.0)[1:] == [
        "  ├─ containers: 2 busy",
        "  ├─ f ct-1111 |  10%|#",
        "  └─ f ct-2222 |  20%|##",
        "g ct-3333 | 90%",
    ]
    assert len(plain(model, 0.0, final=True)) == 1


@pytest.mark.parametrize("width", [1, 7, 20, 79])
@pytest.mark.parametrize("symbols", [render.UNICODE, render.ASCII])
def test_no_line_is_wider_than_the_terminal(width: int, symbols: render.Symbols) -> None:
    model = Model()
    told(model, 0.0, inputs=1000, ended=500, failed=7, running=4, busy=2, waiting="漢字" * 40)
    model.bars = [("f ct-1111", "█" * 200)]
    model.told("x" * 200)
    lines = render.render(model, width, 2.0, symbols)
    assert len(lines) == 5
    assert max(line.cell_len for line in lines) <= width
    if symbols is render.ASCII:
        frame = "".join(line.plain for line in lines)
        assert frame.replace("漢", "").replace("字", "").replace("█", "").isascii()


@pytest.mark.parametrize(
    ("line", "safe"),
    [
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[2J\x1b[H\x1b[1;1Ha\x1b[?25lb", "ab"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("\x1bca\x1b(0b", "a0b"),
        ("a\x08\x07\x00b\x9bc", "abc"),
        ("a\x1b", "a"),
        ("a\x1b[", "a"),
        ("a\u2028b", "ab"),
        ("a\tb", "a       b"),
    ],
)
def test_what_a_program_prints_can_only_colour_the_terminal(line: str, safe: str) -> None:
    assert render.safe(line) == safe


def test_a_region_is_erased_as_the_terminal_wraps_it_now() -> None:
    region = Region()
    assert region.erase(80) == ""
    assert region.paint([Text("x" * 50), Text("y")], 80, 24) == "x" * 50 + "\ny"
    assert region.erase(80) == "\r\x1b[1A\x1b[J"
    region.paint([Text("x" * 50), Text("y")], 80, 24)
    assert region.erase(20) == "\r\x1b[3A\x1b[J", "the first line takes three rows now"
    assert region.erase(20) == ""


def test_a_region_keeps_within_the_terminals_height() -> None:
    assert Region().paint([Text(str(i)) for i in range(10)], 80, 4) == "7\n8\n9"


def test_which_terminals_can_do_it() -> None:
    assert is_able({"TERM": "xterm"})
    assert not any(is_able({"TERM": term}) for term in ("dumb", "", "unknown"))
    assert not is_able({})


def test_a_build_that_runs_waits_for_nothing() -> None:
    model = Model()
    model.told("the image waits for a node to connect")
    assert "waits for a node" in plain(model, 0.0)[-1]
    model.build_log(BuildLog("im-1", b"Collecting\n", 1, 2), ["Collecting"], 0.0)
    assert not any("waits" in line for line in plain(model, 1.0))
