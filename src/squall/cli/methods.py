"""Methods of classes on the command line: `squall run model.py::Model.predict --size large --x 1`."""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any

import click

from squall.sdk.members import Method
from squall.sdk.parameters import KINDS, NO_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.sdk import App, Cls

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


class ClassMethod:
    """A method of an object that the command makes: its arguments are the class's parameters and its own."""

    def __init__(self, cls: Cls, method: str) -> None:
        self.name = f"{cls.name}.{method}"
        self.app: Any = cls.app
        self._cls = cls
        self._method = method
        self._marked = cls.blueprint.members(Method)[method]
        self.is_generator = self._marked.is_generator

    def get_raw_f(self) -> Callable[..., Any]:
        """Something with the signature of both. Raises click.UsageError for a name that both have."""
        own, of_class = self._own(), self._of_class()
        for parameter in of_class:
            if parameter.name in {p.name for p in own}:
                raise click.UsageError(
                    f"{self._cls.name} and {self._method} both have a parameter {parameter.name}: "
                    "call it from a local entrypoint."
                )

        def described() -> None: ...

        plain = [p for p in own if p.kind is not _KEYWORD]
        named = [p for p in own if p.kind is _KEYWORD]
        described.__signature__ = inspect.Signature([*plain, *of_class, *named])  # type: ignore[attr-defined]
        described.__annotations__ = {}
        described.__doc__ = self._marked.raw_f.__doc__
        return described

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        method, rest = self._bound(kwargs)
        return method.remote(*args, **rest)

    def remote_gen(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        method, rest = self._bound(kwargs)
        return iter(method.remote_gen(*args, **rest))

    def _bound(self, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        names = {p.name for p in self._of_class()}
        parameters = {name: value for name, value in kwargs.items() if name in names}
        rest = {name: value for name, value in kwargs.items() if name not in names}
        return getattr(self._cls(**parameters), self._method), rest

    def _own(self) -> list[inspect.Parameter]:
        """Of the method, without the object, annotations as objects where they can be had."""
        raw = self._marked.raw_f
        try:
            hints = typing.get_type_hints(raw)
        except Exception:
            hints = {}
        parameters = list(inspect.signature(raw).parameters.values())[1:]
        return [p.replace(annotation=hints.get(p.name, p.annotation)) for p in parameters]

    def _of_class(self) -> list[inspect.Parameter]:
        """Of the class; bytes that need not be given are left out: no command line has them."""
        blueprint = self._cls.blueprint
        found = []
        for name, kind in blueprint.kinds().items():
            default = blueprint.parameters()[name].default
            if kind == "bytes" and default is not NO_DEFAULT:
                continue
            given = inspect.Parameter.empty if default is NO_DEFAULT else default
            found.append(inspect.Parameter(name, _KEYWORD, default=given, annotation=KINDS[kind]))
        return found


def of_app(app: App) -> dict[str, ClassMethod]:
    """All methods of an app's classes by name."""
    return {
        f"{name}.{method}": ClassMethod(cls, method)
        for name, cls in app.registered_classes.items()
        for method in cls.blueprint.members(Method)
    }
