"""The filter in the kernel, in a child process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from squall.runtime.syscalls import TABLES
from tests.house.slowness import SLOWNESS

pytestmark = pytest.mark.skipif(os.uname().machine not in TABLES, reason=f"no table for {os.uname().machine}")

PRELUDE = """
import ctypes, errno, json, os, socket, subprocess, sys, threading
from squall.runtime.linux.syscalls import libc
from squall.runtime.seccomp import container_filter, install
from squall.runtime.syscalls import TABLES
numbers = TABLES[os.uname().machine]

def call(name, *args):
    result = libc.syscall(ctypes.c_long(numbers[name]), *(ctypes.c_long(a) for a in args))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"

install(container_filter())
"""


def filtered(code: str) -> Any:
    """What `code` prints as JSON when it runs under the filter."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60 * SLOWNESS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_refused_calls() -> None:
    calls = [
        "mount",
        "setns",
        "unshare",
        "ptrace",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "open_by_handle_at",
        "reboot",
    ]
    assert filtered(f"print(json.dumps([call(n, 0, 0, 0, 0) for n in {calls}]))") == ["EPERM"] * len(calls)


def test_clone3_and_new_calls_are_absent() -> None:
    code = "libc.syscall(ctypes.c_long(470)); print(json.dumps([call('clone3', 0, 0), ctypes.get_errno()]))"
    assert filtered(code) == ["ENOSYS", 38]


def test_clone_makes_no_user_namespace() -> None:
    assert filtered("print(json.dumps(call('clone', 0x10000000 | 17, 0, 0, 0, 0)))") == "EPERM"


def test_ordinary_programs_work() -> None:
    code = """
done = []
thread = threading.Thread(target=done.append, args=(1,))
thread.start(); thread.join()
done.append(subprocess.run(["echo", "hi"], capture_output=True, check=True).stdout.decode())
a, b = socket.socketpair(); a.send(b"x"); done.append(b.recv(1).decode())
server = socket.create_server(("127.0.0.1", 0))
done.append(socket.create_connection(server.getsockname()).family)
done.append(len(socket.if_nameindex()) > 0)
print(json.dumps(done))
"""
    assert filtered(code) == [1, "hi\n", "x", 2, True]


def test_families_of_sockets() -> None:
    code = """
found = []
for family in (socket.AF_ALG, socket.AF_PACKET, 44, socket.AF_VSOCK):
    try:
        socket.socket(family, socket.SOCK_RAW)
    except OSError as error:
        found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""
    assert filtered(code) == ["EAFNOSUPPORT"] * 4


def test_filter_is_inherited_and_privileges_cannot_be_gained() -> None:
    code = """
grep = ["grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]
print(json.dumps(subprocess.run(grep, capture_output=True, text=True).stdout.split()))
"""
    assert filtered(code) == ["NoNewPrivs:", "1", "Seccomp:", "2"]
