"""Large payloads on one host: sealed memory files, passed by descriptor beside the connections.

A server has a second Unix socket for them (SOCK_SEQPACKET, `socket_path`): one `Ask` a packet, its
descriptor with SCM_RIGHTS, and one `Answer` back. A parcel has a random name, belongs to one workspace, and
lives as long as somebody holds it: the connection that put it, or an input or output that names it.

A parcel can be one end of a pair of stream sockets instead: the argument of a "direct" call, over which the
caller talks to the container itself. The node takes it away, so that who has it last closes it.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass

#: The largest packet, in bytes.
PACKET = 4096
_NAME = re.compile(r"(pa|so)-[0-9a-f]{32}")


@dataclass(slots=True)
class Ask:
    """`op`: "put" (with a sealed memory file, or a socket), "get", "take" (get, and nobody has it any more)
    or "drop" (the asker's hold; no answer).

    A node names the `workspace` for which it acts; a client's is that of the embedded socket.
    """

    op: str
    number: int
    parcel: str
    workspace: str = ""


@dataclass(slots=True)
class Answer:
    """To the Ask with this number, with the descriptor asked for. `code` and `message` as in Failure."""

    number: int
    code: str = ""
    message: str = ""


def new_name() -> str:
    return f"pa-{secrets.token_hex(16)}"


def new_socket_name() -> str:
    return f"so-{secrets.token_hex(16)}"


def is_name(blob: str) -> bool:
    """Whether a payload's `blob` is a parcel."""
    return _NAME.fullmatch(blob) is not None


def is_socket_name(blob: str) -> bool:
    """Whether it is that of a socket."""
    return blob.startswith("so-") and is_name(blob)


def socket_path(server: str) -> str:
    """Where parcels go, beside the server's own Unix socket."""
    return os.path.join(os.path.dirname(server), "parcels.sock")
