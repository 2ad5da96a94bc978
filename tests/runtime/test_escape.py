"""What a tenant, root in its own container, tries and does not get.

Each attempt runs in a real container. The prelude gives it raw system calls; an attempt prints what it got.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
from typing import TYPE_CHECKING

import pytest

from squall.runtime import seccomp
from squall.runtime.spec import Mount
from squall.runtime.syscalls import TABLES
from tests.runtime.box import UID_BASE, Box, limited, read_line

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

NUMBERS = TABLES.get(platform.machine(), {})

PRELUDE = """
import ctypes, errno, os, signal, socket, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *args):
    args = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    if libc.syscall(ctypes.c_long(number), *args) < 0:
        raise OSError(ctypes.get_errno(), 'refused')
    return 'done'
def attempt(f):
    try: return repr(f())
    except OSError as e: return errno.errorcode[e.errno]
"""


def attempt(box: Box, expression: str, **fields: object) -> str:
    """The name of the error that an expression meets in a container, or the repr of what it gives."""
    result = box.python(f"{PRELUDE}\nprint(attempt(lambda: {expression}))", **fields)
    assert result.status.code == 0, result.err
    return result.out.strip()


REFUSED_CALLS = {
    "mount": "b'none', b'/mnt', b'tmpfs', 0, None",
    "umount2": "b'/proc', 2",
    "pivot_root": "b'/tmp', b'/tmp'",
    "unshare": "0x10000000",
    "setns": "os.open('/proc/self/ns/net', 0), 0",
    "open_tree": "-100, b'/', 1",
    "move_mount": "0, b'', 0, b'', 0",
    "fsopen": "b'tmpfs', 0",
    "fsmount": "0, 0, 0",
    "mount_setattr": "-100, b'/', 0, None, 0",
    "ptrace": "16, 1, 0, 0",
    "process_vm_readv": "1, None, 0, None, 0, 0",
    "pidfd_getfd": "0, 0, 0",
    "keyctl": "0, -3, 0",
    "add_key": "b'user', b'x', b'y', 1, -3",
    "request_key": "b'user', b'x', None, -3",
    "bpf": "0, None, 0",
    "io_uring_setup": "1, None",
    "userfaultfd": "0",
    "perf_event_open": "None, 0, -1, -1, 0",
    "open_by_handle_at": "-100, None, 0",
    "init_module": "None, 0, b''",
    "finit_module": "0, b'', 0",
    "kexec_load": "0, 0, None, 0",
    "reboot": "0, 0, 0, None",
    "swapon": "b'/x', 0",
    "syslog": "3, None, 0",
    "settimeofday": "None, None",
    "clock_settime": "0, None",
    "acct": "None",
    "quotactl": "0, None, 0, None",
}


@pytest.mark.parametrize("name", REFUSED_CALLS)
def test_system_call_is_refused(box: Box, name: str) -> None:
    assert attempt(box, f"call({NUMBERS[name]}, {REFUSED_CALLS[name]})") == "EPERM"


@pytest.mark.parametrize("flag", [0x20000, 0x02000000, 0x10000000, 0x20000000, 0x40000000])
def test_new_namespaces_are_refused(box: Box, flag: int) -> None:
    assert attempt(box, f"call({NUMBERS['clone']}, {flag} | 17, 0, 0, 0, 0)") == "EPERM"
    assert attempt(box, f"call({NUMBERS['clone3']}, None, 0)") == "ENOSYS"


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/dev/something-new",
    ],
)
def test_system_files_cannot_be_written(box: Box, path: str) -> None:
    assert attempt(box, f"os.write(os.open({path!r}, os.O_WRONLY | os.O_CREAT), b'1')") in {
        "EROFS",
        "EACCES",
        "ENOENT",
        "EPERM",
    }


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_masked_files_are_empty(box: Box, path: str) -> None:
    assert attempt(box, f"open({path!r}, 'rb').read()") in {"b''", "ENOENT"}


@pytest.mark.parametrize("path", ["/sys/firmware", "/proc/acpi", "/proc/scsi", "/sys/fs/cgroup"])
def test_masked_directories_are_empty(box: Box, path: str) -> None:
    assert attempt(box, f"os.listdir({path!r})") in {"[]", "ENOENT"}


def test_kernel_log_and_memory_are_out_of_reach(box: Box) -> None:
    for path in (
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kmem",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/loop-control",
        "/proc/kmsg",
    ):
        assert attempt(box, f"open({path!r}, 'rb').read(1)") in {"ENOENT", "EPERM", "EACCES"}


def test_devices_are_the_harmless_ones(box: Box) -> None:
    code = "print(sorted(n for n in os.listdir('/dev') if stat.S_ISCHR(os.lstat('/dev/' + n).st_mode)))"
    out = box.python(PRELUDE + code).out.strip()
    assert out == str(["full", "null", "random", "tty", "urandom", "zero"])
    assert attempt(box, "os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))") == "EPERM"
    assert attempt(box, "os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))") == "EPERM"


def test_init_cannot_be_touched(box: Box) -> None:
    assert attempt(box, "os.listdir('/proc/1/fd')") == "EACCES"
    for name in ("root", "cwd", "exe", "ns/mnt", "ns/user", "ns/pid"):
        assert attempt(box, f"os.readlink('/proc/1/{name}')") in {"EACCES", "EPERM"}
    for name in ("mem", "environ", "maps", "auxv", "stack", "syscall"):
        assert attempt(box, f"open('/proc/1/{name}', 'rb').read(1)") in {"EACCES", "EPERM"}
    assert attempt(box, "os.write(os.open('/proc/1/oom_score_adj', os.O_WRONLY), b'1000')") in {
        "EACCES",
        "EPERM",
    }
    assert attempt(box, "__import__('resource').prlimit(1, 7, (0, 0))") in {"EPERM", "EACCES"}
    assert box.sh("cat /proc/1/cmdline /proc/1/comm").out.replace("\0", "") == "initinit\n"


@pytest.mark.parametrize(
    "number", ["SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP", "SIGSEGV", "SIGCHLD", "SIGPIPE"]
)
def test_signals_from_inside_do_not_reach_init(box: Box, number: str) -> None:
    code = f"import time\nfor _ in range(3): os.kill(1, signal.{number})\ntime.sleep(0.05)\nsys.exit(5)"
    assert box.python(PRELUDE + code).status.code == 5


def test_processes_of_the_host_and_of_others_are_invisible(box: Box) -> None:
    other = box.start("sleep", "600")
    out = box.python(f"{PRELUDE}\nprint(sorted(p for p in os.listdir('/proc') if p.isdigit()))").out.strip()
    assert out == "['1', '2']"
    assert attempt(box, f"os.kill({other.pid}, 9)") == "ESRCH"
    assert attempt(box, f"os.kill({os.getpid()}, 9)") == "ESRCH"
    box.sh("kill -9 -1; true")  # everything it can see: itself
    assert os.path.exists(f"/proc/{other.pid}")
    box.do(box.runtime.kill(other.id))
    box.end(other)


def test_files_of_the_host_are_invisible(box: Box, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    paths = (str(secret), str(box.state), str(box.socket), "/home", "/var", "/boot", "/etc/shadow")
    for path in paths:
        assert attempt(box, f"os.stat({path!r})") == "ENOENT"
    up = "/".join([".."] * 40)
    assert attempt(box, f"os.stat('/{up}{secret}')") == "ENOENT"
    assert attempt(box, "os.stat('/proc/self/root/proc/1/root/..')") in {"EACCES", "EPERM"}


def test_leaving_by_chroot_does_not_work(box: Box) -> None:
    code = (
        "os.mkdir('/tmp/jail'); top = os.open('/', os.O_RDONLY); os.chroot('/tmp/jail'); os.fchdir(top)\n"
        "for _ in range(40): os.chdir('..')\n"
        "os.chroot('.')\nprint(os.path.exists('/proc/self'), os.path.exists('/home'))"
    )
    assert box.python(PRELUDE + code).out == "True False\n"


def test_no_descriptor_is_inherited(box: Box) -> None:
    script = "ls -l /proc/self/fd | awk '{print $NF}' | grep -v -E '^(0|/dev/null|pipe:.*|/proc/.*/fd)$'"
    assert box.sh(script).out == ""


def test_capabilities_are_the_default_ones(box: Box) -> None:
    out = box.sh("grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status").out
    given = dict(line.split(":\t") for line in out.splitlines())
    assert {given["CapPrm"], given["CapEff"], given["CapBnd"]} == {"00000000a00405fb"}
    assert {given["CapInh"], given["CapAmb"]} == {"0" * 16}
    assert (given["NoNewPrivs"], given["Seccomp"]) == ("1", "2")


def test_set_uid_programs_gain_nothing(box: Box) -> None:
    script = (
        "cp /bin/cat /tmp/c && chmod 6755 /tmp/c && "
        "setpriv --reuid 1000 --clear-groups /tmp/c /proc/self/status | grep -E '^(Uid|CapEff)'"
    )
    result = box.sh(script)
    if "setpriv" in result.err:
        pytest.skip("needs setpriv")
    assert result.out == "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n"


def test_ids_outside_the_range_do_not_exist(box: Box) -> None:
    assert attempt(box, "os.setuid(65536)") == "EINVAL"
    assert attempt(box, "os.chown('/tmp', 70000, 70000)") == "EINVAL"
    out = box.sh("cat /proc/self/uid_map /proc/self/gid_map").out.split()
    assert out == ["0", str(UID_BASE), "65536"] * 2
    assert attempt(box, "os.write(os.open('/proc/self/uid_map', os.O_WRONLY), b'0 0 1')") in {
        "EPERM",
        "EACCES",
    }


def test_process_on_the_host_has_an_unprivileged_uid(box: Box) -> None:
    started = box.start("/bin/sh", "-c", "echo up; exec sleep 600")
    read_line(started.stdout)
    assert os.stat(f"/proc/{started.pid}").st_uid == UID_BASE
    box.do(box.runtime.kill(started.id))
    box.end(started)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("AF_INET", "SOCK_RAW"),
        ("AF_PACKET", "SOCK_RAW"),
        ("AF_ALG", "SOCK_SEQPACKET"),
        ("AF_VSOCK", "SOCK_STREAM"),
    ],
)
def test_odd_sockets_are_refused(box: Box, family: str, kind: str) -> None:
    got = attempt(box, f"socket.socket(socket.{family}, socket.{kind}, 1 if 'INET' in '{family}' else 0)")
    assert got in {"EPERM", "EAFNOSUPPORT", "EACCES"}


def test_network_cannot_be_changed(box: Box) -> None:
    take_down = "__import__('fcntl').ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0))"
    for network in ("none", "egress"):
        assert attempt(box, take_down, network=network) == "EPERM"


def test_block_network_leaves_the_loopback_only(box: Box) -> None:
    out = box.sh("grep -c : /proc/net/dev; cat /proc/net/route | wc -l").out.split()
    assert out == ["1", "1"]
    code = (
        "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())\n"
        "print(attempt(lambda: socket.create_connection(('198.51.100.1', 80), 2)))"
    )
    assert box.python(PRELUDE + code).out.strip() == "ENETUNREACH"


def test_loopback_and_addresses_of_the_host_are_out_of_reach(box: Box) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("198.51.100.1", 9))  # sends nothing; tells which address the host would use
            own = probe.getsockname()[0]
        for address in {"127.0.0.1", own}:
            for network in ("none", "egress"):
                expression = f"socket.create_connection(({address!r}, {port}), 3)"
                got = box.python(
                    f"{PRELUDE}\nimport builtins\ntry: print(attempt(lambda: {expression}))\n"
                    "except TimeoutError: print('ETIMEDOUT')",
                    network=network,
                ).out.strip()
                assert got in {"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "EACCES", "EPERM"}


def test_abstract_sockets_of_the_host_are_out_of_reach(box: Box) -> None:
    name = f"\0squall-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        got = attempt(box, f"socket.socket(socket.AF_UNIX).connect({name!r})")
    assert got == "ECONNREFUSED"


def test_mounted_files_cannot_be_changed(box: Box) -> None:
    source = box.layer("escape-mount")
    (source / "f").write_text("x")
    mounts = (Mount(str(source), "/data"),)
    for expression in (
        "open('/data/f', 'w')",
        "os.chmod('/data/f', 0o777)",
        "os.chown('/data/f', 1, 1)",
        "os.unlink('/data/f')",
        "os.utime('/data/f')",
        "os.setxattr('/data/f', 'user.x', b'')",
        "os.link('/data/f', '/data/g')",
    ):
        assert attempt(box, expression, mounts=mounts) == "EROFS"
    assert attempt(box, "os.link('/data/f', '/tmp/g')", mounts=mounts) == "EXDEV"


def test_overlay_is_not_steered_by_attributes(box: Box) -> None:
    """What the overlay reads from its layers is out of a tenant's reach."""
    for name in ("trusted.overlay.redirect", "trusted.overlay.opaque"):
        got = attempt(box, f"os.setxattr('/tmp', {name!r}, b'/etc')")
        assert got in {"EPERM", "EOPNOTSUPP", "EACCES"}


