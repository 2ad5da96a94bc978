"""The embedded server: started by the first who needs it, found by all others.

The lock on `daemon.lock` says that a daemon lives. Who starts one takes the lock and hands the descriptor
down, so that two first runs start one daemon, and a daemon that dies frees it by dying.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from squall import __version__, exception
from squall.client import daemon_record, service
from squall.exception import InvalidError, PermissionDeniedError, VersionError
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from squall.client.daemon_record import DaemonRecord

#: How long a start, and the end of a daemon, may take (seconds).
START_S = 60.0
STOP_S = 20.0
#: How long systemd may take to start the service again (seconds).
SERVICE_S = 20.0
#: How long an older daemon may take to end what is under way (seconds).
DRAIN_S = 60.0
#: A daemon that nobody asked for by name ends after so many idle seconds.
IDLE_EXIT_S = 900
#: Linux's limit on the path of a Unix socket, with room for the names of other sockets below the state.
_PATH_LIMIT = 80

#: What the daemon keeps of the environment of whoever starts it: nothing of the caller's own, but what
#: builds need to reach package indexes as the caller does.
_KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"})
_KEPT |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NETRC"}
_KEPT |= {"XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"}
_KEPT_PREFIXES = ("LC_", "PIP_", "UV_", "SQUALL_")
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
#: Of the caller alone, although they have a kept prefix.
_DROPPED = frozenset({"SQUALL_TOKEN", "SQUALL_SERVER_URL", "SQUALL_ENVIRONMENT", "SQUALL_IS_REMOTE"})


#: Who hears, one line each, what this machine cannot give, when a daemon was started for this process.
listener: Callable[[str], None] | None = None


def socket_path(state: str) -> str:
    return os.path.join(state, "server", "server.sock")


def ensure(state: str, arguments: Sequence[str] = ("--idle-exit", str(IDLE_EXIT_S))) -> None:
    """Return once a daemon answers, having started it if need be.

    Raises exception.ConnectionError (it does not start: why), VersionError (a newer one runs), InvalidError.
    """
    _check_host(state)
    deadline = time.monotonic() + START_S
    started = False
    while time.monotonic() < deadline:
        record = daemon_record.read(state)
        if record is not None and _fits(record):
            if answers(state):
                if started:
                    _tell(record.losses)
                return
        elif record is not None:
            _replace(state, record)
            deadline = time.monotonic() + START_S
        elif manager := service.manager(state, os.environ):
            _await_service(manager, deadline)
        elif (lock := _try_lock(state)) is not None:
            if started:
                os.close(lock)
                raise exception.ConnectionError(_why(state))
            _spawn(state, lock, arguments)
            started = True
        time.sleep(0.02)
    raise exception.ConnectionError(_why(state))


def _await_service(manager: str, deadline: float) -> None:
    """It may be between two lives. Raises ConnectionError when it was away for long."""
    if time.monotonic() > deadline - START_S + SERVICE_S:
        raise exception.ConnectionError(
            f"The daemon is a service here, and does not run: `{manager} start {service.UNIT}`, or "
            f"`{manager} disable {service.UNIT}` to have clients start one."
        )


def _tell(losses: list[str]) -> None:
    if listener is not None:
        for loss in losses:
            listener(loss)


def answers(state: str) -> bool:
    """Whether somebody listens on the embedded socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(5)
            sock.connect(socket_path(state))
        except OSError as error:
            if isinstance(error, PermissionError):
                raise PermissionDeniedError(
                    f"The server in {state} belongs to another user: set SQUALL_STATE to one of your own."
                ) from None
            return False
    return True


def stop(state: str, timeout: float = STOP_S) -> bool:
    """End the daemon and all that it started. False if there was none."""
    record = daemon_record.read(state)
    everything = daemon_record.read_children(state)
    if record is None and not everything:
        return False
    deadline = time.monotonic() + timeout
    if record is not None:
        _signal(record.process, signal.SIGTERM)
        _wait([record.process], deadline)
        everything = daemon_record.read_children(state)
    # A daemon that was killed left these behind. The launcher is last: it clears what the others used.
    for process in sorted(everything, key=lambda p: p.name == "launcher"):
        _signal(process, signal.SIGTERM)
        _wait([process], min(deadline, time.monotonic() + 5))
    for process in [*everything, *([record.process] if record else [])]:
        process.signal(signal.SIGKILL)
    return True


