"""Squall: run Python functions in the cloud you own. The public names, and nothing else.

They load on first use: a user's file imports squall in the container too, where each millisecond counts.
"""

from __future__ import annotations

from importlib import import_module

# Type checkers take it for true by its name; importing `typing` would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from squall import exception
    from squall.sdk import App, Function, FunctionCall, Image

__version__ = "0.1.0"

__all__ = ["App", "Function", "FunctionCall", "Image", "__version__", "exception"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'squall' has no attribute {name!r}")
    value = import_module("squall.exception") if name == "exception" else _from_sdk(name)
    globals()[name] = value
    return value


def _from_sdk(name: str) -> object:
    return getattr(import_module("squall.sdk"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
