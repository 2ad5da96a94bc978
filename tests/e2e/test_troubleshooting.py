# ruff: noqa: E501 - messages are whole
"""Every error of docs/troubleshooting.md is met on purpose, and says what the page says that it does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall import Secret, exception
from squall.client.connect import connect
from squall.config import state_dir
from squall.daemon import state as daemon_state
from tests.e2e.apps import troubles
from tests.e2e.kit import PATIENCE_S
from tests.house.source import ROOT
from tests.house.troubleshooting import PAGE, documented, matches, meetings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: Any class, function or option that is not typed as it would have to be.
ANY: Any = squall
ANY_FUNCTION: Any = troubles.end

#: Tests that meet what takes another set-up: each calls `met(..., heading)`.
ELSEWHERE = [
    ROOT / "tests" / name
    for name in (
        "bad_input/test_calls.py",
        "bad_input/test_network.py",
        "bad_input/test_state.py",
        "client/test_connect.py",
        "daemon/test_daemon.py",
        "server/plane/test_apps.py",
        "server/plane/test_nodes.py",
    )
]


@pytest.fixture(scope="module", autouse=True)
def running(here: Daemon) -> Iterator[None]:
    with troubles.app.run():
        yield


# ------------------------------------------------------------------------------------------- how to meet them


def no_parentheses() -> Any:
    return squall.App("x").function(ANY.is_local)


def unknown_parameter() -> Any:
    return ANY.App("x").function(gpus="H100")


def not_there_yet() -> Any:
    return ANY.App("x").function(volumes={"/data": 1})


def not_running() -> Any:
    app = squall.App("lonely")
    return app.function()(troubles.end.get_raw_f()).remote("x")


def no_such_module() -> squall.Image:
    return squall.Image.debian_slim().add_local_python_source("no_such_module_at_all")


def built(image: squall.Image) -> Any:
    app = squall.App("x", image=image)
    app.function()(troubles.end.get_raw_f())
    with app.run():
        pass


def with_secret() -> Any:
    app = squall.App("x")
    app.function(secrets=[troubles.missing])(troubles.end.get_raw_f())
    with app.run():
        pass


def too_much_code() -> Any:
    data = b"x" * (17 << 20)
    app = squall.App("x")

    def big() -> int:
        return len(data)

    app.function(serialized=True)(big)
    with app.run():
        pass


def more_than_any_node() -> Any:
    return troubles.end.with_options(cpu=900).remote("x")


def cancelled() -> Any:
    call = troubles.waits.spawn()
    call.cancel()
    return call.get(timeout=PATIENCE_S)


def not_yet() -> Any:
    call = troubles.waits.spawn()
    try:
        return call.get(timeout=0)
    finally:
        call.cancel()


def twice() -> Any:
    Secret.objects.create("twice", {"A": "aaaa"})
    try:
        Secret.objects.create("twice", {"A": "aaaa"})
    finally:
        Secret.objects.delete("twice")


def second_daemon() -> Any:
    return daemon_state.lock(state_dir())


def closed_client() -> Any:
    client = connect()
    client.close()
    return squall.Function.from_name("a", "f", client=client).remote()


def no_server() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SQUALL_SERVER_URL", "ws://127.0.0.1:9")
        connect()


def stub() -> Any:
    return ANY.Stub("x")


MET: dict[str, Callable[[], Any]] = {
    "InvalidError: ...(...) does not say where: write ....remote(...) to run it in a container, or ....local(...) to run it here": lambda: ANY_FUNCTION("exit"),
    "InvalidError: ... is a name of the past: ...": stub,
    "InvalidError: write @app.function() with parentheses": no_parentheses,
    "InvalidError: @app.function has no parameter ...=: did you mean ...=?": unknown_parameter,
    "UnimplementedError: @app.function: ...= is not in this version of Squall: ...": not_there_yet,
    "InvalidError: ... is a generator function: call .remote_gen() and iterate over it": lambda: troubles.count.remote(3),
    "ExecutionError: ... is not on the server: its app ... must run ...": not_running,
    "ModuleNotMountable: add_local_python_source: no module ... is found here as Python source: is its folder on sys.path?": lambda: built(no_such_module()),
    "RequestSizeError: the function ... takes ... MiB serialized and 16 MiB are possible: which large global does it use?": too_much_code,
    "NotFoundError: no app ... is deployed in environment ...: deploy it first": lambda: squall.Function.from_name("no-such-app", "f").remote(),
    "NotFoundError: no secret ... in environment ...: make it with `squall secret create ...`": with_secret,
    "AlreadyExistsError: there is a secret ... already: replace it with --force, or update it": twice,
    "SerializationError: argument ... of ..., of type ..., cannot be pickled (...): send plain data": lambda: ANY_FUNCTION.remote(threading.Lock()),
    "SerializationError: a result of ..., of type ..., cannot be pickled: ... (return plain data)": lambda: troubles.end.remote("lock"),
    "ResourceExhaustedError: no node can ever hold a container with ... (nodes have ...): ask for less, or add a node": more_than_any_node,
    "ConflictError: A daemon runs with the state ... already (process ...): stop it with `squall daemon stop`.": second_daemon,
    "FunctionTimeoutError: the input ran longer than its function's timeout of ... seconds": troubles.slow.remote,
    "InputCancellation: the call was cancelled": cancelled,
    "TimeoutError: the call ... has no result yet": not_yet,
    "RemoteError: SystemExit: ...": lambda: troubles.end.remote("exit"),
    "RemoteError: the container's process exited with code ...": lambda: troubles.end.remote("_exit"),
    "RemoteError: the container's process crashed (SIGSEGV); its last output may say where": lambda: troubles.end.remote("segfault"),
    "RemoteError: the container's process crashed (SIGABRT); its last output may say where": lambda: troubles.end.remote("abort"),
    "RemoteError: the container ran out of memory (its limit is ... MiB): give the function more with memory=": lambda: troubles.end.remote("memory"),
    "InternalFailure: the container's process was killed from outside (SIGKILL); it ran ... times and never ended": lambda: troubles.end.remote("killed"),
    "ConnectionError: ...Connection refused. Check that it runs, and the URL in SQUALL_SERVER_URL or the configuration file.": no_server,
    "ClientClosed: This client is closed.": closed_client,
}  # fmt: skip


@pytest.mark.parametrize("heading", MET, ids=lambda h: h[:60])
def test_an_error_is_met(here: Daemon, heading: str) -> None:
    if "memory" in heading and here.record.driver != "namespaces":
        pytest.skip("only the namespaces driver limits memory")
    with pytest.raises((exception.Error, exception.InputCancellation)) as caught:
        MET[heading]()
    told = f"{type(caught.value).__name__}: {caught.value}"
    assert matches(told, heading), told


def test_each_error_of_the_page_is_met_and_no_other() -> None:
    elsewhere = {heading for file in ELSEWHERE for heading in meetings(file)}
    assert sorted(documented()) == sorted({*MET, *elsewhere})


def test_every_public_exception_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    public = [
        name
        for name, value in vars(exception).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert [name for name in public if f"`{name}`" not in text and f"`{name}:" not in text] == []
