"""Parameters of classes: `size: str = squall.parameter(default="small")`."""

from __future__ import annotations

from typing import Any

from squall.exception import InvalidError
from squall.sdk import checks

#: What a parameter may be: both sides compare these without unpickling anything.
KINDS: dict[str, type] = {"str": str, "int": int, "bool": bool, "bytes": bytes}
NO_DEFAULT: Any = type("_NoDefault", (), {"__repr__": lambda _: "no default"})()
_INT = 1 << 63


class Parameter:
    """In the class; on an object, its value is in the object's own dictionary."""

    name = ""

    def __init__(self, default: Any, *, init: bool) -> None:
        self.default = default
        self.init = init

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(f"{type(instance).__name__!r} object has no attribute {self.name!r} yet")


def parameter(*, default: Any = NO_DEFAULT, init: bool = True) -> Any:
    """A parameter of a class, of type str, int, bool or bytes; each set of values has containers of its own.

    Without `default` it must be given. With `init=False` it is no parameter, but an attribute with a type.
    """
    return Parameter(default, init=checks.flag("init", init))


def kind_of(owner: str, name: str, annotation: object) -> str:
    """The kind of a parameter by its annotation, which may be a text. Raises InvalidError."""
    text = annotation.strip("'\" ") if isinstance(annotation, str) else ""
    for kind, python_type in KINDS.items():
        if annotation is python_type or text in {kind, f"builtins.{kind}"}:
            return kind
    if annotation is None:
        raise InvalidError(f"parameter {name} of {owner} has no type: write {name}: str = squall.parameter()")
    told = text or getattr(annotation, "__name__", None) or checks.short(annotation)
    raise InvalidError(
        f"parameter {name} of {owner} is of type {told}: a parameter can be str, int, bool or bytes"
    )


def check_value(owner: str, name: str, kind: str, value: object) -> None:
    """Raises InvalidError."""
    if type(value) is not KINDS[kind]:
        raise InvalidError(
            f"{name}={checks.short(value)} is not possible for {owner}: give {_article(kind)}, and not "
            f"{_article(type(value).__name__)}"
        )
    if isinstance(value, int) and not -_INT <= value < _INT:
        raise InvalidError(f"{name}={checks.short(value)} is not possible for {owner}: it needs over 64 bits")


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
