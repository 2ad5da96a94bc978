"""What `FunctionCall.get_call_graph()` gives: the inputs of a call, and of the calls that they made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class InputStatus(IntEnum):
    """How far an input is. TERMINATED: it was cancelled. INIT_FAILURE is Modal's name for an input whose
    container never started; Squall says FAILURE, and the input's exception says why.
    """

    PENDING = 0
    SUCCESS = 1
    FAILURE = 2
    TERMINATED = 3
    TIMEOUT = 4
    INIT_FAILURE = 5


@dataclass
class InputInfo:
    """One input. `task_id` is its container's id, empty while it has none or when it is forgotten."""

    input_id: str
    function_call_id: str
    task_id: str
    status: InputStatus
    function_name: str
    module_name: str
    children: list[InputInfo] = field(default_factory=list)
