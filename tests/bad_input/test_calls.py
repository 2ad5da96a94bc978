"""Calls that cannot be: too much wanted, values that do not travel, functions that are not there."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from squall.build.steps.run import Run
from tests.bad_input.conftest import until
from tests.house.troubleshooting import met

if TYPE_CHECKING:
    from tests.bad_input.conftest import Desk

pytestmark = pytest.mark.e2e

NOBODY_HAS = "no node can ever hold a container with"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("cpu=900", "cpu=900, memory=128 MiB (nodes have "),
        ("memory=900_000_000", "cpu=0.125, memory=900000000 MiB (nodes have "),
        ("gpu='H100:4'", "gpu=H100:4 (nodes have "),
    ],
)
def test_more_than_the_node_has(user: Desk, parameters: str, told: str) -> None:
    line = user.refused("run", user.app(f"@app.function({parameters})\ndef f(): pass\n"))
    assert f"{NOBODY_HAS} " in line
    assert told in line
    assert "no GPU" in line
    assert line.endswith(": ask for less, or add a node")


ARGUMENT = """
    @app.function(serialized=True, include_source=False)
    def f(x): return 1

    @app.local_entrypoint()
    def main():
        import threading, own
        f.remote({value})
    """


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "threading.Lock()",
            (
                "SerializationError: argument 1 of f, of type _thread.lock, cannot be pickled "
                "(TypeError: cannot pickle '_thread.lock' object): send plain data (bad.py:10)"
            ),
        ),
        (
            "own.Thing()",
            (
                "DeserializationError: the arguments of f cannot be unpickled in the container: "
                "ModuleNotFoundError: No module named 'own' (the container's image needs the module) "
                "(bad.py:10)"
            ),
        ),
        (
            "bytes(2049 << 20)",
            (
                "RequestSizeError: the arguments of f take 2049 MiB and 2048 MiB are possible: "
                "send them in parts (bad.py:10)"
            ),
        ),
    ],
)
def test_an_argument_that_does_not_travel(user: Desk, value: str, told: str) -> None:
    user.file("own.py", "class Thing: pass\n")
    assert user.refused("run", user.app(ARGUMENT.format(value=value))) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("threading.Lock()", "a result of f, of type lock, cannot be pickled: TypeError: cannot pickle"),
        ("bytes(2049 << 20)", "a result of f has 2049 MiB, 2048 MiB are possible: send it in parts"),
    ],
)
def test_a_result_that_does_not_travel(user: Desk, value: str, told: str) -> None:
    assert told in user.refused(
        "run", user.app(f"import threading\n@app.function()\ndef f(): return {value}\n")
    )


@pytest.mark.parametrize(
    ("app", "function", "told"),
    [
        ("nothing", "f", "no app 'nothing' is deployed in environment main: deploy it first"),
        ("good", "decrement", "app good has no function 'decrement'; it has: increment"),
    ],
)
def test_a_function_that_is_not_there(user: Desk, app: str, function: str, told: str) -> None:
    main = f"@app.local_entrypoint()\ndef main(): squall.Function.from_name({app!r}, {function!r}).remote()\n"
    line = user.refused("run", user.app(main))
    assert told in line
    assert line.endswith("(bad.py:4)")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("app", "stop", "nothing"), "no app 'nothing' in environment main"),
        (("app", "logs", "nothing"), "no logs of an app or container 'nothing' are kept"),
    ],
)
def test_an_app_that_is_not_there(user: Desk, arguments: tuple[str, ...], told: str) -> None:
    assert told in user.refused(*arguments)


IMPORTS = """
    with squall.Image.debian_slim().imports():
        import no_such_thing

    @app.function()
    def f(): pass
    """


def test_a_module_that_the_image_does_not_have(user: Desk) -> None:
    for source in (IMPORTS, "@app.function()\ndef f():\n    import no_such_thing\n"):
        said = user.squall("run", user.app(source))
        assert said.code == 1
        last = said.err.splitlines()[-1]
        assert re.match("squall: (it|bad) imports no_such_thing, which the image im-[0-9a-f]+ does not", last)
        to_do = 'add .pip_install("no_such_thing") or .add_local_python_source("no_such_thing") to it'
        assert last.endswith(f" does not have: {to_do}")


@pytest.mark.parametrize(
    ("step", "told", "told_before"),
    [
        (
            "pip_install('squall-no-such-package')",
            "step 1 of 1 (pip_install squall-no-such-package) failed with exit code 1",
            "squall-no-such-package was not found",
        ),
        (
            "run_commands('echo a clear reason >&2; exit 7')",
            "step 1 of 1 (run_commands echo a clear reason >&2; exit 7) failed with exit code 7; "
            + Run.unisolated,
            "a clear reason",
        ),
    ],
)
def test_an_image_that_cannot_be_built(user: Desk, step: str, told: str, told_before: str) -> None:
    file = user.app(f"@app.function(image=squall.Image.debian_slim().{step})\ndef f(): pass\n")
    for quiet in ((), ("--quiet",)):
        said = user.squall("run", *quiet, file)
        assert (said.code, said.out) == (1, "")
        *before, last = said.err.splitlines()
        assert last == f"squall: {told}"
        met(last.removeprefix("squall: "), "ImageBuildError: step ... of ... (...) failed with exit code ...")
        assert sum(told_before in line and "Step 1" not in line for line in before) == 1, said.err


def test_ctrl_c_in_a_call(user: Desk) -> None:
    file = user.app(
        "@app.function()\ndef f():\n    import time\n    print('began', flush=True)\n    time.sleep(600)\n"
    )
    with user.popen("run", file) as process:
        assert process.stdout is not None
        assert "began" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    until(lambda: "bad" not in user.ok("container", "list"))
