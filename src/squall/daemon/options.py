"""What the supervisor is started with."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`lock` is a descriptor of the locked `daemon.lock`; -1 to take the lock oneself.

    With `server` (a URL) this is the node of a server elsewhere, and starts none. `idle_exit` in seconds;
    0 for never. `allowed_host` and `allowed_origin` are what the server's guard lets in as well.
    """

    state: str
    lock: int = -1
    detach: bool = False
    listen: str = ""
    gpus: str = ""
    server: str = ""
    idle_exit: float = 0.0
    allowed_host: tuple[str, ...] = ()
    allowed_origin: tuple[str, ...] = ()


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="squall.daemon", description=__doc__)
    parser.add_argument("--state", required=True, help="the state directory")
    parser.add_argument("--lock", type=int, default=-1, help="descriptor of the locked daemon.lock")
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    parser.add_argument("--listen", default="", help="HOST:PORT to listen on, besides the embedded socket")
    parser.add_argument("--gpus", default="", help="such as H100:8, or none; else those that are there")
    parser.add_argument("--server", default="", help="URL of a server elsewhere: be a node of it")
    parser.add_argument("--idle-exit", type=float, default=0.0, help="end after so many idle seconds")
    for name in ("--allowed-host", "--allowed-origin"):
        parser.add_argument(name, action="append", default=[], help="for the server, as its own option")
    given = vars(parser.parse_args(arguments))
    lists = {name: tuple(given[name]) for name in ("allowed_host", "allowed_origin")}
    return Options(**{**given, **lists, "state": os.path.abspath(given["state"])})
