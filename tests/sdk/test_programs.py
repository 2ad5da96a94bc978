"""Programs as users write them, on a real server and node: commands, scripts, pytest, notebooks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall.client import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux"),
]


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    """The environment of programs that share one server; it starts with the first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    # Short: the sockets of containers lie below it, and 107 characters are all that their paths may have.
    with tempfile.TemporaryDirectory(prefix="sq-", ignore_cleanup_errors=True) as state:
        yield {**kept, "SQUALL_STATE": state, "SQUALL_DRIVER": "process"}
        embedded.stop(state)


@pytest.fixture
def python(environ: dict[str, str]) -> Callable[..., str]:
    """Runs Python as a user does, and returns what it printed."""

    def python(*args: str, cwd: Path = PROGRAMS, stdin: str | None = None) -> str:
        command = [sys.executable, *args]
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return python


@pytest.mark.covers("App.local_entrypoint")
def test_word_count(python: Callable[..., str], tmp_path: Path) -> None:
    result = tmp_path / "best.txt"
    out = python("-m", "squall", "run", "-w", str(result), "word_count.py", "--number", "20", "--top", "3")
    assert out == "20 pages: cat 17, hat 10, sat 8\ntags {'team': 'text'}\n"
    assert result.read_text() == "cat\nhat\nsat"


def test_orders(python: Callable[..., str]) -> None:
    out = python("-m", "squall", "run", "-m", "shop.orders")
    assert out == "costs [3, 7, 'no ham', 0]\npear 4\npear 4\nnot sold: ham\n"
    assert python("-m", "squall", "run", "shop/orders.py::prices_app.price", "--name", "pear") == "4\n"


def test_job_queue(python: Callable[..., str]) -> None:
    assert python("job_queue.py").splitlines() == [
        "polled 6",
        "graph job SUCCESS ['step', 'step', 'step']",
        "gathered [0, 1, 3]",
        "batch 2000 2001000 [6, 7, 8] 2000",
        "cancelled",
        "info first 1 0",
        "logged True",
    ]
    assert "No apps." in python("-m", "squall", "app", "list")


def test_crawler(python: Callable[..., str]) -> None:
    lines = python("crawler.py").splitlines()
    assert "the frontier is closed" in lines
    assert [line for line in lines if "frontier" not in line] == [
        "seen 4000 deepest 4",
        "first 0",
        "local True [1, 2] [3, 4]",
        "later 6",
    ]


@pytest.mark.covers(
    "is_local",
    "current_input_id",
    "current_function_call_id",
    "SQUALL_TASK_ID",
    "SQUALL_IS_REMOTE",
    "SQUALL_IMAGE_ID",
    "SQUALL_ENVIRONMENT",
)
def test_a_program_from_standard_input(python: Callable[..., str]) -> None:
    program = """
import os, squall
app = squall.App("typed")
offset = 40

@app.function()
def add(x):
    return x + offset

@app.function()
def where():
    names = ["TASK_ID", "IS_REMOTE", "IMAGE_ID", "ENVIRONMENT"]
    told = [os.environ["SQUALL_" + name] for name in names]
    return told, squall.is_local(), squall.current_input_id(), squall.current_function_call_id()

with app.run():
    print(add.remote(2))
    (task, remote, image, environment), local, input_id, call_id = where.remote()
    print(task[:3], remote, image[:3], environment, local, input_id == call_id + ":0")
print(squall.is_local(), squall.current_input_id())
"""
    assert python("-", stdin=program) == "42\nct- 1 im- main False True\nTrue None\n"


def test_inside_pytest(python: Callable[..., str], tmp_path: Path) -> None:
    """The app runs for a session; a module is reloaded; functions are in test modules too."""
    files = {
        "conftest.py": """
            import pytest, service
            @pytest.fixture(scope="session")
            def running():
                with service.app.run():
                    yield service
            """,
        "service.py": """
            import squall
            app = squall.App("service")
            @app.function()
            def double(x):
                return 2 * x
            """,
        "test_service.py": """
            import asyncio, importlib, squall
            app = squall.App("of-the-tests")

            @app.function()
            def here(x):
                return x + 1

            def test_in_the_session(running):
                assert list(running.double.map(range(3))) == [0, 2, 4]

            def test_on_asyncio(running):
                assert asyncio.run(running.double.remote.aio(4)) == 8

            def test_reloaded():
                import service
                again = importlib.reload(service)
                with again.app.run():
                    assert again.double.remote(5) == 10

            def test_of_the_test_module():
                with app.run():
                    assert here.remote(1) == 2
            """,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    out = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", ".", cwd=tmp_path)
    assert "4 passed" in out


@pytest.fixture
def cell(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Runs a notebook's cell in a real kernel, and returns what it shows."""
    manager_module = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    (tmp_path / "beside.py").write_text("THOUSAND = 1000\n")
    manager: Any = manager_module.KernelManager(kernel_name="python3")
    manager.start_kernel(env={**environ, "IPYTHONDIR": str(tmp_path / "ipython")}, cwd=str(tmp_path))
    client: Any = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)

    def run(code: str) -> str:
        shown: list[str] = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] == "error":
                shown.append("\n".join(content["traceback"]))

        reply = client.execute_interactive(textwrap.dedent(code), timeout=100, output_hook=show)
        assert reply["content"]["status"] == "ok", "".join(shown)
        return "".join(shown)

    yield run
    client.stop_channels()
    manager.shutdown_kernel()
    manager.cleanup_resources()


@pytest.mark.filterwarnings("ignore")  # what Jupyter's parts warn of is not ours to mend
def test_in_a_notebook(cell: Callable[[str], str]) -> None:
    cell("""
        import squall as modal
        import beside

        app = modal.App("notebook")

        class Point:
            def __init__(self, x):
                self.x = x

        def helper(x):
            return x + 1

        @app.function()
        def work(x):
            return helper(x) + beside.THOUSAND

        @app.function()
        def nested(x):
            return work.remote(x) * 2

        @app.function()
        def move(point):
            return Point(point.x + 1)
        """)
    out = cell("""
        with app.run():
            print(work.remote(1), list(work.map(range(2))), nested.remote(1))
            moved = move.remote(Point(3))
            print(type(moved) is Point, moved.x)
        """)
    assert out == "1002 [1001, 1002] 2004\nTrue 4\n"
    cell("""
        def helper(x):
            return x + 100

        @app.function()
        def nested(x):
            return -work.remote(x)
        """)
    out = cell("""
        async with app.run():
            print(await work.remote.aio(1), [x async for x in work.map.aio(range(2))])
            print(nested.remote(1))
        """)
    assert out == "1101 [1100, 1101]\n-1101\n"
