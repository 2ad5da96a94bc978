"""Pseudo terminals (pty(7))."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

#: linux/tty ioctls that the termios module does not name: unlock the slave; open it by its master.
_TIOCSPTLCK, _TIOCGPTPEER = 0x4004_5431, 0x5441


def open_pair() -> tuple[int, int]:
    """Master and slave of a new one of the devpts at /dev/pts. The slave is opened by no path at all.

    For containers, whose own devpts lets everybody: on hosts its multiplexer is mostly nobody's to open.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("/dev/pts/ptmx", flags)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        return master, fcntl.ioctl(master, _TIOCGPTPEER, flags)
    except OSError:
        os.close(master)
        raise


def resize(master: int, rows: int, columns: int) -> None:
    """Tell the terminal's size in characters; its foreground programs get SIGWINCH."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
