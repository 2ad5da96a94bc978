"""Call graphs as the server lists them, put together to trees. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.call_graph import InputInfo, InputStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.wire.control import GraphInput

_STATUSES = {
    "pending": InputStatus.PENDING,
    "ok": InputStatus.SUCCESS,
    "done": InputStatus.SUCCESS,
    "exception": InputStatus.FAILURE,
    "cancelled": InputStatus.TERMINATED,
    "timeout": InputStatus.TIMEOUT,
    "failed": InputStatus.FAILURE,
}


def tree(inputs: Iterable[GraphInput]) -> list[InputInfo]:
    """The root call's inputs. Parents come before their children."""
    roots: list[InputInfo] = []
    known: dict[str, InputInfo] = {}
    for each in inputs:
        status = _STATUSES.get(each.status, InputStatus.FAILURE)
        info = InputInfo(each.input, each.call, each.container, status, each.function, each.module)
        known[each.input] = info
        parent = known.get(each.parent)
        (parent.children if parent is not None else roots).append(info)
    return roots
