"""What an operator may set of the control plane. Seconds and counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Defaults of DESIGN.md section 2 and of the published limits.

    `grace`: a vanished client may take this long to come back. `adoption`: a starting server waits so long
    for nodes to say what they run before it dispatches old inputs anew. `patience`: an image waits so
    long for a node. `hello`: a connection must say who it is within this time.
    """

    heartbeat: float = 5.0
    lease: float = 30.0
    grace: float = 30.0
    adoption: float = 10.0
    patience: float = 60.0
    hello: float = 10.0
    #: Inputs of a session whose outputs its client has not taken yet, and the bytes that they may hold.
    session_inputs: int = 25_000
    session_bytes: int = 2 << 30
    #: Unfinished durable inputs of a workspace.
    durable_inputs: int = 1_000_000
    #: Results of durable calls are kept so long.
    retention: float = 7 * 86_400.0
    #: That a durable call was there, once its result has expired; and apps that were stopped.
    remembrance: float = 37 * 86_400.0
    #: Log bytes kept for one app and for all, and apps whose logs are kept.
    log_bytes: int = 1 << 20
    all_log_bytes: int = 64 << 20
    log_apps: int = 1_000
