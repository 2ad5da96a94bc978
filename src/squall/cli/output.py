"""Plain output: labelled lines, aligned columns, or JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option: Callable[[Any], Any] = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask, where somebody is there to answer. Raises click.Abort for a no."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True)


def echo_json(value: Any) -> None:
    """A message, a list of messages or plain data."""
    click.echo(json.dumps(plain(value), indent=2))


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Columns under their names; `empty` where there are no rows."""
    if not rows:
        click.echo(empty)
        return
    texts = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    for row in texts:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def echo_labels(pairs: Sequence[tuple[str, object]]) -> None:
    """One `label: value` a line, aligned."""
    width = max(len(label) for label, _ in pairs) + 1
    for label, value in pairs:
        click.echo(f"{label + ':':<{width}} {_text(value)}".rstrip())


def when(seconds: float) -> str:
    """Wall-clock seconds as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.0f} MiB"


def cpu_seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def gpus(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind}:{count}" for kind, count in sorted(counts.items())) or "-"


def _text(value: object) -> str:
    return str(value) if value not in ("", None) else "-"


def plain(value: Any) -> Any:
    """A message, or a list of them, as JSON has it."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )
