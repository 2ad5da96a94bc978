"""Apps: on the server for a block, or deployed; what is sent, and what is told."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.client.api import ServiceRefusal
from squall.exception import ExecutionError, ImageBuildError, InvalidError, NotFoundError, UnimplementedError
from squall.sdk import output
from squall.wire.messages import BuildLog, Logs, Notice
from squall.wire.values import LogItem, MountRef
from tests.sdk.fake_client import FakeAsyncClient, FakeClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sdk.fake_client import FakeApp, FakeServer

    Load = Callable[..., Any]


def only(server: FakeServer) -> FakeApp:
    (app,) = server.apps.values()
    return app


@pytest.mark.covers("App.run", "App.app_id")
def test_run_is_for_the_length_of_the_block(load: Load, server: FakeServer) -> None:
    module = load("@app.function()\ndef f(): return 1\n")
    with module.app.run() as app:
        assert app is module.app
        assert app.app_id == "ap-0"
        assert not only(server).stopped
        assert module.f.remote() == 1
        with pytest.raises(InvalidError, match="runs already"), app.run():
            pass
    assert only(server).stopped
    assert app.app_id is None


def test_run_on_asyncio(load: Load, server: FakeServer) -> None:
    module = load("@app.function()\nasync def f(): return 1\n")

    async def run() -> Any:
        async with module.app.run():
            return await module.f.remote.aio()

    assert asyncio.run(run()) == 1
    assert only(server).stopped


def test_the_loop_closes_its_client(load: Load, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[FakeAsyncClient] = []

    async def connect_async(**_: Any) -> FakeAsyncClient:
        clients.append(FakeAsyncClient(server))
        return clients[-1]

    monkeypatch.setattr("squall.client.connect.connect_async", connect_async)
    module = load("@app.function()\ndef f(): return 1\n")
    module.app.deploy()

    async def run() -> None:
        await asyncio.gather(*(module.f.remote.aio() for _ in range(5)))

    for _ in range(2):
        asyncio.run(run())
    gc.collect()
    assert [client.closed for client in clients] == [True, True]


def test_a_failed_connection_is_tried_again(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[Any] = [squall.exception.ConnectionError("away"), FakeAsyncClient(server)]

    async def connect_async(**_: Any) -> FakeAsyncClient:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    monkeypatch.setattr("squall.client.connect.connect_async", connect_async)

    async def run() -> None:
        with pytest.raises(squall.exception.ConnectionError):
            await squall.App.lookup.aio("x", create_if_missing=True)
        await squall.App.lookup.aio("x", create_if_missing=True)

    asyncio.run(run())


@pytest.mark.covers("App.run(client)")
def test_a_client_of_ones_own(load: Load) -> None:
    from tests.sdk.fake_client import FakeServer

    other = FakeServer()
    module = load("@app.function()\ndef f(): return 1\n")
    with module.app.run(client=FakeClient(other)):
        assert module.f.remote() == 1
        with pytest.raises(InvalidError, match="is a blocking client"):
            asyncio.run(module.f.remote.aio())
    with pytest.raises(InvalidError, match="is an asyncio client"):
        module.app.deploy(client=FakeAsyncClient(other))


def test_an_error_in_the_block_stops_the_app(load: Load, server: FakeServer) -> None:
    module = load("@app.function()\ndef f(): return 1\n")
    with pytest.raises(KeyboardInterrupt), module.app.run():
        raise KeyboardInterrupt
    assert only(server).stopped


def test_a_script_that_runs_its_app_at_the_top_level_is_told_in_its_container(
    load: Load, in_container: None, server: FakeServer
) -> None:
    declared = "@app.function()\ndef f(): return 1\n"
    for use in ("with app.run(): pass", "app.deploy()"):
        with pytest.raises(InvalidError, match=r'put that below if __name__ == "__main__":'):
            load(f"{declared}{use}\n")
    assert server.requests == []


@pytest.mark.covers("App.run(detach)")
def test_detached_it_goes_on(load: Load, server: FakeServer) -> None:
    with load("@app.function()\ndef f(): return 1\n").app.run(detach=True):
        pass
    assert only(server).detach
    assert not only(server).stopped


@pytest.mark.covers("App(name)", "App.run(name)", "App.name", "App.description")
def test_names(load: Load, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/my script.py"])
    with squall.App().run() as app:
        assert (app.name, app.description) == (None, "my-script")
    with load("").app.run(name="another"):
        pass
    assert [a.name for a in server.apps.values()] == ["my-script", "another"]
    with pytest.raises(InvalidError, match="is no name for an app"):
        squall.App().run(name="a b")


@pytest.mark.covers("App.function", "App.function(include_source)")
def test_source_and_image_travel(load: Load, server: FakeServer) -> None:
    module = load(
        "image = squall.Image.debian_slim().pip_install('numpy')\n"
        "@app.function(image=image, cpu=2, timeout=10, env={'A': 'b'})\ndef f(): return 1\n"
        "@app.function(image=image, include_source=False)\ndef g(): return 1\n"
    )
    with module.app.run():
        spec = only(server).specs["f"]
        bare = only(server).specs["g"]
    assert (spec.module, spec.qualname, spec.timeout, spec.env) == ("sdk_example", "f", 10.0, {"A": "b"})
    assert spec.resources.cpu_millis == 2000
    (mount,) = spec.mounts
    assert mount.target == "/squall/source"
    assert [e.path for e in server.manifests[mount.manifest].entries] == ["sdk_example.py"]
    assert bare.mounts == []
    assert server.images == [spec.image]
    assert bare.image == spec.image


def test_only_what_is_missing_is_sent(load: Load, server: FakeServer) -> None:
    module = load("@app.function()\ndef f(): return 1\n")
    for _ in range(2):
        with module.app.run():
            pass
    assert len(server.uploads) == 1


@pytest.mark.covers("App(image)", "App(include_source)")
def test_the_apps_image_is_the_default(load: Load, server: FakeServer) -> None:
    module = load(
        "app = squall.App('y', image=squall.Image.debian_slim('3.12'), include_source=False)\n"
        "@app.function()\ndef f(): return 1\n"
        "@app.function(image=squall.Image.debian_slim('3.13'), include_source=True)\ndef g(): return 1\n"
    )
    with module.app.run():
        specs = only(server).specs
    assert specs["f"].image != specs["g"].image
    assert not specs["f"].mounts
    assert specs["g"].mounts


def test_local_folders_and_modules_of_images_are_mounted(
    load: Load, server: FakeServer, tmp_path: Path, project: Callable[..., Path]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("x")
    project({"extra_module.py": ""})
    module = load(
        f"image = squall.Image.debian_slim().add_local_dir({str(tmp_path / 'data')!r}, '/data')\n"
        "image = image.add_local_python_source('extra_module')\n"
        "@app.function(image=image)\ndef f(): return 1\n"
    )
    with module.app.run():
        source, data = only(server).specs["f"].mounts
    assert [e.path for e in server.manifests[source.manifest].entries] == [
        "extra_module.py",
        "sdk_example.py",
    ]
    assert data == MountRef(data.manifest, "/data")
    assert [e.path for e in server.manifests[data.manifest].entries] == ["x.txt"]


@pytest.mark.covers("App.function(serialized)")
def test_serialized_functions_bring_their_module(load: Load, server: FakeServer) -> None:
    module = load(
        "FACTOR = 3\n"
        "@app.function()\ndef g(x): return x + 1\n"
        "@app.function(serialized=True)\ndef f(x): return x * FACTOR + g.local(1)\n"
    )
    with module.app.run():
        spec = only(server).specs["f"]
        assert spec.serialized is not None
        del sys.modules["sdk_example"]
        assert b"FACTOR" in spec.serialized.data


def test_a_serialized_function_calls_another_of_its_app(load: Load, server: FakeServer) -> None:
    module = load(
        "@app.function()\ndef g(x): return x + 1\n"
        "@app.function(serialized=True)\ndef f(x): return g.remote(x) * 2\n"
    )
    module.app.deploy()
    server.container_app = module.app.app_id
    assert module.f.remote(1) == 4


def test_too_large_a_serialized_function(load: Load, server: FakeServer) -> None:
    module = load("DATA = bytes(17 << 20)\n@app.function(serialized=True)\ndef f(): return len(DATA)\n")
    with (
        pytest.raises(squall.exception.RequestSizeError, match="function f takes 17 MiB serialized"),
        module.app.run(),
    ):
        pass
    assert not server.apps


def test_nothing_is_sent_when_something_local_is_wrong(load: Load, server: FakeServer) -> None:
    module = load(
        "image = squall.Image.debian_slim().add_local_file('/nowhere', '/x')\n"
        "@app.function(image=image)\ndef f(): pass\n"
    )
    with pytest.raises(InvalidError, match="no file /nowhere"), module.app.run():
        pass
    assert server.requests == []


def test_a_failed_build_stops_the_app(load: Load, server: FakeServer) -> None:
    server.refusals["image.ensure"] = ServiceRefusal("build", "pip failed\nno such package")
    with (
        pytest.raises(ImageBuildError, match="no such package"),
        load("@app.function()\ndef f(): pass\n").app.run(),
    ):
        pass
    assert only(server).stopped


@pytest.mark.covers("App.deploy", "App.deploy(name)", "App.deploy(tag)")
def test_deploy(load: Load, server: FakeServer) -> None:
    module = load("@app.function()\ndef f(x): return x\n")
    assert module.app.deploy() is module.app
    assert asyncio.run(module.app.deploy.aio(tag="v2")) is module.app
    assert module.app.version == 2
    assert only(server).name == "example"
    assert module.f.remote(3) == 3
    module.app.deploy(name="other")
    assert [a.name for a in server.apps.values()] == ["example", "other"]
    with pytest.raises(InvalidError, match="needs a name"):
        squall.App().deploy()
    with pytest.raises(InvalidError, match="give rolling or recreate"):
        module.app.deploy(strategy="slowly")
    module.app.deploy(strategy="recreate", tag="v3")
    assert [(p.strategy, p.tag) for p in server.published[-1:]] == [("recreate", "v3")]


@pytest.mark.covers(
    "App.run(environment_name)",
    "App.deploy(environment_name)",
    "App.deploy(client)",
    "App.lookup(environment_name)",
    "App.lookup(client)",
    "Function.from_name(environment_name)",
    "Function.from_name(client)",
    "Function.from_id",
    "Function.from_id(client)",
    "FunctionCall.from_id(client)",
    "Secret.from_dotenv(client)",
    "Secret.from_name(client)",
    "Secret.from_name(environment_name)",
)
def test_an_environment_and_a_client_are_taken_everywhere(
    load: Load, server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def connect(environment: str = "") -> FakeClient:
        asked.append(environment)
        return FakeClient(server)

    monkeypatch.setattr("squall.client.connect.connect", connect)
    module = load("@app.function()\ndef f(): return 1\n")
    with module.app.run(environment_name="run"):
        assert module.f.remote() == 1
    module.app.deploy(environment_name="deploy")
    squall.App.lookup("example", environment_name="lookup")
    assert squall.Function.from_name("example", "f", environment_name="name").remote() == 1
    assert asked == ["run", "deploy", "lookup", "name"]
    client = FakeClient(server)
    module.app.deploy(client=client)
    squall.App.lookup("example", client=client)
    assert squall.Function.from_name("example", "f", client=client).remote() == 1
    function_id = module.app.function_ids["f"]
    function = squall.Function.from_id(function_id, client=client)
    assert function.remote() == 1
    call = function.spawn()
    assert squall.FunctionCall.from_id(call.object_id, client=client).get() == 1
    (tmp_path / ".env").write_text("KEY=value\n")
    assert squall.Secret.from_dotenv(tmp_path, client=client).info().keys == ["KEY"]
    squall.Secret.objects.create("db", {"KEY": "value"}, client=client)
    assert squall.Secret.from_name("db", client=client).info().name == "db"
    assert len(client.opened) == 3
    assert len(asked) == 4
    assert squall.Secret.from_name("db", environment_name="secrets").info().name == "db"
    assert asked[4:] == ["secrets"]


@pytest.mark.covers("App.lookup", "App.lookup(create_if_missing)", "App.stop")
def test_lookup_and_stop(load: Load, server: FakeServer) -> None:
    load("@app.function()\ndef f(): return 1\n").app.deploy()
    app = squall.App.lookup("example")
    assert app.app_id == only(server).id
    assert asyncio.run(squall.App.lookup.aio("example")).app_id == app.app_id
    app.stop()
    assert only(server).stopped
    with pytest.raises(ExecutionError, match="does not run"):
        app.stop()
    with pytest.raises(NotFoundError):
        squall.App.lookup("example")
    assert squall.App.lookup("example", create_if_missing=True).app_id


@pytest.mark.covers("Function.app")
def test_what_is_registered(load: Load) -> None:
    module = load("@app.function()\ndef f(): pass\n@app.local_entrypoint()\ndef main(): return 5\n")
    assert list(module.app.registered_functions) == ["f"]
    assert list(module.app.registered_entrypoints) == ["main"]
    assert module.main() == 5
    assert module.f.app is module.app
    assert not hasattr(module.app, "server")
    with pytest.raises(UnimplementedError, match="web functions come"):
        module.app.server()
    with pytest.raises(UnimplementedError):
        module.app.run(interactive=True)


@pytest.mark.covers("enable_output")
def test_output(load: Load, server: FakeServer) -> None:
    module = load("@app.function()\ndef f(): return 1\n")
    client = FakeClient(server)
    with output.enable_output(), module.app.run(client=client):
        assert client.watch.logs is not None
        assert "logs.follow" in server.requests
    server.requests.clear()
    with module.app.run():
        assert "logs.follow" not in server.requests


def printer(*, quiet: bool = False) -> tuple[output.Printer, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return output.Printer(quiet=quiet, out=out, err=err), out, err


def log(data: bytes, fd: int = 1, container: str = "ct-1a2b3c", dropped: int = 0) -> LogItem:
    return LogItem(container, "classify", fd, data, 0.0, dropped)


def test_lines_are_labelled_and_whole() -> None:
    show, out, err = printer()
    show.logs(
        Logs(
            "ap",
            [log(b"one\ntw"), log(b"warn\r\n", fd=2), log(b"other\n", container="ct-9f9f9f"), log(b"o\n")],
        )
    )
    show.logs(Logs("ap", [log(b"no end \xff"), log(b"", dropped=7)]))
    show.end()
    assert out.getvalue() == (
        "classify ct-1a2b | one\nclassify ct-9f9f | other\nclassify ct-1a2b | two\n"
        "classify ct-1a2b | no end \ufffd\n"
    )
    assert err.getvalue() == (
        "classify ct-1a2b | warn\nclassify ct-1a2b | [7 lines dropped: it wrote too fast]\n"
    )


@pytest.mark.parametrize("quiet", [False, True])
def test_builds_and_notices_are_left_out_when_quiet(quiet: bool) -> None:
    show, out, err = printer(quiet=quiet)
    show.build_log(BuildLog("im-123456789", b"fetch", 1, 2))
    show.build_log(BuildLog("im-123456789", b"ing\n", 1, 2))
    show.notice(Notice("ap", "waits for a node"))
    show.reconnected()
    assert out.getvalue() == ""
    assert (err.getvalue() == "") is quiet
    assert quiet or err.getvalue().splitlines()[:2] == [
        "image im-123456 | step 1 of 2",
        "image im-123456 | fetching",
    ]


def test_a_closed_terminal_ends_nothing() -> None:
    show, out, _ = printer()
    out.close()
    show.logs(Logs("ap", [log(b"one\n")]))


def test_what_squall_does_not_have_says_so() -> None:
    message = r"squall\.Volume is not in this version of Squall: volumes come"
    with pytest.raises(UnimplementedError, match=message):
        _ = squall.Volume
    with pytest.raises(UnimplementedError, match=message):
        exec("from squall import Volume")
    with pytest.raises(UnimplementedError, match=r"squall\.experimental\.stream is not in this version"):
        _ = squall.experimental.stream
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = squall.experimental.nonsense
