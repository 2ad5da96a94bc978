"""What a runner is given, as frames. Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from squall.runner import protocol

if TYPE_CHECKING:
    from squall.node.inputs import Attempt


def of_input(attempt: Attempt, data: bytes, fd: int | None) -> bytes:
    """An INPUT; its payload is `data`, or in the memory file that goes along, or a socket and a page do.

    A chunk has a page too.
    """
    item = attempt.input
    header: dict[str, Any] = {"in": item.input, "a": item.attempt, "call": item.call}
    if item.method:
        header["m"] = item.method
    if item.generator:
        header["c"] = attempt.credit
    if item.trace is not None:
        header["t"] = True
    if attempt.count > 1:
        header["sizes"] = item.sizes
    header.update({"line": True} if attempt.line else attached(fd))
    return protocol.encode(protocol.INPUT, attempt.number, header, data)


def attached(fd: int | None) -> dict[str, Any]:
    """In the header of a frame with a memory file."""
    return {} if fd is None else {"fd": True, "size": os.fstat(fd).st_size}
