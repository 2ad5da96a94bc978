"""The model as lines of a given width. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from squall.sdk.terminal.model import Function, Image, Model

#: An image that is there within so many seconds is not worth a line.
SOON = 0.3
MAX_BARS = 8
SPINNER_HZ = 8
#: Colours of containers, in turn.
COLORS = ("cyan", "magenta", "yellow", "blue", "green", "bright_cyan", "bright_magenta", "bright_yellow")
#: Escape sequences, but for colours; control characters, but for tabs; what else ends a line.
_UNSAFE = re.compile(
    r"\x1b(?!\[[0-9;:]*m)(?:\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?"
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029]"
)


@dataclass(frozen=True)
class Symbols:
    spinner: str
    done: str
    failed: str
    branch: str
    last: str
    more: str


UNICODE = Symbols("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "✓", "✗", "├─ ", "└─ ", "…")
ASCII = Symbols("|/-\\", "*", "x", "|- ", "`- ", "...")


def render(
    model: Model, width: int, now: float, symbols: Symbols = UNICODE, *, final: bool = False
) -> list[Text]:
    """At most `width` cells a line. `final`: what stays on the terminal in the end."""
    told = (i for i in model.images.values() if i.ended is not None or now - i.begun >= SOON)
    lines = [_image(image, now, symbols) for image in told]
    bars = [] if final else model.bars[-MAX_BARS:]
    for function in model.functions.values():
        if function.now.inputs or not final:
            mine = [each for each in bars if each[0].rpartition(" ")[0] == function.now.function]
            bars = [each for each in bars if each not in mine]
            details = [] if final else _details(function)
            lines.append(_function(function, now, symbols))
            lines += _branches([*details, *(bar(model, *each) for each in mine)], symbols)
    lines += [bar(model, *each) for each in bars]
    if model.notice and not final:
        lines.append(Text.assemble(_spin(now, symbols), (f" {safe(model.notice)}", "yellow")))
    for line in lines:
        line.truncate(max(1, width), overflow="ellipsis" if symbols is UNICODE else "crop")
    return lines


def bar(model: Model, name: str, line: str) -> Text:
    """A container's line, labelled when several print."""
    text = Text.from_ansi(safe(line), end="")
    if not model.several:
        return text
    color = COLORS[model.number(name) % len(COLORS)]
    return Text.assemble((name, color), (" | ", "dim"), text)


def safe(line: str) -> str:
    """What a program prints may colour the terminal, and do no more to it."""
    return _UNSAFE.sub("", line).expandtabs()


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02} min"


def _spin(now: float, symbols: Symbols) -> tuple[str, str]:
    return symbols.spinner[int(now * SPINNER_HZ) % len(symbols.spinner)], "cyan"


def _image(image: Image, now: float, symbols: Symbols) -> Text:
    name = f" image {image.id[:9]} "
    took = seconds((now if image.ended is None else image.ended) - image.begun)
    if image.failed:
        return Text.assemble((symbols.failed, "red"), name, f"failed after {took}")
    if image.ended is not None:
        return Text.assemble((symbols.done, "green"), name, f"built in {took}")
    step = f"step {image.step} of {image.steps}, " if image.step else ""
    return Text.assemble(_spin(now, symbols), name, f"{step}{took} ", (safe(image.line), "dim"))


def _function(function: Function, now: float, symbols: Symbols) -> Text:
    its = function.now
    failed = (f", {its.failed} failed", "red") if its.failed else ""
    if function.done:
        mark = (symbols.failed, "red") if its.failed else (symbols.done, "green")
        took = seconds(function.changed - function.begun)
        rate = f", {function.overall():.1f}/s" if function.overall() else ""
        plural = "" if its.inputs == 1 else "s"
        return Text.assemble(
            mark,
            " ",
            (its.function, "bold"),
            f" {its.inputs} input{plural} done",
            failed,
            f" in {took}{rate}",
        )
    plus = "+" if its.more else ""
    rate = f", {function.rate(now):.1f}/s" if function.rate(now) else ""
    left = function.seconds_left(now)
    about = "" if left is None else f", about {seconds(left)} left"
    return Text.assemble(
        _spin(now, symbols),
        " ",
        (its.function, "bold"),
        f" {its.ended}/{its.inputs}{plus} done",
        failed,
        f", {its.running} running{rate}{about}",
    )


def _details(function: Function) -> list[Text]:
    its = function.now
    states = ((its.starting, "starting"), (its.busy, "busy"), (its.idle, "idle"))
    containers = ", ".join(f"{count} {state}" for count, state in states if count)
    found = [Text(f"containers: {containers}", "dim")] if containers else []
    if its.waiting and not function.done:
        found.append(Text(f"waits: {safe(its.waiting)}", "yellow"))
    elif its.starting and not its.busy and not its.idle and not function.done:
        found.append(Text("waits: its first containers start", "yellow"))
    return found


def _branches(texts: list[Text], symbols: Symbols) -> list[Text]:
    last = len(texts) - 1
    return [
        Text.assemble(("  " + (symbols.last if i == last else symbols.branch), "dim"), text)
        for i, text in enumerate(texts)
    ]
