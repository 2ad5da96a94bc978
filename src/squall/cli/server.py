"""The server that a command talks to: connected for the command's length, and started by few."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from squall.client.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.client.api import Client


environment_option: Callable[[Any], Any] = click.option(
    "-e", "--env", default="", metavar="NAME", help="Environment to use (else the configured one)."
)


@contextmanager
def server(environment: str = "", *, start: bool = False) -> Iterator[Client]:
    client = connect(start=start, environment=environment)
    try:
        yield client
    finally:
        client.close()
