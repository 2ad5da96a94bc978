"""What `squall run` and `squall deploy` are given: a file or module, imported, and what is meant in it."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from squall.cli import methods, tracebacks
from squall.sdk import App, Cls, Function
from squall.sdk.entrypoint import LocalEntrypoint
from squall.sdk.source.home import script_name

if TYPE_CHECKING:
    from types import ModuleType

    from squall.cli.methods import ClassMethod

    Runnable = LocalEntrypoint[..., Any] | Function[..., Any] | ClassMethod


class Reference(NamedTuple):
    """`file.py::name`, or with `-m` `package.module::name`; `name` may be empty."""

    module: str
    name: str
    is_module: bool


def parse(text: str, *, is_module: bool) -> Reference:
    """Raises click.UsageError."""
    module, _, name = text.partition("::")
    file, colon, called = module.rpartition(":")
    if colon and not name and os.path.isfile(file):
        raise click.UsageError(f"{module} has one colon, and it takes two: {file}::{called}.")
    if not module:
        raise click.UsageError("Name a file, such as hello.py, or with -m a module.")
    if not is_module and not module.endswith(".py") and not os.path.isfile(module):
        raise click.UsageError(f"{module} is no Python file: name one, or a module with -m.")
    return Reference(module, name, is_module)


def load(reference: Reference) -> ModuleType:
    """Import it, under the name that it will have in containers.

    Raises click.ClickException; what the module itself raises is told, and ends in click's Exit.
    """
    # Below the file's own folder: `squall run jobs/train.py` finds what lies here, as with Modal's.
    sys.path.insert(0, os.getcwd())
    name = reference.module if reference.is_module else _module_name(reference.module)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise tracebacks.importing_failed(reference.module, error) from None
    if not reference.is_module and not _is_file(module, reference.module):
        raise click.ClickException(
            f"{reference.module} has the name of another module, {name}, that is loaded already: rename it."
        )
    return module


def _module_name(path: str) -> str:
    """As which the file can be imported: below its outermost package, or by itself. Extends sys.path."""
    file = os.path.abspath(path)
    if not os.path.isfile(file):
        raise click.ClickException(f"There is no file {path}.")
    folder, parts = os.path.dirname(file), [script_name(file)]
    # What lies beside the file can be imported, as when it is run as a script.
    sys.path.insert(0, folder)
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
        if not package:
            break
    if len(parts) > 1:
        sys.path.insert(0, folder)
    return ".".join(parts)


def _is_file(module: ModuleType, path: str) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and os.path.realpath(file) == os.path.realpath(path)


def runnable(module: ModuleType, reference: Reference) -> Runnable:
    """The entrypoint, function or method that is meant. Raises click.UsageError with those there are."""
    of_app, name = _split(module, reference.name)
    entrypoints, functions = _named([of_app] if of_app is not None else _apps(module))
    if name:
        found = entrypoints.get(name) or functions.get(name)
        of_class = [f for each, f in functions.items() if each.startswith(f"{name}.")]
        if found is None and len(of_class) == 1:
            return of_class[0]
        if found is None:
            known = ", ".join([*entrypoints, *functions]) or "none at all"
            raise click.UsageError(f"{reference.module} has no function {name}; it has {known}.")
        return found
    choice: dict[str, Any] = dict(entrypoints or functions)
    if len(choice) == 1:
        return next(iter(choice.values()))  # type: ignore[no-any-return]
    if not choice:
        raise click.UsageError(
            f"{reference.module} has nothing to run: declare an @app.function() or @app.local_entrypoint()."
        )
    raise click.UsageError(
        f"{reference.module} has several to run, name one: {reference.module}::{next(iter(choice))}. "
        f"There are {', '.join(choice)}."
    )


def function(module: ModuleType, reference: Reference) -> Function[..., Any]:
    """The function that is meant, or the class as one. Raises click.UsageError with those there are."""
    of_app, name = _split(module, reference.name)
    apps = [of_app] if of_app is not None else _apps(module)
    found: dict[str, Function[..., Any]] = {}
    for each in dict.fromkeys(apps):
        classes = {name: cls.service for name, cls in each.registered_classes.items() if cls.service}
        found = {**each.registered_functions, **classes, **found}
    if name in found:
        return found[name]
    if not name and len(found) == 1:
        return next(iter(found.values()))
    known = ", ".join(found) or "none at all"
    if name:
        raise click.UsageError(f"{reference.module} has no function {name}; it has {known}.")
    raise click.UsageError(f"Say which function of {reference.module}: it has {known}.")


def app(module: ModuleType, reference: Reference) -> App:
    """The app that is meant: by variable or by its own name, or the only one. Raises click.UsageError."""
    variables = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    if reference.name:
        for key, value in variables.items():
            if reference.name in {key, value.name}:
                return value
        raise click.UsageError(
            f"{reference.module} has no app {reference.name}; it has {', '.join(variables) or 'none'}."
        )
    apps = list(dict.fromkeys(variables.values()))
    if len(apps) == 1:
        return apps[0]
    if "app" in variables:
        return variables["app"]
    if not apps:
        raise click.UsageError(f'{reference.module} has no app: write app = squall.App("name").')
    raise click.UsageError(f"{reference.module} has several apps: say which, of {', '.join(variables)}.")


def _apps(module: ModuleType) -> list[App]:
    """All that the module knows, its own variables first."""
    values = list(vars(module).values())
    apps = [v for v in values if isinstance(v, App)]
    declared = (v for v in values if isinstance(v, (Function, LocalEntrypoint, Cls)))
    apps += [v.app for v in declared if v.app is not None]
    return apps


def _named(
    apps: list[App],
) -> tuple[dict[str, LocalEntrypoint[..., Any]], dict[str, Function[..., Any] | ClassMethod]]:
    """Their entrypoints, and functions and methods; of equal names those of the first app."""
    entrypoints: dict[str, LocalEntrypoint[..., Any]] = {}
    functions: dict[str, Function[..., Any] | ClassMethod] = {}
    for each in dict.fromkeys(apps):
        entrypoints = {**each.registered_entrypoints, **entrypoints}
        functions = {**each.registered_functions, **methods.of_app(each), **functions}
    return entrypoints, functions


def _split(module: ModuleType, name: str) -> tuple[App | None, str]:
    """`app.main` is the `main` of the app in the variable `app`, or of that name."""
    first, _, rest = name.partition(".")
    if rest:
        for variable, value in vars(module).items():
            if isinstance(value, App) and first in {variable, value.name}:
                return value, rest
    return None, name
