"""A function's parameters as options of a command: types and defaults from its signature."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import pathlib
import types
import typing
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_EMPTY = inspect.Parameter.empty
_SIMPLE: dict[Any, Any] = {
    str: str,
    int: int,
    float: float,
    pathlib.Path: click.Path(path_type=pathlib.Path),
    dt.datetime: click.DateTime(),
    dt.date: click.DateTime(["%Y-%m-%d"]),
}
_NAMES = "str, int, float, bool, datetime, Path, Literal, an Enum, Optional and list of these"


def command(name: str, function: Callable[..., Any], call: Callable[..., Any]) -> click.Command:
    """A command that calls `call` with the arguments of `function`. Raises click.UsageError."""
    parameters = [_parameter(p) for p in _parameters(function)]

    def callback(**options: Any) -> Any:
        return call(*_arguments(function, options)[0], **_arguments(function, options)[1])

    text = inspect.cleandoc(function.__doc__) if function.__doc__ else None
    settings = {"help_option_names": ["-h", "--help"]}
    return click.Command(name, settings, callback, parameters, help=text)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """With annotations as objects: `from __future__ import annotations` makes texts of them."""
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = {}
    return [p.replace(annotation=hints.get(name, p.annotation)) for name, p in signature.parameters.items()]


def _parameter(parameter: inspect.Parameter) -> click.Parameter:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return click.Argument([parameter.name], nargs=-1, type=click.UNPROCESSED)
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        raise click.UsageError(f"The parameter **{parameter.name} cannot be given on the command line.")
    names = [parameter.name, "--" + parameter.name.replace("_", "-")]
    if "_" in parameter.name:
        names.append("--" + parameter.name)
    settings: dict[str, Any] = {"required": True}
    if parameter.default is not _EMPTY:
        settings = {"default": parameter.default, "show_default": parameter.default is not None}
    kind, many = _kind(parameter)
    if kind is bool:
        flag = names[1]
        return click.Option([names[0], f"{flag}/--no-{flag.removeprefix('--')}"], **settings)
    return click.Option(names, type=kind, multiple=many, **settings)


def _kind(parameter: inspect.Parameter) -> tuple[Any, bool]:
    """(click's type, whether it may be given several times)."""
    annotation = parameter.annotation
    if annotation is _EMPTY:
        default = parameter.default
        known = type(default) is bool or type(default) in _SIMPLE
        annotation = type(default) if known else str
    annotation = _not_optional(annotation)
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list or annotation is list:
        return _single(parameter, _not_optional(inside[0]) if inside else str), True
    return _single(parameter, annotation), False


def _single(parameter: inspect.Parameter, annotation: Any) -> Any:
    if annotation is bool or annotation in _SIMPLE:
        return bool if annotation is bool else _SIMPLE[annotation]
    if annotation is Any:
        return str
    if typing.get_origin(annotation) is typing.Literal:
        return _Choice({str(value): value for value in typing.get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _Choice({member.name: member for member in annotation})
    name = getattr(annotation, "__name__", str(annotation))
    raise click.UsageError(
        f"The parameter {parameter.name}: {name} cannot be given on the command line: {_NAMES} can."
    )


class _Choice(click.Choice):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.2 on
    """One of several values, by its text."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(list(values))
        self._values = values

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default
        return self._values[super().convert(value, param, ctx)]


def _not_optional(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inside = [a for a in typing.get_args(annotation) if a is not type(None)]
        if len(inside) == 1:
            return inside[0]
    return annotation


def _arguments(function: Callable[..., Any], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional where the function wants them so."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = _parameters(function)
    positional = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    for parameter in parameters:
        value = _value(parameter, options[parameter.name])
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args += value
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
            positional and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            args.append(value)
        else:
            kwargs[parameter.name] = value
    return args, kwargs


def _value(parameter: inspect.Parameter, value: Any) -> Any:
    """Click gives tuples for lists, and a datetime for a date."""
    if _not_optional(parameter.annotation) is dt.date and isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, tuple) and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
        if not value and parameter.default is None:
            return None
        return list(value)
    return value
