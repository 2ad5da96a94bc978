"""Finds the user's function or class: by module and name in the mounted source, or in a cloudpickle."""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import TYPE_CHECKING, Any

from squall.runner import targets
from squall.runner.results import not_in_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.runner.targets import Target


class LoadError(Exception):
    """The function cannot be had, or its object not be made; the message is one line for its author."""

    def __init__(self, kind: str, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.cause = cause


def target(config: Mapping[str, Any], serialized: bytes | memoryview) -> Target:
    """What a CONFIG frame names, without what its decorator wrapped around it. Raises LoadError."""
    add_paths(config["paths"])
    found = _unpickled(config, serialized) if config.get("serialized") else _found(config)
    if config.get("class") is not None:
        return _instance(found, config)
    raw = getattr(found, "raw_f", found)
    if not callable(raw):
        raise LoadError("InvalidError", f"{found!r} is not a function")
    return targets.Target({"": raw})


def failure(error: BaseException, what: str) -> LoadError:
    """That the user's code raised."""
    told = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
    return LoadError(type(error).__name__, f"{what} failed: {told}", error)


def _instance(found: Any, config: Mapping[str, Any]) -> Target:
    blueprint = getattr(found, "blueprint", found)
    if not hasattr(blueprint, "instantiate"):
        raise LoadError("InvalidError", f"{config['qualname']} is not declared with @app.cls() here")
    try:
        return targets.instance(blueprint, config["class"])
    except BaseException as error:
        raise failure(error, f"making an object of {config['name']}") from error


def _found(config: Mapping[str, Any]) -> Any:
    found = _imported(config)
    for name in config["qualname"].split("."):
        try:
            found = getattr(found, name)
        except AttributeError:  # noqa: PERF203 - names have few parts
            raise LoadError(
                "NotFoundError",
                f"the module {config['module']} has no {config['qualname']}: "
                "define it at the top level, or use serialized=True",
            ) from None
    return found


def add_paths(paths: list[str]) -> None:
    """Source comes first, in order."""
    new = [p for p in paths if p not in sys.path]
    sys.path[:0] = new


def cancellation(name: str, fallback: type[BaseException]) -> type[BaseException]:
    """The exception class at "module:class"; the fallback where the container does not have it."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        return fallback
    return found if isinstance(found, type) and issubclass(found, BaseException) else fallback


def _imported(config: Mapping[str, Any]) -> Any:
    """The user's module; it is `__main__` too, so that what a script pickled resolves."""
    try:
        module = importlib.import_module(config["module"])
    except ModuleNotFoundError as error:
        raise _missing(config, error) from error
    except BaseException as error:
        raise failure(error, f"importing {config['module']}") from error
    sys.modules["__main__"] = module
    return module


def _unpickled(config: Mapping[str, Any], serialized: bytes | memoryview) -> Any:
    try:
        return pickle.loads(serialized)
    except ModuleNotFoundError as error:
        raise _missing(config, error) from error
    except BaseException as error:
        raise LoadError(
            "DeserializationError",
            f"the serialized {config['name']} does not load under Python {sys.version.split()[0]}: {error}",
            error,
        ) from error


def _missing(config: Mapping[str, Any], error: ModuleNotFoundError) -> LoadError:
    name = error.name or str(error)
    source = config["module"] if not config.get("serialized") else f"the function {config['name']}"
    if name.split(".")[0] == config["module"].split(".")[0] and not config.get("serialized"):
        message = (
            f"no module named {name} in the container: was its source sent? (searched {config['paths']})"
        )
        return LoadError("ModuleNotFoundError", message, error)
    return LoadError("ModuleNotFoundError", f"{source} imports {name}, which {not_in_image(name)}", error)
