"""Bodies of the control methods `secret.*` (`wire.control.METHODS`)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class SecretPut:
    """`secret.put` -> SecretInfo. Without a name it belongs to the apps whose functions name its id.

    mode: "create" (a name that is taken is refused), "replace" (made, or all of it replaced) or "update" (it
    is there: these are set, those in `removed` go).
    """

    values: dict[str, str] = field(repr=False)
    name: str = ""
    mode: str = "create"
    removed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SecretGet:
    """`secret.get` -> SecretInfo, by name. Refused when one of `required` is missing."""

    name: str
    required: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SecretDelete:
    """`secret.delete` -> Empty. Containers that run keep what they have; new ones are refused."""

    name: str


@dataclass(slots=True)
class SecretInfo:
    """What can be told of a secret: no value ever. Wall-clock seconds."""

    id: str
    name: str
    version: int
    keys: list[str]
    created: float = 0.0
    updated: float = 0.0


@dataclass(slots=True)
class SecretList:
    """`secret.list` (Empty) -> SecretList: those with names, by name."""

    secrets: list[SecretInfo]


@dataclass(slots=True)
class Count:
    """`secret.rotate` (Empty) -> Count of the secrets that a new key seals. Only on the embedded socket."""

    number: int
