"""Sockets to listen on: private Unix ones, TCP ones that notice dead peers."""

from __future__ import annotations

import errno
import os
import socket
import stat

#: Connections that the kernel keeps until they are accepted.
_BACKLOG = 1024


class ListenError(Exception):
    """An address cannot be listened on; one line that says what to do."""


def listen_unix(path: str, *, others: bool = False, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Mode 0600 in a directory that nobody else can write; with `others`, all may try to connect.

    The socket of a server that died is replaced, that of one that lives is not. Raises ListenError.
    """
    try:
        _check_directory(os.path.dirname(os.path.abspath(path)), others=others)
        _clear_stale(path, kind)
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            os.fchmod(sock.fileno(), 0o666 if others else 0o600)  # bind(2) gives the file this mode
            sock.bind(path)
            os.chmod(path, 0o666 if others else 0o600)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(
            f"cannot listen on {path}: {reason}; set SQUALL_STATE to another directory"
        ) from None
    return sock


def listen_tcp(host: str, port: int) -> socket.socket:
    """Port 0 is any free one. Raises ListenError."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return _bind_tcp(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "another program listens there: stop it, or choose another port"
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = "no permission: ports below 1024 are root's, choose another"
        else:
            hint = f"{error.strerror or error}: give an address of this machine and a free port"
        raise ListenError(f"cannot listen on {where}: {hint}") from None


def _bind_tcp(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _notice_dead_peers(sock)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _notice_dead_peers(sock: socket.socket) -> None:
    """Accepted sockets inherit these. The kernel's view of it; the WebSocket's pings see through proxies."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 8)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 16_000)  # unacknowledged data, milliseconds


def _check_directory(directory: str, *, others: bool) -> None:
    try:
        os.makedirs(directory, 0o711 if others else 0o700)
    except FileExistsError:
        mode = os.stat(directory).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            raise ListenError(
                f"cannot listen in {directory}: others may write there, and put their own socket in our "
                f"place: chmod go-w {directory}"
            ) from None


def _clear_stale(path: str, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise ListenError(f"another server listens on {path}: stop it with `squall daemon stop`")
    if result == errno.ECONNREFUSED and stat.S_ISSOCK(os.lstat(path).st_mode):
        os.unlink(path)
