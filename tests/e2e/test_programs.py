"""`squall run` and `squall deploy` of programs in files, as a user has them."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

import squall
from squall import exception
from tests.e2e.kit import PATIENCE_S, until
from tests.house.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SCRIPT = """
import asyncio, sys
import squall

app = squall.App("e2e-script")


class Mine(Exception):
    pass


class Point:
    def __init__(self, x):
        self.x = x


@app.function()
def speak(x):
    print("to out", x)
    print("to err", x, file=sys.stderr)
    return Point(x + 1)


@app.function()
def fail(x):
    raise Mine(f"no {x}") from LookupError("nothing there")


@app.function()
def square(x: int):
    return x * x


@app.local_entrypoint()
def main(count: int = 3):
    print("sum", sum(square.map(range(count))))


@app.local_entrypoint()
def speaking():
    point = speak.remote(4)
    print(type(point) is Point, point.x)


@app.local_entrypoint()
async def asynchronous(x: int):
    one, two = await asyncio.gather(square.remote.aio(x), square.remote.aio(x + 1))
    print("async", one, two)


@app.local_entrypoint()
def catching():
    try:
        fail.remote(5)
    except Mine as error:
        print("caught", type(error) is Mine, error)


@app.local_entrypoint()
def failing():
    fail.remote(6)


@app.local_entrypoint()
def leaving():
    sys.exit(9)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "script.py").write_text(SCRIPT)
    return folder


def test_an_entry_point_with_arguments(here: Daemon, folder: Path) -> None:
    assert here.squall("run", "script.py::main", cwd=folder).stdout == "sum 5\n"
    assert here.squall("run", "script.py::main", "--count", "5", cwd=folder).stdout == "sum 30\n"


def test_a_function_is_run_directly(here: Daemon, folder: Path) -> None:
    assert "49" in here.squall("run", "script.py::square", "--x", "7", cwd=folder).stdout


def test_what_a_function_prints_arrives_here(here: Daemon, folder: Path) -> None:
    done = here.squall("run", "script.py::speaking", cwd=folder)
    assert "| to out 4\n" in done.stdout
    assert "| to err 4\n" in done.stderr
    assert done.stdout.endswith("True 5\n")


def test_an_async_entry_point(here: Daemon, folder: Path) -> None:
    assert here.squall("run", "script.py::asynchronous", "--x", "3", cwd=folder).stdout == "async 9 16\n"


def test_an_exception_class_of_the_script_itself(here: Daemon, folder: Path) -> None:
    assert here.squall("run", "script.py::catching", cwd=folder).stdout == "caught True no 5\n"


def test_an_exception_that_nobody_catches(here: Daemon, folder: Path) -> None:
    done = here.squall("run", "script.py::failing", cwd=folder, code=1)
    assert "LookupError: nothing there" in done.stderr
    assert 'raise Mine(f"no {x}") from LookupError("nothing there")' in done.stderr
    assert done.stderr.splitlines()[-1].endswith("Mine: no 6")


def test_the_exit_status_is_the_programs(here: Daemon, folder: Path) -> None:
    here.squall("run", "script.py::leaving", cwd=folder, code=9)


def test_a_package_with_relative_imports(here: Daemon, folder: Path) -> None:
    package = folder / "parcel"
    (package / "inner").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "numbers.py": "BASE = 40\n",
        "inner/__init__.py": "from ..numbers import BASE\n",
        "inner/deep.py": "from . import BASE\nfrom ..numbers import BASE as same\ntwice = BASE + same\n",
        "work.py": (
            "import squall\nfrom .inner.deep import twice\nfrom . import inner\n"
            "app = squall.App('e2e-parcel')\n"
            "@app.function()\ndef add(x: int):\n    from .numbers import BASE\n"
            "    return twice + inner.BASE + BASE + x\n"
            "@app.local_entrypoint()\ndef main():\n    print('got', add.remote(2))\n"
        ),
    }
    for name, text in files.items():
        (package / name).write_text(text)
    assert here.squall("run", "-m", "parcel.work", cwd=folder).stdout == "got 162\n"


def test_the_example(here: Daemon) -> None:
    done = here.squall("run", str(ROOT / "examples" / "hello.py"), "--count", "4")
    assert "one call: 49\n" in done.stdout
    assert done.stdout.endswith("a map: [0, 1, 4, 9]\n")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_what_runs(here: Daemon, folder: Path, number: signal.Signals, status: int) -> None:
    (folder / "endless.py").write_text(
        "import time, squall\napp = squall.App('e2e-endless')\n"
        "@app.function()\ndef endless():\n    print('it runs')\n    time.sleep(600)\n"
        "@app.local_entrypoint()\ndef main():\n    endless.remote()\n"
    )
    reset = ["env", f"--default-signal={number.name[3:]}"]  # which nohup has the tests ignore
    with subprocess.Popen(
        [*reset, *here.command("run", "endless.py")], cwd=folder, env=here.environ(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().endswith("| it runs\n")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status
    assert "Traceback" not in stderr
    until(lambda: not here.containers("endless"), "its container ends")


def test_a_deployed_app(here: Daemon, folder: Path) -> None:
    (folder / "service.py").write_text(
        "import squall\napp = squall.App('e2e-service')\n"
        "@app.function()\ndef triple(x):\n    return 3 * x\n"
        "@app.function()\ndef numbers(n):\n    yield from range(n)\n"
        "@app.function()\ndef through(x):\n"
        "    return squall.Function.from_name('e2e-service', 'triple').remote(x) + 1\n"
    )
    done = here.squall("deploy", "service.py", cwd=folder)
    assert done.stdout.startswith("Deployed e2e-service, version 1:")
    triple = squall.Function.from_name("e2e-service", "triple")
    assert triple.remote(5) == 15
    assert list(triple.map(range(4))) == [0, 3, 6, 9]
    assert list(squall.Function.from_name("e2e-service", "numbers").remote_gen(3)) == [0, 1, 2]
    assert squall.Function.from_name("e2e-service", "through").remote(2) == 7
    assert "e2e-service" in here.squall("app", "list").stdout
    app = squall.App.lookup("e2e-service")
    assert set(app.function_ids) == {"triple", "numbers", "through"}
    app.stop()
    with pytest.raises(exception.NotFoundError):
        squall.Function.from_name("e2e-service", "triple").remote(1)
    with pytest.raises(exception.NotFoundError):
        squall.App.lookup("e2e-service")
