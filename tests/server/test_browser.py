"""A real browser against a real daemon that listens on TCP: a web page gets nothing, whatever it stole."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from squall.client import embedded, transport
from squall.client.blocking import BlockingClient
from squall.client.connect import local, remote
from squall.client.core import Credentials
from squall.wire import codec
from squall.wire import messages as m
from squall.wire.control import AppCreate, AppInfo, Empty, TokenNew
from squall.wire.values import PROTOCOL
from tests.server.browser import CHROMIUM, PATIENCE, Browser, browser

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

ATTACK = Path(__file__).with_name("attack.js").read_text("utf-8")
#: In a frame whose origin is opaque ("null"), which tells the page around it.
SANDBOXED = """
new Promise((done) => {
  addEventListener("message", (event) => done(event.data));
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts allow-forms");
  frame.srcdoc = "<script>(" + %s + ")(..." + %s + ").then((r) => parent.postMessage(r, '*'))</" + "script>";
  document.documentElement.append(frame);
})
"""
EVIL = "evil.test"


class Daemon(NamedTuple):
    state: str
    port: int
    token: str

    def client(self) -> BlockingClient:
        client = BlockingClient(local(self.state, start=False), Credentials())
        client.open(PATIENCE)
        return client

    def frames(self, app: str) -> list[bytes]:
        """Those of a client with the token: who it is, and that it wants an app."""
        return [
            codec.encode([m.Hello(PROTOCOL, "client", "0", self.token)]),
            codec.encode([m.Request(1, "app.create", codec.pack(AppCreate(app)))]),
        ]

    def refusals(self) -> int:
        log = Path(self.state, "logs", "server.log").read_text("utf-8")
        return log.count("web pages may not use this server") + log.count("is not allowed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    state, port = str(tmp_path_factory.mktemp("browser") / "state"), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    environ |= {"SQUALL_STATE": state, "SQUALL_DRIVER": "process"}
    command = [sys.executable, "-m", "squall", "daemon", "start", "--listen", f"127.0.0.1:{port}"]
    subprocess.run(command, env=environ, check=True, timeout=60, stdout=subprocess.DEVNULL)
    try:
        admin = BlockingClient(local(state, start=False), Credentials())
        admin.open(PATIENCE)
        token = admin.request("token.new", TokenNew()).token
        admin.close()
        yield Daemon(state, port, token)
    finally:
        embedded.stop(state)


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The attacker's own web site; its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Cute cats</title>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("chromium") / "profile"
    with browser(profile, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1") as running:
        yield running


def attack(target: str, daemon: Daemon, token: str) -> str:
    """The script with its arguments, as an expression."""
    return f"({ATTACK})(...{arguments(target, daemon, token)})"


def arguments(target: str, daemon: Daemon, token: str) -> str:
    frames = daemon._replace(token=token).frames("evil")
    return json.dumps([target, [base64.b64encode(frame).decode() for frame in frames], token])


def check_nothing_happened(daemon: Daemon, found: dict[str, str], refused_before: int) -> None:
    """Nothing that the page could read, no session, no app; and its tries did arrive."""
    assert {found.pop("socket"), found.pop("events")} == {"refused"}
    assert found.pop("form") == "unreadable"
    readable = {name: what for name, what in found.items() if what not in {"refused", "opaque 0"}}
    assert readable == {}
    nothing_changed(daemon)
    assert daemon.refusals() - refused_before >= 5


def nothing_changed(daemon: Daemon) -> None:
    client = daemon.client()
    status = client.request("status", Empty())
    apps = client.request("app.list", Empty()).apps
    client.close()
    assert (status.sessions, status.apps, apps) == (1, 0, [])


@pytest.mark.parametrize("stolen", [False, True], ids=["without-token", "with-token"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", EVIL])
@pytest.mark.parametrize("target", ["127.0.0.1", EVIL], ids=["address", "rebound"])
def test_a_page_of_another_origin(
    chromium: Browser, daemon: Daemon, site: int, host: str, target: str, *, stolen: bool
) -> None:
    before = daemon.refusals()
    script = attack(f"{target}:{daemon.port}", daemon, daemon.token if stolen else "")
    check_nothing_happened(daemon, chromium.evaluate(f"http://{host}:{site}/", script), before)


@pytest.mark.parametrize("target", ["127.0.0.1", EVIL], ids=["address", "rebound"])
def test_a_page_without_an_origin(chromium: Browser, daemon: Daemon, target: str) -> None:
    before = daemon.refusals()
    script = attack(f"{target}:{daemon.port}", daemon, daemon.token)
    check_nothing_happened(daemon, chromium.evaluate("data:text/html,<p>cats", script), before)


def test_a_sandboxed_frame(chromium: Browser, daemon: Daemon, site: int) -> None:
    before = daemon.refusals()
    inside = arguments(f"127.0.0.1:{daemon.port}", daemon, daemon.token)
    script = SANDBOXED % (json.dumps(ATTACK), json.dumps(inside))
    check_nothing_happened(daemon, chromium.evaluate(f"http://127.0.0.1:{site}/", script), before)


def test_a_name_that_came_to_point_here_is_the_pages_own_origin(chromium: Browser, daemon: Daemon) -> None:
    """DNS rebinding: as far as the browser knows, the page comes from the server and may read its answers."""
    before = daemon.refusals()
    own = f"{EVIL}:{daemon.port}"
    found = chromium.evaluate(f"http://{own}/healthz", attack(own, daemon, daemon.token))
    assert {found.pop("socket"), found.pop("events")} == {"refused"}
    assert found.pop("form") == "read squall: web pages may not use this server (Origin header)\n"
    # Whether the server lives is all that it tells whoever asks.
    assert {name: what for name, what in found.items() if what.startswith("basic 2")} == {
        "cors GET /healthz": "basic 200",
        "token GET /healthz": "basic 200",
        "blind GET /healthz": "basic 200",
    }
    nothing_changed(daemon)
    assert daemon.refusals() - before >= 5


def test_the_same_frames_of_a_client_are_answered(daemon: Daemon) -> None:
    link, frames = transport.dial(remote(f"ws://127.0.0.1:{daemon.port}"), PATIENCE)
    try:
        for frame in daemon.frames("good"):
            link.send_frame(frame)
        welcome, created = answers(link, frames)
        assert isinstance(welcome, m.Welcome)
        assert codec.unpack(created.body, AppInfo).name == "good"
        client = daemon.client()
        assert [app.name for app in client.request("app.list", Empty()).apps] == ["good"]
        client.close()
        link.send_frame(codec.encode([m.Request(2, "session.close", codec.pack(Empty()))]))
        answers(link, [], 1)
    finally:
        link.close()
    nothing_changed(daemon)


def answers(link: transport.Link, frames: list[bytes], number: int = 2) -> list[Any]:
    """So many messages of the server; `frames` are there already."""
    said = [message for frame in frames for message in codec.decode(frame)]
    while len(said) < number:
        assert link.wait(PATIENCE)
        said += [message for frame in link.receive() for message in codec.decode(frame)]
    return said
