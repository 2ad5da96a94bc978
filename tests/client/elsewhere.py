"""Run a Squall command as on another operating system: `python elsewhere.py SYSTEM COMMAND...`.

Modules and names that the system's Python lacks are taken away, after the standard library and other people's
packages were imported as they are here; what Squall then imports or calls itself fails as it would there. The
lists are of the standard library's documentation ("Availability").
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.abc
import os
import pkgutil
import select
import signal
import socket
import sys
import sysconfig
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

#: Imported first, so that they see the system that they run on.
_THEIRS = (
    *("asyncio", "click", "cloudpickle", "concurrent.futures", "ctypes", "getpass", "logging", "msgspec"),
    *("platform", "rich", "shutil", "ssl", "subprocess", "tempfile", "webbrowser"),
)

_LINUX_MODULES = frozenset({"uvloop", "picows", "spwd", "ossaudiodev"})
_UNIX_MODULES = frozenset({
    "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty",
})  # fmt: skip

#: Linux has them, and neither macOS nor Windows does.
_LINUX_NAMES: dict[ModuleType, str] = {
    os: """
        O_PATH O_TMPFILE memfd_create pidfd_open setns unshare sched_getaffinity eventfd pipe2 posix_fallocate
        posix_fadvise getrandom copy_file_range splice
    """,
    socket: """
        AF_NETLINK AF_PACKET AF_VSOCK SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED MSG_NOSIGNAL MSG_CMSG_CLOEXEC
    """,
    select: "epoll",
}
#: Windows has none of these.
_UNIX_NAMES: dict[ModuleType, str] = {
    os: """
        O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown chroot fchown fork forkpty
        getegid geteuid getgid getgroups getloadavg getpgid getsid getuid killpg lchown mkfifo mknod nice
        openpty posix_spawn pread preadv pwrite pwritev register_at_fork sendfile setgid setgroups setsid
        setuid statvfs sync sysconf uname wait wait3 wait4 waitid
    """,
    socket: "AF_UNIX CMSG_LEN CMSG_SPACE SCM_RIGHTS send_fds recv_fds",
    signal: """
        SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH
        alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait
    """,
    select: "poll",
    time: "clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME tzset",
}


class _Missing(importlib.abc.MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r} on {sys.platform}", name=fullname)
        return None


def become(system: str) -> None:
    """Take away what `darwin` or `win32` has not."""
    for name in _THEIRS:
        importlib.import_module(name)
    for found in pkgutil.iter_modules(importlib.import_module("rich").__path__, "rich."):
        if not found.name.startswith(("rich.jupyter", "rich.__", "rich._win")):
            importlib.import_module(found.name)
    socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)  # Windows has it by TCP
    sysconfig.get_config_vars()  # it keeps what it has found out
    missing, taken = _LINUX_MODULES, [_LINUX_NAMES]
    if system == "win32":
        missing, taken = missing | _UNIX_MODULES, [*taken, _UNIX_NAMES]
        setattr(asyncio.SelectorEventLoop, "add_signal_handler", _no_handlers)  # noqa: B010 - not its type
    for names in taken:
        for module, attributes in names.items():
            for attribute in attributes.split():
                module.__dict__.pop(attribute, None)
    for name in missing:
        sys.modules.pop(name, None)
    sys.platform = system
    sys.meta_path.insert(0, _Missing(missing))


def _no_handlers(*_: object) -> None:
    raise NotImplementedError


def main() -> None:
    system, *arguments = sys.argv[1:]
    become(system)
    sys.argv = ["squall", *arguments]
    from squall.cli import main as squall

    squall()


if __name__ == "__main__":
    main()
