"""What an agent is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Times in seconds. `gpus`: what is declared, by type; None for what is there.

    `cancel_grace`: how long user code may take to react to its cancellation before its container is killed.
    `stop_grace`: how long a runner may take to leave after it was told to; `exit_grace`: likewise, with
    @exit methods to run before.
    """

    state: Path
    server: str
    node: str
    driver: str = "namespaces"
    launcher: Path | None = None
    token: str = ""
    gpus: dict[str, int] | None = None
    cancel_grace: float = 5.0
    stop_grace: float = 5.0
    exit_grace: float = 30.0
    build_timeout: float = 3600.0

    @property
    def containers(self) -> Path:
        return self.state / "containers"

    @property
    def sources(self) -> Path:
        return self.state / "sources"

    @property
    def runtime(self) -> Path:
        """Where copies of the squall package are kept for containers."""
        return self.state / "runtime"
