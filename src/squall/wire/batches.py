"""Messages of a bounded size."""

from __future__ import annotations

from squall.wire.messages import Outputs
from squall.wire.values import OutputItem

#: About how many bytes of results one message holds.
OUTPUTS_BYTES = 1 << 20


def outputs_of(call: str, items: list[OutputItem], spread: int = 0) -> list[Outputs]:
    """Outputs in messages of a bounded size: results are up to INLINE_LIMIT bytes each."""
    messages: list[Outputs] = []
    size = OUTPUTS_BYTES
    for item in items:
        if size >= OUTPUTS_BYTES:
            messages.append(Outputs(call, [], spread))
            size = 0
        messages[-1].items.append(item)
        size += len(item.outcome.payload.data)
    return messages
