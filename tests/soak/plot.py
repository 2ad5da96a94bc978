"""`python -m tests.soak.plot samples.jsonl out.svg`: the samples of `scripts/soak --hours` as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Points = list[tuple[float, float]]

WIDTH, HEIGHT, MARGIN = 460, 210, 46
#: Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
PARTS = ("supervisor", "server", "node", "launcher", "keeper", "zone", "runner", "program")


def _of_parts(figure: str, parts: tuple[str, ...] = PARTS) -> dict[str, Callable[[Any], float]]:
    return {part: lambda s, part=part: s["parts"][part][figure] for part in parts}  # type: ignore[misc]


def _of_host(*names: str) -> dict[str, Callable[[Any], float]]:
    return {name.removesuffix("_mib"): lambda s, name=name: s["host"][name] for name in names}  # type: ignore[misc]


def panels() -> list[tuple[str, dict[str, Callable[[Any], float]]]]:
    return [
        ("memory of each part (PSS, MiB)", _of_parts("pss_mib")),
        ("open descriptors", _of_parts("descriptors")),
        ("threads", _of_parts("threads")),
        ("a warm remote call (ms)", {q: lambda s, q=q: s["latency_ms"][q] for q in ("p50", "p99")}),  # type: ignore[misc]
        ("held by the kernel", _of_host("mounts", "links", "tables", "cgroups")),
        ("on disk, without image layers (MiB)", _of_host("database_mib", "logs_mib")),
    ]


def picture(samples: list[Any]) -> str:
    """An SVG with a panel for each kind of figure, over the hours."""
    drawn = panels()
    height = (HEIGHT + 30) * ((len(drawn) + 1) // 2) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH + 20}" height="{height}">',
        "<style>text {font: 11px sans-serif}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (title, series) in enumerate(drawn):
        x, y = (number % 2) * (WIDTH + 10) + 5, (number // 2) * (HEIGHT + 30) + 10
        found = {
            name: [(s["seconds"] / 3600, float(value(s))) for s in samples] for name, value in series.items()
        }
        lines += [f'<g transform="translate({x},{y})">', *_panel(title, found), "</g>"]
    return "\n".join([*lines, "</svg>\n"])


def _panel(title: str, series: dict[str, Points]) -> list[str]:
    right, bottom = WIDTH - 90, HEIGHT - 24
    longest = max(x for points in series.values() for x, _ in points) or 1.0
    highest = 1.1 * max(y for points in series.values() for _, y in points) or 1.0

    def place(x: float, y: float) -> str:
        across = MARGIN + (right - MARGIN) * x / longest
        return f"{across:.1f},{bottom - (bottom - 24) * y / highest:.1f}"

    lines = [f'<text x="{MARGIN}" y="14" style="font-weight: bold">{title}</text>']
    for tick in range(5):
        y = bottom - (bottom - 24) * tick / 4
        lines.append(f'<line x1="{MARGIN}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        value = highest * tick / 4
        lines.append(f'<text x="{MARGIN - 4}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for tick in range(5):
        x = MARGIN + (right - MARGIN) * tick / 4
        lines.append(
            f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{longest * tick / 4:.2g} h</text>'
        )
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(x, y) for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        y = 30 + 16 * number
        lines.append(f'<rect x="{right + 8}" y="{y - 8}" width="10" height="4" fill="{colour}"/>')
        lines.append(f'<text x="{right + 22}" y="{y - 2}">{name}</text>')
    return lines


def read(samples: Path) -> list[Any]:
    return [json.loads(line) for line in samples.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(picture(read(Path(sys.argv[1]))), "utf-8")
