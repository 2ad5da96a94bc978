"""What a machine is found to offer, on machines that offer more and less."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from squall.node import doctor
from squall.runtime.gpus import Gpu
from squall.runtime.network.resolvers import NONE_USABLE
from squall.runtime.probe import Choice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names, and keeps who was asked for."""

    def do_HEAD(self) -> None:
        asked.append(self.path)
        self.send_response(int(self.path.rpartition("/")[2] or 200))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


asked: list[str] = []


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_who_answers_is_there(site: str, status: int) -> None:
    assert doctor.reach("Index", f"{site}/{status}", {}).state == "ok"


def test_an_error_of_the_server_is_told(site: str) -> None:
    check = doctor.reach("Index", f"{site}/502", {})
    assert (check.state, check.found) == ("lost", f"{site}/502: it answers 502 Bad Gateway")
    assert "check the network and its proxy" in check.remedy


def test_nobody_and_silence_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REACH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "timed out" in doctor.reach("Index", url, {}).found
    assert "refused" in doctor.reach("Index", url, {}).found
    assert doctor.reach("Index", "http://no-such-host.invalid/", {}).state == "lost"


def test_the_proxy_is_used(site: str) -> None:
    url = "http://packages.example/404"
    assert doctor.reach("Index", url, {"http_proxy": site}).state == "ok"
    assert asked[-1] == url


def test_a_password_is_not_shown(site: str) -> None:
    url = site.replace("//", "//me:secret@") + "/502"
    assert "secret" not in repr(doctor.reach("Index", url, {}))


def test_files_need_no_network() -> None:
    assert doctor.reach("Index", "file:///packages/simple", {}).state == "ok"


def test_losses_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = doctor._driver(Choice("process", "containers need root"))
    assert (first.state, first.found) == ("lost", "process: containers need root")
    assert "as root" in first.remedy
    assert any("isolation" in check.found for check in others)
    monkeypatch.setenv("SQUALL_DRIVER", "nonsense")
    (check,) = doctor._driver(doctor._choice())
    assert (check.state, check.remedy) == ("failed", "unset SQUALL_DRIVER")


def test_gpus_without_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squall.runtime.gpus.found", lambda: [Gpu(250, "H100", "GPU-1")])
    check = doctor._gpus()
    assert (check.state, check.remedy) == ("lost", "nvidia-modprobe -u -c 0")
    assert "H100 (/dev/nvidia250)" in check.found


def test_resolvers_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "resolv_conf", lambda: NONE_USABLE)
    assert doctor._resolvers().state == "lost"


def test_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._room(tmp_path / "not" / "yet").state == "ok"
    monkeypatch.setattr(doctor, "ROOM_GIB", 1 << 30)
    assert "GiB are free" in doctor._room(tmp_path).found
    monkeypatch.setattr("squall.filesystem.refusal", lambda _: "is on NFS")
    check = doctor._room(tmp_path)
    assert (check.state, check.found) == ("failed", f"{tmp_path}: the directory is on NFS")


def test_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    first, *_ = doctor._programs()
    assert (first.state, first.remedy) == ("lost", "apt-get install mmdebstrap")


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "squall.node.doctor", "--state", str(tmp_path / "state")]
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PIP_INDEX_URL": "file:///nowhere"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=True)
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"Kernel", "Driver", "State", "GPUs", "uv", "Python index"} <= set(found)
    assert list(tmp_path.iterdir()) == []
