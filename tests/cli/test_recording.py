"""A recording of the terminal as SVG: what is drawn, when, and what stands in the end."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tests.cli import record, svg

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
