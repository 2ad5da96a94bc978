"""The server that a command talks to: connected for the command's length, never started by it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from squall.client.connect import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.client.api import Client


@contextmanager
def server() -> Iterator[Client]:
    client = connect(start=False)
    try:
        yield client
    finally:
        client.close()
