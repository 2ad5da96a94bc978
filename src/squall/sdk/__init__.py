"""What a user's program touches. Standard library only on import: it is imported inside containers too."""

from __future__ import annotations

from squall.sdk.app import App
from squall.sdk.call import FunctionCall
from squall.sdk.cls import Cls
from squall.sdk.context import current_function_call_id, current_input_id, is_local
from squall.sdk.function import Function
from squall.sdk.image import Image
from squall.sdk.members import enter, exit, method  # noqa: A004 - the public name
from squall.sdk.output import enable_output
from squall.sdk.parameters import parameter
from squall.sdk.patterns import FilePatternMatcher
from squall.sdk.retries import Retries
from squall.sdk.secret import Secret
from squall.sdk.sharing import batched, concurrent

__all__ = [
    "App",
    "Cls",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "Retries",
    "Secret",
    "batched",
    "concurrent",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exit",
    "is_local",
    "method",
    "parameter",
]
