"""Control methods: one module for each group, one handler for each method of `wire.control.METHODS`."""

from __future__ import annotations

from squall.server.requests import (
    admin,
    apps,
    containers,
    content,
    functions,
    logs,
    progress,
    secrets,
    status,
)
from squall.server.requests.registry import HANDLERS, answer

__all__ = [
    "HANDLERS",
    "admin",
    "answer",
    "apps",
    "containers",
    "content",
    "functions",
    "logs",
    "progress",
    "secrets",
    "status",
]