def test_containers_share_nothing(box: Box) -> None:
    """Neither files, nor shared memory, nor queues, nor host names; not even within a workspace."""
    script = (
        "echo x > /tmp/mark; echo x > /dev/shm/mark; "
        f"{'python3'} -c '' 2>/dev/null; hostname stolen 2>/dev/null; echo up; exec sleep 600"
    )
    first = box.start("/bin/sh", "-c", script, hostname="first")
    assert read_line(first.stdout) == "up"
    code = (
        "print(os.path.exists('/tmp/mark'), os.path.exists('/dev/shm/mark'), socket.gethostname())\n"
        "print(attempt(lambda: os.listdir('/proc/%d' % 3)))"
    )
    out = box.python(PRELUDE + code, hostname="second").out.split()
    assert out == ["False", "False", "second", "ENOENT"]
    box.do(box.runtime.kill(first.id))
    box.end(first)


def test_terminal_typing_is_refused(box: Box) -> None:
    code = (
        "import pty, fcntl\nmain, side = pty.openpty()\n"
        "print(attempt(lambda: fcntl.ioctl(side, 0x5412, b'x')))"
    )
    assert box.python(PRELUDE + code).out.strip() == "EPERM"


def test_control_group_cannot_be_left(box: Box) -> None:
    assert box.sh("cat /proc/self/cgroup | cut -d: -f3 | sort -u").out == "/\n"
    assert box.sh("cat /proc/1/cgroup | cut -d: -f3 | sort -u").out == "/\n"
    assert attempt(box, "os.listdir('/sys/fs/cgroup')") == "[]"


def test_processes_cannot_be_made_without_end(box: Box) -> None:
    """A fork bomb meets its limit, and its container ends at once when told to."""
    code = "import os\nprint('up', flush=True)\nwhile True:\n try: os.fork()\n except OSError: pass"
    started = box.start_python(code, resources=limited(pids=50, cpu_limit_millis=500))
    assert read_line(started.stdout) == "up"
    box.do(box.runtime.kill(started.id))
    assert box.end(started).status.by_us


def test_zone_and_init_are_not_dumpable(box: Box) -> None:
    """Their /proc files are root's on the host, so nobody of the workspace may trace or read them."""
    started = box.start("/bin/sh", "-c", "echo up; exec sleep 600")
    read_line(started.stdout)
    init = _parent(started.pid)
    for pid in (init, _parent(init)):
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as line:
            assert str(box.state) not in line.read()
    box.do(box.runtime.kill(started.id))
    box.end(started)


def test_filter_is_the_one_that_is_tested_elsewhere() -> None:
    assert len(seccomp.container_filter()) % seccomp.INSTRUCTION.size == 0
    assert errno.EPERM == 1


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
