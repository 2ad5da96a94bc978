"""Client sessions: they outlive their connections by a grace, and what they held ends with them."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from squall.server.session import Session

if TYPE_CHECKING:
    from squall.server.apps import Apps
    from squall.server.calls import Calls
    from squall.server.clock import Clock
    from squall.server.connection import Connection
    from squall.server.logs import AppLogs
    from squall.server.settings import Settings

log = logging.getLogger("squall.server")


class Sessions:
    """A session id is `se-<stem>-<life>`: the stem stays when a restarted server begins the session anew; the
    life changes, by which the client knows.
    """

    def __init__(self, apps: Apps, calls: Calls, logs: AppLogs, clock: Clock, settings: Settings) -> None:
        self._apps = apps
        self._calls = calls
        self._logs = logs
        self._clock = clock
        self._settings = settings
        self._life = secrets.token_hex(4)
        self.sessions: dict[str, Session] = {}

    def open(
        self, asked: str, workspace: str, environment: str, container: str = "", *, admin: bool = False
    ) -> Session:
        """The session that the client asks for, if it is its own; else a new one."""
        stem = _stem(asked)
        known = self.sessions.get(stem)
        if known is not None:
            mine = (known.workspace, known.environment, known.container) == (
                workspace,
                environment,
                container,
            )
            if mine and known.id == asked:
                return known
            stem = ""
        restored = bool(stem)
        stem = stem or secrets.token_hex(16)
        session = Session(
            f"se-{stem}-{self._life}", stem, workspace, environment, container, admin, restored=restored
        )
        self.sessions[stem] = session
        if restored:
            self._apps.claim(session)
        return session

    def connect(self, session: Session, connection: Connection) -> None:
        """A connection of the session is there; an older one is replaced."""
        if session.farewell is not None:
            session.farewell.cancel()
            session.farewell = None
        old, session.connection = session.connection, connection
        if old is not None:
            old.close()

    def disconnected(self, session: Session, connection: Connection) -> None:
        """It may come back within the grace."""
        if session.connection is not connection:
            return
        session.connection = None
        if not session.ended:
            session.farewell = self._clock.call_later(self._settings.grace, lambda: self.end(session))

    def end(self, session: Session) -> None:
        """Its ephemeral apps stop, and its calls that are neither durable nor detached are cancelled."""
        if session.ended:
            return
        session.ended = True
        if session.farewell is not None:
            session.farewell.cancel()
        self.sessions.pop(session.stem, None)
        self._logs.unfollow(session)
        self._calls.session_ended(session)
        self._apps.session_ended(session)

    def container_gone(self, container: str) -> None:
        """Clients inside it cannot come back."""
        for session in [s for s in self.sessions.values() if s.container == container]:
            self.end(session)


def _stem(session_id: str) -> str:
    """The stem of a well-formed session id, else nothing."""
    parts = session_id.split("-")
    if len(parts) != 3 or parts[0] != "se" or len(parts[1]) != 32 or len(session_id) > 64:
        return ""
    return parts[1] if all(c in "0123456789abcdef" for c in parts[1]) else ""
