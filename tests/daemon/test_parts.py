"""What the supervisor knows of host, users and state."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from squall.client import daemon_record, embedded
from squall.client.daemon_record import DaemonRecord, Process
from squall.daemon import host, main, privileges, programs, state, view
from squall.daemon.options import Options, parse
from squall.daemon.view import Identity
from squall.exception import ConflictError, InvalidError
from squall.wire.control import Counts, Status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux")

NOBODY = Identity(65534, 65534)


def own(name: str = "daemon") -> Process:
    return Process(name, os.getpid(), daemon_record.start_time(os.getpid()))


# ---------------------------------------------------------------------------------------------------- records


def test_a_record_counts_as_long_as_its_process_lives(tmp_path: Path) -> None:
    record = DaemonRecord(own(), 1, "0.1", "process", "/s", ["slow"], "h:1", "H100:8", 5.0)
    daemon_record.write(str(tmp_path), record)
    assert daemon_record.read(str(tmp_path)) == record
    later = Process("daemon", os.getpid(), own().started + 1)  # the pid was given anew
    daemon_record.write(str(tmp_path), DaemonRecord(later, 1, "0.1", "process", "/s"))
    assert daemon_record.read(str(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"process": {"pid": 1}}'])
def test_a_broken_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "daemon.json").write_text(text)
    (tmp_path / "children.json").write_text(text)
    assert daemon_record.read(str(tmp_path)) is None
    assert daemon_record.read_children(str(tmp_path)) == []


def test_a_process_that_is_gone_is_not_signalled() -> None:
    gone = Process("x", os.getpid(), 1)
    gone.signal(9)  # would be the end of this test
    assert not gone.alive()


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\n\ntwo\nthree\n")
    assert daemon_record.tail(str(tmp_path / "log"), 2) == ["two", "three"]
    assert daemon_record.tail(str(tmp_path / "none"), 2) == []


# ------------------------------------------------------------------------------------------------ environment


def test_little_of_the_caller_s_environment_goes_down() -> None:
    kept = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "PIP_INDEX_URL": "https://index",
        "UV_DEFAULT_INDEX": "https://index",
        "HTTPS_PROXY": "http://p",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": "/ca.pem",
        "SQUALL_DRIVER": "process",
    }
    dropped = {"AWS_SECRET_ACCESS_KEY": "x", "LD_PRELOAD": "y", "SQUALL_TOKEN": "z", "PYTHONPATH": "/evil"}
    environ = embedded.environment({**kept, **dropped})
    assert {name: environ[name] for name in kept} == kept
    assert environ.get("PYTHONPATH") != "/evil"
    assert not {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "SQUALL_TOKEN"} & environ.keys()


def test_pip_s_files_become_variables(tmp_path: Path) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://global\nextra-index-url =\n  https://a\n  https://b\nquiet = 1\n"
        "[install]\nindex-url = https://install\ntrusted-host = h\n"
    )
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), "PIP_TRUSTED_HOST": "mine"}
    found = host.pip_settings(environ)
    assert found["PIP_INDEX_URL"] == "https://install"
    assert found["PIP_EXTRA_INDEX_URL"] == "https://a https://b"
    assert "PIP_TRUSTED_HOST" not in found
    assert "PIP_QUIET" not in found
    assert host.pip_settings({**environ, "PIP_CONFIG_FILE": os.devnull}) == {}


def test_local_indexes_and_certificates_can_be_shown_to_builds(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "ca.pem").touch()
    shown = host.shown_directories(
        {"PIP_FIND_LINKS": f"https://x {tmp_path}/wheels", "PIP_CERT": f"{tmp_path}/ca.pem"}
    )
    assert {str(tmp_path), str(tmp_path / "wheels"), "/usr"} <= set(shown)
    assert "/" not in shown


# ------------------------------------------------------------------------------------------------ privileges

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_directories_closed_to_a_user_are_found(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "venv" / "bin").mkdir(parents=True)
    (secret / "state").mkdir()
    for path in (tmp_path, secret / "venv"):
        path.chmod(0o755)
    secret.chmod(0o700)
    way = [*reversed(secret.parents), secret]
    barrier = next(str(p) for p in way if not view.passable(p.stat(), NOBODY))
    shown = [str(secret / "venv"), str(secret / "venv" / "bin"), str(secret / "state"), "/usr", "/no/such"]
    assert view.closed_directories(shown, NOBODY) == {barrier: [str(secret / "venv"), str(secret / "state")]}
    assert view.closed_directories(shown, Identity(os.geteuid(), os.getegid())) == {}


@root
def test_a_closed_home_shows_what_is_needed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    state.prepare(str(folder), NOBODY)
    (tmp_path / "private").write_text("a secret")
    tmp_path.chmod(0o700)
    environ = embedded.environment(os.environ)
    if problem := privileges.obstacle(NOBODY, str(folder), environ):
        pytest.skip(f"this host does not let root do that: {problem}")
    code = f"import os; print(os.getuid(), os.getgroups(), os.listdir({str(tmp_path)!r}))"
    program = view.command(NOBODY, privileges.shown(str(folder), environ), (sys.executable, "-c", code))
    done = subprocess.run(program, env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == f"{NOBODY.uid} [] ['state']"


@root
def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    state.prepare(str(tmp_path), None)
    problem = privileges.obstacle(NOBODY, str(tmp_path), embedded.environment(os.environ))
    assert "Permission denied" in problem
    assert "\n" not in problem


def test_ordinary_users_stay_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert privileges.candidate() is None


# ----------------------------------------------------------------------------------------------------- state


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    descriptor = state.lock(str(tmp_path))
    daemon_record.write(str(tmp_path), DaemonRecord(own(), 1, "0.1", "process", "/s"))
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        state.lock(str(tmp_path))
    os.close(descriptor)
    os.close(state.lock(str(tmp_path)))


def test_directories_are_their_owners(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give directories away")
    state.prepare(str(tmp_path), NOBODY)
    assert (tmp_path.stat().st_gid, tmp_path.stat().st_mode & 0o777) == (NOBODY.gid, 0o710)
    owners = {name: os.stat(tmp_path / name).st_uid for name in ("server", "node", "launcher", "logs")}
    assert owners == {"server": NOBODY.uid, "node": NOBODY.uid, "launcher": 0, "logs": 0}
    (tmp_path / "server" / "db").touch()
    (tmp_path / "node" / "layers").mkdir()
    (tmp_path / "node" / "layers" / "usr").touch()
    os.chown(tmp_path / "server" / "db", NOBODY.uid, NOBODY.gid)
    state.prepare(str(tmp_path), Identity(12345, 12345))  # a user squall was made meanwhile
    assert os.stat(tmp_path / "server" / "db").st_uid == 12345
    assert os.stat(tmp_path / "node" / "layers" / "usr").st_uid == 0


def test_an_agent_without_root_gets_what_one_with_root_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give directories away")
    state.prepare(str(tmp_path), None)
    node = tmp_path / "node"
    for folder in ("layers/la-1.x/fs", "locks", "containers/ct-1/io"):
        (node / folder).mkdir(parents=True)
    for file in ("node-id", "layers/la-1.json", "layers/la-1.x/fs/passwd", "locks/la-1.lock"):
        (node / file).touch()
    chown, calls = os.chown, []

    def cut_short(path: str, *arguments: int, **options: bool) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        chown(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "chown", cut_short)
        with pytest.raises(InvalidError, match="Input/output error"):
            state.prepare(str(tmp_path), NOBODY)
    state.prepare(str(tmp_path), NOBODY)

    given = [".", "node-id", "locks", "locks/la-1.lock", "layers", "containers", "containers/ct-1/io"]
    assert {name: (node / name).stat().st_uid for name in given} == dict.fromkeys(given, NOBODY.uid)
    kept = ["layers/la-1.json", "layers/la-1.x", "layers/la-1.x/fs", "layers/la-1.x/fs/passwd"]
    assert {name: (node / name).stat().st_uid for name in kept} == dict.fromkeys(kept, 0)


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.check(str(tmp_path))
    monkeypatch.setattr("squall.filesystem._magic", lambda _path: 0x6969)
    with pytest.raises(InvalidError, match=r"network file system \(NFS\).*SQUALL_STATE"):
        state.check(str(tmp_path))


def test_large_logs_are_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOG_LIMIT", 3)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "server.log").write_text("long enough")
    state.prepare(str(tmp_path), None)
    assert (tmp_path / "logs" / "server.log.1").read_text() == "long enough"


# --------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("status", "remote", "needed"),
    [
        ({"sessions": 1}, True, False),
        ({"sessions": 2}, False, True),
        ({"sessions": 1, "containers": 1}, False, True),
        ({"sessions": 1, "waiting_inputs": 1}, False, True),
        ({"sessions": 1, "apps": 3}, False, False),
        ({"sessions": 1, "apps": 3}, True, True),
        ({"sessions": 1, "elsewhere": Counts(apps=1)}, False, False),
        ({"sessions": 1, "elsewhere": Counts(apps=1)}, True, True),
        ({"sessions": 1, "elsewhere": Counts(apps=1, containers=1)}, False, True),
        ({"sessions": 1, "elsewhere": Counts(apps=1, waiting_inputs=1)}, False, True),
    ],
)
def test_what_a_daemon_is_needed_for(status: dict[str, Any], *, remote: bool, needed: bool) -> None:
    counts: dict[str, Any] = {"apps": 0, "containers": 0, "waiting_inputs": 0, **status}
    assert main.needed(Status("0", 1, "default", "main", [], **counts), remote=remote) is needed


def test_command_lines() -> None:
    options = parse(["--state", "/s", "--listen", "0.0.0.0:8400", "--gpus", "H100:8", "--idle-exit", "5"])
    assert options == Options("/s", listen="0.0.0.0:8400", gpus="H100:8", idle_exit=5.0)
    launcher, server, agent = programs.plan(options, "namespaces", NOBODY, {})
    assert [p.name for p in (launcher, server, agent)] == ["launcher", "server", "node"]
    (process_agent,) = programs.plan(Options("/s", server="https://h:1"), "process", NOBODY, {})
    assert launcher.command[:3] == (sys.executable, "-m", "squall.runtime.launcher")
    assert "--owner-uid 65534 --writable /s/node --base-maker squall.build.bases.make" in " ".join(
        launcher.command
    )
    for program in (server, agent, process_agent):
        assert program.command[:5] == (sys.executable, "-m", "squall.daemon.view", "--uid", "65534")
        assert program.environ["HOME"] == f"/s/{program.name}"
    assert server.command[-2:] == ("--listen", "0.0.0.0:8400")
    line = " ".join(agent.command)
    assert "--server unix:/s/server/server.sock" in line
    assert "--launcher /s/launcher.sock --gpus H100:8" in line


def test_the_process_driver_has_no_launcher_and_a_node_no_server() -> None:
    assert [p.name for p in programs.plan(Options("/s"), "process", None, {})] == ["server", "node"]
    (agent,) = programs.plan(Options("/s", server="https://h:1"), "process", None, {})
    assert "--server wss://h:1" in " ".join(agent.command)


def test_a_root_that_may_not_give_files_away_keeps_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without capabilities."""

    def refuse(*_args: object, **_more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(privileges, "candidate", lambda: Identity(os.geteuid() + 1, 1))
    monkeypatch.setattr(os, "chown", refuse)
    identity, losses = main._identity(str(tmp_path), {})
    assert identity is None
    assert losses == [
        (
            "server and node run as root, not as a user of their own: "
            f"Cannot use the state directory {tmp_path}: Operation not permitted"
        )
    ]
    assert (tmp_path / "server").stat().st_uid == os.geteuid()
