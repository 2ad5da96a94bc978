"""Where a function is defined: a module that exists under the same name on both sides."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Home:
    """`module` is the name to import; `is_main`: here it is the program itself, and called `__main__`.

    `file` is empty where there is none: in an interactive session.
    """

    module: str
    file: str
    is_main: bool


def home_of(function: Callable[..., Any]) -> Home:
    name = function.__module__
    module: Any = sys.modules.get(name)
    if name != "__main__":
        return Home(name, getattr(module, "__file__", None) or "", is_main=False)
    spec = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None) or ""
    if spec is not None:  # python -m package.module
        return Home(spec.name, file, is_main=True)
    if not file or not os.path.isfile(file):
        return Home("__main__", "", is_main=True)
    return Home(script_name(file), os.path.abspath(file), is_main=True)


def script_name(file: str) -> str:
    """The name under which a script can be imported. Raises InvalidError."""
    stem = os.path.basename(file).removesuffix(".py")
    if not stem or "." in stem:
        raise InvalidError(
            f"{os.path.basename(file)} cannot be imported under any name: rename it, without dots"
        )
    return stem


def share_main(home: Home) -> None:
    """Let objects that come back find the program's classes under the module's real name, too."""
    if home.is_main and home.file:
        sys.modules.setdefault(home.module, sys.modules["__main__"])
