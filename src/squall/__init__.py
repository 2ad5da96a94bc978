"""Squall: run Python functions in the cloud you own. The public names, and nothing else.

They load on first use: a user's file imports squall in the container too, where each millisecond counts.
"""

from __future__ import annotations

from importlib import import_module

# Type checkers take it for true by its name; importing `typing` would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from squall import call_graph, exception, experimental
    from squall.exception import Error
    from squall.sdk import (
        App,
        Cls,
        FilePatternMatcher,
        Function,
        FunctionCall,
        Image,
        Retries,
        Secret,
        batched,
        concurrent,
        current_function_call_id,
        current_input_id,
        enable_output,
        enter,
        exit,  # noqa: A004 - the public name
        is_local,
        method,
        parameter,
    )

__version__ = "0.1.0"

__all__ = [
    "App",
    "Cls",
    "Error",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "Retries",
    "Secret",
    "__version__",
    "batched",
    "call_graph",
    "concurrent",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exception",
    "exit",
    "experimental",
    "is_local",
    "method",
    "parameter",
]

_ELSEWHERE = {
    "Error": ("squall.exception", "Error"),
    "call_graph": ("squall.call_graph", ""),
    "exception": ("squall.exception", ""),
    "experimental": ("squall.experimental", ""),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise _missing(name)
    module, attribute = _ELSEWHERE.get(name, ("squall.sdk", name))
    loaded = import_module(module)
    value = getattr(loaded, attribute) if attribute else loaded
    globals()[name] = value
    return value


def _missing(name: str) -> Exception:
    """Names that begin with an underscore are asked for by machinery, which needs no advice."""
    if not name.startswith("_"):
        from squall.sdk.unavailable import missing_name

        if (advice := missing_name(name)) is not None:
            return advice
    return AttributeError(f"module 'squall' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
