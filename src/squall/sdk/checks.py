"""Checks of values that users give. Each failure is one line that names the parameter and what is right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def whole(name: str, value: object, low: int, high: int, unit: str = "") -> int:
    """A whole number within bounds. Raises InvalidError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidError(
            f"{name}={short(value)} is not possible: give a whole number{unit} from {low} to {high}"
        )
    return value


def number(name: str, value: object, low: float, high: float, unit: str = "") -> float:
    """A number within bounds. Raises InvalidError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        bounds = f"from {in_full(low)} to {in_full(high)}"
        raise InvalidError(f"{name}={short(value)} is not possible: give a number{unit} {bounds}")
    return value


def in_full(value: float) -> str:
    """As people write it: 1073741824, not 1.07374e+09."""
    return str(int(value)) if value == int(value) else str(value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidError(f"{name}={short(value)} is not possible: give True or False")
    return value


def texts(name: str, value: object) -> list[str]:
    """A text, or a sequence of texts, none of them empty. Raises InvalidError."""
    values = [value] if isinstance(value, str) else value
    if isinstance(values, (list, tuple)) and all(isinstance(v, str) and v.strip() for v in values):
        return list(values)
    raise InvalidError(f"{name}={short(value)} is not possible: give a text, or a list of texts")


def flattened(name: str, values: Iterable[object]) -> list[str]:
    """Texts given one by one or in lists. Raises InvalidError."""
    return [text for value in values for text in texts(name, value)]


def variables(name: str, value: Any) -> dict[str, str]:
    """Environment variables; those that are None are left out. Raises InvalidError."""
    if value is None:
        return {}
    if not hasattr(value, "items"):
        raise InvalidError(f"{name}={short(value)} is not possible: give a dictionary of texts")
    for key, text in value.items():
        if (
            not isinstance(key, str)
            or not _VARIABLE.fullmatch(key)
            or not isinstance(text, (str, type(None)))
        ):
            raise InvalidError(
                f"{name}={{{short(key)}: {short(text)}}} is not possible: give names and texts"
            )
        if key.startswith("SQUALL_"):
            raise InvalidError(
                f"{name}={{{key!r}: ...}} is not possible: names with SQUALL_ are Squall's own"
            )
        if text is not None and "\0" in text:
            raise InvalidError(f"{name}={{{key!r}: ...}} is not possible: the text has a null byte")
    return {key: text for key, text in value.items() if text is not None}


def hidden_variables(name: str, value: Any) -> dict[str, str]:
    """As `variables`, for what no error may show. Raises InvalidError."""
    if not hasattr(value, "items"):
        raise InvalidError(f"{name}= must be a dictionary of texts, and not a {type(value).__name__}")
    for key, text in value.items():
        if not isinstance(key, str) or not _VARIABLE.fullmatch(key) or key.startswith("SQUALL_"):
            raise InvalidError(f"{short(key)} of {name}= is no name for a variable of a secret")
        if not isinstance(text, (str, type(None))):
            raise InvalidError(f"{key} of {name}= must be a text or None, and not a {type(text).__name__}")
        if text is not None and "\0" in text:
            raise InvalidError(f"{key} of {name}= has a null byte: a variable cannot hold it")
    return {key: text for key, text in value.items() if text is not None}


def version(value: object) -> int:
    """Of a deployed app; 0 for none in particular. Raises InvalidError."""
    return 0 if value is None else whole("version", value, 1, 1 << 31)


def secret_name(value: object) -> str:
    if isinstance(value, str) and _APP_NAME.fullmatch(value):
        return value
    raise InvalidError(
        f"{short(value)} is no name for a secret: use up to 64 letters, digits, '.', '_' and '-'"
    )


def tags(value: Any) -> dict[str, str]:
    """An app's tags. Raises InvalidError; the server knows what they may be called."""
    if value is None:
        return {}
    if not hasattr(value, "items") or not all(isinstance(t, str) for item in value.items() for t in item):
        raise InvalidError(f"tags={short(value)} is not possible: give a dictionary of texts")
    return dict(value)


def app_name(value: object) -> str:
    if isinstance(value, str) and _APP_NAME.fullmatch(value):
        return value
    raise InvalidError(
        f"{short(value)} is no name for an app: use up to 64 letters, digits, '.', '_' and '-'"
    )


#: Names that parameters had in earlier versions of the interface.
RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
}


def function_name(value: object) -> str:
    if isinstance(value, str) and _FUNCTION_NAME.fullmatch(value):
        return value
    raise InvalidError(f"{short(value)} is no name for a function: use letters, digits, '.', '_' and '-'")


def known(where: str, given: Iterable[str], names: Mapping[str, Any]) -> None:
    """Raises InvalidError for a parameter that does not exist, with those that do."""
    for name in given:
        if name in names:
            continue
        import difflib

        close = difflib.get_close_matches(name, names, 1)
        public = ", ".join(n for n in names if not n.startswith("_"))
        close = [RENAMED[name]] if RENAMED.get(name) in names else close
        right = f"did you mean {close[0]}=?" if close else f"it takes {public}"
        raise InvalidError(f"{where} has no parameter {name}=: {right}")


def short(value: object) -> str:
    """The value as written, in at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."
