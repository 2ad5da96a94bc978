"""A recording of the terminal as SVG: what is drawn, when, and what stands in the end."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from squall.sdk.terminal import render
from squall.sdk.terminal.model import Model
from squall.wire.messages import BuildLog, Progress
from squall.wire.values import FunctionProgress
from tests.cli import record, svg
from tests.house.source import ROOT

NAMESPACE = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> dict[str, str]:
    """Lines by their classes."""
    root = ET.fromstring(picture)
    return {t.get("class", ""): "".join(t.itertext()) for t in root.findall(f"{NAMESPACE}text")}


def test_lines_are_drawn_once_for_as_long_as_they_stay() -> None:
    moments = [(0.0, b"one <&>\r\n"), (1.0, b"two\r\n"), (2.0, b"\x1b[1A\x1b[J\x1b[31mthree\x1b[0m\r\n")]
    shown = record.pictures([*moments, (3.0, b"")], "$ squall", 2.0)
    picture = svg.animated(shown, 20, 5, "title")
    found = texts(picture)
    assert list(found.values()).count("one <&>") == 1
    assert sorted(text for name, text in found.items() if "last" in name) == ["$ squall", "one <&>", "three"]
    assert "two" in found.values()
    assert '<tspan x="14.0" class="red">three</tspan>' in picture
    two = next(name for name, text in found.items() if text == "two").split()[1]
    rule = re.search(rf"@keyframes {two.replace('n', 'k')}\{{(.*?)\}}\.", picture)
    assert rule
    assert rule[1] == "0%{visibility:hidden}13.33%{visibility:visible}20.00%{visibility:hidden}"


def test_torn_characters_and_sequences() -> None:
    whole = "\x1b[36m⠋\x1b[0m work\r\n".encode()
    torn = [(n / 10, bytes([byte])) for n, byte in enumerate(whole)]
    shown = record.pictures([*torn, (9.0, b"")], "$", 1.0)
    assert "⠋ work" in texts(svg.animated(shown, 20, 3, "")).values()


def test_only_the_last_rows_are_shown() -> None:
    pictures = [svg.Picture(0.0, ["a", "b", "c", "d"])]
    assert set(texts(svg.animated(pictures, 10, 2, "")).values()) == {"c", "d"}


def shape(line: str) -> str:
    """What stays of a line from one run to the next: ids, numbers, times and the turning mark do not."""
    line = re.sub(r"im-[0-9a-f]{6}", "im-", line)
    # Spaces between colours are places in the picture, and no characters.
    line = re.sub(f"^[{render.UNICODE.spinner}] *", "~ ", line)
    line = re.sub(f"^{render.UNICODE.done} *", f"{render.UNICODE.done} ", line)
    line = re.sub(r"\d+ min \d+ s|\d+\.\d+ s|\d+\.\d+(?=/s)", "T", line)
    return re.sub(r"\d+", "N", line).strip()


def test_the_readmes_picture_shows_what_is_drawn_today() -> None:
    model = Model()

    def told(now: float, **counts: Any) -> None:
        model.progress(Progress("ap-1", [FunctionProgress("classify", **counts)]), now)

    def drawn(now: float, *, final: bool = False) -> list[str]:
        return [shape(line.plain) for line in render.render(model, 100, now, final=final)]

    model.building("im-123456", 0.0)
    model.build_log(BuildLog("im-123456", b"", 1, 1), ["Using Python 3.11.2 environment at: /usr"], 1.0)
    lines = drawn(2.0)
    model.built("im-123456", 70.0, failed=False)
    told(71.0, inputs=7, starting=2)
    told(72.0, inputs=7, running=2, busy=2)
    lines += drawn(72.0)
    told(74.0, inputs=7, ended=3, running=2, busy=1, idle=1)
    lines += drawn(74.0)
    told(80.0, inputs=7, ended=7, idle=2)
    lines += drawn(80.0, final=True)
    shown = {shape(text) for text in texts((ROOT / "docs" / "terminal.svg").read_text("utf-8")).values()}
    assert [line for line in lines if line not in shown] == [], "run scripts/record-terminal"
