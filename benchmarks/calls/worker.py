"""One peer in a process of its own: reads a measure from stdin, writes its seconds to stdout, a line each."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.calls.peer import Peer

PEERS = {
    "squall": ("benchmarks.calls.squall_peer", "SquallPeer"),
    "ray": ("benchmarks.calls.ray_peer", "RayPeer"),
}


def main(name: str, folder: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peers print is not an answer
    module, kind = PEERS[name]
    peer: Peer = getattr(import_module(module), kind)()
    peer.start(folder)
    print("[]", file=answers, flush=True)
    try:
        for line in sys.stdin:
            measure, arguments = json.loads(line)
            print(json.dumps(getattr(peer, measure)(*arguments)), file=answers, flush=True)
    finally:
        peer.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