def mark_stopped(state: str) -> None:
    """Its user stops it: clients that use it now are not to start it again."""
    with contextlib.suppress(OSError), open(_stopped_path(state), "w", encoding="ascii"):
        pass


def stopped_since(state: str, moment: float) -> bool:
    """Whether its user has stopped it after `moment` (wall-clock seconds)."""
    try:
        return os.stat(_stopped_path(state)).st_mtime >= moment
    except OSError:
        return False


def _stopped_path(state: str) -> str:
    return os.path.join(state, "stopped")


def _replace(state: str, record: DaemonRecord) -> None:
    """An older daemon ends what is under way, for a while; spawned calls go on under the new one."""
    _signal(record.process, signal.SIGUSR1)
    _wait([record.process], time.monotonic() + DRAIN_S)
    stop(state)


def _wait(processes: list[daemon_record.Process], deadline: float) -> None:
    while any(p.alive() for p in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def _signal(process: daemon_record.Process, number: int) -> None:
    try:
        process.signal(number)
    except PermissionError:
        raise PermissionDeniedError(
            f"The daemon (process {process.pid}) belongs to another user: stop it as that user."
        ) from None


def _fits(record: DaemonRecord) -> bool:
    """Whether this client can talk to that daemon; False if the daemon is older and must make room."""
    if record.protocol > PROTOCOL:
        raise VersionError(
            f"The running daemon is Squall {record.version}, newer than this one ({__version__}): "
            "upgrade with `pip install --upgrade squall`."
        )
    return record.protocol == PROTOCOL


def _check_host(state: str) -> None:
    if sys.platform != "linux":
        raise InvalidError(
            "The embedded server needs Linux: set SQUALL_SERVER_URL and SQUALL_TOKEN to use one elsewhere."
        )
    if len(os.fsencode(state)) > _PATH_LIMIT:
        raise InvalidError(
            f"The path of the state directory is too long for sockets in it: {state}. Set SQUALL_STATE."
        )


def _try_lock(state: str) -> int | None:
    """The descriptor of the lock, or None if somebody has it. Makes the state directory."""
    try:
        os.makedirs(state, mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        return lock(state)
    except OSError as error:
        reason = "it is no directory" if isinstance(error, FileExistsError) else error.strerror
        raise InvalidError(
            f"Cannot use the state directory {state}: {reason}. Set SQUALL_STATE to another one."
        ) from None


def lock(state: str) -> int | None:
    """Take `daemon.lock`: its descriptor, or None if somebody has it. Raises OSError."""
    import fcntl  # not on Windows

    descriptor = os.open(daemon_record.lock_path(state), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _spawn(state: str, lock: int, arguments: Sequence[str]) -> None:
    """Start the daemon away from our terminal, session, environment and directory."""
    path = daemon_record.log_path(state, "daemon")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "ab") as log:
            subprocess.run(
                [*_command(), "--state", state, "--lock", str(lock), "--detach", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(os.environ),
                pass_fds=[lock],
                start_new_session=True,
                check=False,
                timeout=START_S,
            )
    except subprocess.TimeoutExpired:
        raise exception.ConnectionError(_why(state)) from None
    except OSError as error:
        raise exception.ConnectionError(f"The embedded server cannot start: {error}.") from None
    finally:
        os.close(lock)


def _command() -> list[str]:
    return [sys.executable, "-m", "squall.daemon"]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the daemon gets to see of the caller's environment."""
    kept = {name: value for name, value in environ.items() if _is_kept(name)}
    # `-m` would put the working directory first on the path (Python 3.11 and newer can be told not to).
    kept["PYTHONSAFEPATH"] = "1"
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not os.path.basename(source).endswith("-packages"):  # not installed, but run from a source tree
        kept["PYTHONPATH"] = source
    return kept


def _is_kept(name: str) -> bool:
    if name in _DROPPED:
        return False
    return name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.lower() in _PROXIES


def _why(state: str) -> str:
    """One line on a daemon that does not come up."""
    lines: list[str] = []
    with suppress(OSError):
        lines = daemon_record.tail(daemon_record.log_path(state, "daemon"), 1)
    reason = lines[0].removeprefix("squall: ").rstrip(".") if lines else "it says nothing"
    return f"The embedded server does not start: {reason}. See the logs in {os.path.join(state, 'logs')}."
