"""Pictures of a terminal over time as one animated SVG. Pure.

Each line is drawn once for as long as it stays the same, and shown by a CSS animation; without animations (or
where the reader wants none) the last picture stands still.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
CELL = (8.4, 19)
MARGIN = 14
BAR = 30
#: Seconds that the last picture stands before all begins again.
REST = 6.0
BACKGROUND, FOREGROUND, FAINT = "#16191f", "#d7dae0", "#7d8590"
#: In the order of their numbers as ANSI colours, from 1.
COLORS = {
    "red": "#ff7b72",
    "green": "#7ee787",
    "yellow": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
}


@dataclass(frozen=True)
class Picture:
    """What a terminal shows from `second` on: lines with ANSI colours."""

    second: float
    lines: Sequence[str]


@dataclass
class Piece:
    """A line of text in one row, and when it is there."""

    row: int
    line: str
    begin: float
    end: float
    last: bool = field(default=False)


def animated(pictures: Sequence[Picture], width: int, height: int, title: str) -> str:
    """The last `height` rows of each picture, `width` cells a row."""
    length = pictures[-1].second + REST
    pieces = _pieces(pictures, height, length)
    wide, high = width * CELL[0] + 2 * MARGIN, height * CELL[1] + BAR + MARGIN
    rules = [_rule(n, piece, length) for n, piece in enumerate(pieces)]
    texts = [_text(n, piece) for n, piece in enumerate(pieces)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font:14px {FONTS};fill:{FOREGROUND};white-space:pre}}",
            f".b{{font-weight:bold}}.d{{fill:{FAINT}}}",
            *(f".{name}{{fill:{color}}}" for name, color in COLORS.items()),
            ".p{visibility:hidden}.last{visibility:visible}",
            "@media (prefers-reduced-motion:no-preference){",
            *rules,
            "}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
            *(f'<circle cx="{18 + 18 * n}" cy="16" r="5" fill="#3b4048"/>' for n in range(3)),
            *texts,
            "</svg>",
            "",
        ]
    )


def _pieces(pictures: Sequence[Picture], height: int, length: float) -> list[Piece]:
    done: list[Piece] = []
    now: dict[int, Piece] = {}
    for picture in pictures:
        shown = list(picture.lines[-height:])
        shown += [""] * (height - len(shown))
        for row, line in enumerate(shown):
            if row in now and now[row].line == line:
                continue
            if row in now:
                now[row].end = picture.second
                done.append(now[row])
            now[row] = Piece(row, line, picture.second, length)
    for piece in now.values():
        piece.last = True
    return [p for p in (*done, *now.values()) if Text.from_ansi(p.line).plain.strip() and p.end > p.begin]


def _rule(number: int, piece: Piece, length: float) -> str:
    begin, end = 100 * piece.begin / length, 100 * piece.end / length
    steps = [f"0%{{visibility:{'visible' if begin == 0 else 'hidden'}}}"]
    steps += [f"{begin:.2f}%{{visibility:visible}}"] if begin else []
    steps += [f"{end:.2f}%{{visibility:hidden}}"] if end < 100 else []
    return (
        f"@keyframes k{number}{{{''.join(steps)}}}"
        f".n{number}{{animation:k{number} {length:.2f}s step-end infinite}}"
    )


def _text(number: int, piece: Piece) -> str:
    y = BAR + (piece.row + 0.8) * CELL[1]
    classes = f"p n{number}" + (" last" if piece.last else "")
    return f'<text class="{classes}" xml:space="preserve" y="{y:.1f}">{_spans(piece.line)}</text>'


def _spans(line: str) -> str:
    """Neighbours of one look go together."""
    text = Text.from_ansi(line)
    runs: list[tuple[str, str]] = []
    for part in text.divide(sorted({edge for span in text.spans for edge in (span.start, span.end)})):
        look = _classes(part)
        if runs and runs[-1][0] == look:
            runs[-1] = (look, runs[-1][1] + part.plain)
        elif part.plain:
            runs.append((look, part.plain))
    spans: list[str] = []
    offset = 0
    for look, plain in runs:
        if plain.strip():
            spans.append(f'<tspan x="{MARGIN + offset * CELL[0]:.1f}"{look}>{escape(plain)}</tspan>')
        offset += len(plain)
    return "".join(spans)


def _classes(part: Text) -> str:
    found: list[str] = []
    for span in part.spans:
        style = span.style
        if isinstance(style, str):
            continue
        number = (style.color.number or 0) % 8 if style.color is not None else 0
        found += [list(COLORS)[number - 1]] if 1 <= number <= len(COLORS) else []
        found += ["b"] if style.bold else []
        found += ["d"] if style.dim else []
    return f' class="{" ".join(dict.fromkeys(found))}"' if found else ""
