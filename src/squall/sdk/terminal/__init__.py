"""A live picture of an app at the bottom of a terminal, below what its containers print. Loads `rich`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from squall.sdk.output import Printer

if TYPE_CHECKING:
    from collections.abc import Mapping


def printer(*, timestamps: bool) -> Printer:
    """For standard error on a terminal: a live one, unless the terminal cannot move its cursor."""
    if not is_able(os.environ):
        return Printer(timestamps=timestamps)
    from squall.sdk.terminal.live import Live

    return Live(sys.stdout, sys.stderr, timestamps=timestamps)


def is_able(environment: Mapping[str, str]) -> bool:
    return environment.get("TERM", "").lower() not in ("", "dumb", "unknown")
