"""What a container runs: a function, or an instance of a class that was made for it."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Hook = Callable[[], Any]


class Target:
    """What inputs name, by method; a function's name is empty. `enters` run before the first input, `exits`
    after the last.
    """

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]],
        enters: Sequence[Hook] = (),
        exits: Sequence[Hook] = (),
    ) -> None:
        self.calls = calls
        self.enters = enters
        self.exits = exits


def instance(blueprint: Any, described: Mapping[str, Any]) -> Target:
    """Make the object. A blueprint is the SDK's (`squall.sdk.blueprint`). Raises what `__init__` raises."""
    made = blueprint.instantiate(parameters(described))
    return Target(blueprint.methods(made), blueprint.enters(made), blueprint.exits(made))


def parameters(described: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a CONFIG frame, where bytes are {"base64": text}."""
    return {
        name: binascii.a2b_base64(value["base64"]) if isinstance(value, dict) else value
        for name, value in described.items()
    }
