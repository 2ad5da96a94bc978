"""What `squall doctor` finds out: one thing about this machine, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: "lost": Squall works, with less. "failed": nothing can run until it is mended.
State = Literal["ok", "lost", "failed"]


@dataclass(frozen=True)
class Check:
    """`found` and `remedy` are one line each; a remedy is what to do, empty where there is nothing to do."""

    name: str
    state: State
    found: str
    remedy: str = ""
