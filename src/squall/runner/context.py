"""Which input runs right now. The SDK reads it out of `sys.modules`, for it may not import the runner."""

from __future__ import annotations

#: Ids of the running input and of its call; empty while none runs.
input_id = ""
call_id = ""
