"""The user's terminal and a program in a container: what is typed goes there, what it writes comes here."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from squall.wire.guests import PIECE, GuestEnd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squall.client.api import Client, Guest

#: Rows and columns where nobody tells.
_SIZE = (24, 80)

pty_option = click.option(
    "--pty/--no-pty",
    default=None,
    help="Give the command a terminal, or pipes. [default: a terminal if this is one]",
)


def attach(client: Client, container: str, command: Sequence[str], *, pty: bool | None) -> int:
    """Run the command in the container until it ends; its exit status, as shells have it.

    Raises click.ClickException when it cannot run.
    """
    terminal = _wanted(pty=pty)
    env = {"TERM": os.environ.get("TERM", "xterm")} if terminal else {}
    guest = client.join(container, command, env=env, terminal=_size() if terminal else None)
    try:
        with ExitStack() as stack:
            if terminal:
                stack.enter_context(_raw())
                wake = stack.enter_context(_resizes())
                _in_background(lambda: _type(guest, wake))
            else:
                _in_background(lambda: _feed(guest))
            return _show(guest)
    finally:
        guest.close()


def _wanted(*, pty: bool | None) -> bool:
    possible = _termios() is not None
    if pty and not possible:
        raise click.ClickException("--pty needs a terminal of Linux or macOS: use --no-pty.")
    return possible and sys.stdin.isatty() and sys.stdout.isatty() if pty is None else pty


def _show(guest: Guest) -> int:
    while not isinstance(event := guest.next(), GuestEnd):
        _write(event.fd, event.data)
    if event.code is not None:
        return event.code
    if event.error:
        click.echo(f"squall: {event.error}", err=True)
    return 1 if event.signal is None else 128 + event.signal


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _feed(guest: Guest) -> None:
    """Standard input to a program that has pipes."""
    while data := _read():
        guest.send(data)
    guest.end_input()


def _type(guest: Guest, wake: int) -> None:
    """Standard input and new sizes to a program that has a terminal."""
    import select

    sources = [0, wake]
    while True:
        ready = select.select(sources, [], [])[0]
        if wake in ready:
            if not os.read(wake, 64):
                return
            guest.resize(*_size())
        if 0 in ready:
            data = _read()
            if data:
                guest.send(data)
            else:
                guest.end_input()
                sources.remove(0)


def _read() -> bytes:
    try:
        return os.read(0, PIECE)
    except OSError:  # the terminal is gone, or there was no standard input
        return b""


def _in_background(work: Any) -> None:
    """Where it fails, the connection does, and the main thread says so."""
    from squall.exception import Error

    def quietly() -> None:
        try:
            work()
        except (Error, OSError):
            return

    threading.Thread(target=quietly, daemon=True).start()


@contextmanager
def _raw() -> Iterator[None]:
    """Keys go through as they are, Ctrl-C too. In the end, also by a signal, the terminal is as before."""
    termios = _termios()
    if termios is None or not sys.stdin.isatty():
        yield
        return
    import tty

    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> None:
    raise click.exceptions.Exit(128 + number)


@contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that can be read when a signal came, as for a new size, and that ends after the block.

    The interpreter writes to it at once; a handler would have to wait until the main thread is awake.
    """
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    handler = signal.signal(signal.SIGWINCH, lambda *_: None)
    before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGWINCH, handler)
        os.close(waker)


def _size() -> tuple[int, int]:
    for fd in (0, 1, 2):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        return rows, columns
    return _SIZE


def _termios() -> Any:
    try:
        import termios
    except ImportError:
        return None
    return termios
