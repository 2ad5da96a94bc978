"""How a function is found, and what is said when it is not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import cloudpickle
import pytest

from squall.runner import protocol
from tests.runner.conftest import RUNNER

if TYPE_CHECKING:
    from tests.runner.conftest import Agent


def failure(agent: Agent, code: str, qualname: str = "f", **more: object) -> tuple[protocol.Frame, bytes]:
    """The FAILED frame of this code, and what the process wrote to stderr."""
    (agent.source / "work.py").write_text(code)
    agent.start()
    frame = agent.configure(qualname, **more)  # type: ignore[arg-type]
    assert frame.kind == protocol.FAILED
    code_of_exit, _, stderr = agent.end()
    assert code_of_exit == 1
    return frame, stderr


def test_a_missing_package_says_which_and_what_to_do(agent: Agent) -> None:
    frame, stderr = failure(agent, "import no_such_package.sub\ndef f(): pass\n")
    message = frame.header["message"]
    assert frame.header["type"] == "ModuleNotFoundError"
    assert all(
        part in message for part in ("work", "no_such_package", "im-test", '.pip_install("no_such_package")')
    )
    assert stderr.decode().splitlines() == [message]


def test_a_missing_part_of_a_package_that_is_there(agent: Agent) -> None:
    (agent.source / "own").mkdir()
    (agent.source / "own" / "__init__.py").write_text("")
    frame, _ = failure(agent, "import own.gone\ndef f(): pass\n")
    init = agent.source / "own" / "__init__.py"
    assert frame.header["message"] == (
        f"work imports own.gone, which {init} does not bring along: was its file sent, or is it of another "
        "version of own?"
    )


def test_a_module_that_raises(agent: Agent) -> None:
    frame, stderr = failure(agent, "def g():\n    raise ValueError('at import')\ng()\n")
    assert frame.header["message"] == "importing work failed: ValueError: at import"
    assert "in g" in frame.header["tb"]
    assert "squall/runner" not in frame.header["tb"]
    assert "importlib" not in frame.header["tb"]
    assert b"at import" in stderr


def test_a_syntax_error(agent: Agent) -> None:
    frame, _ = failure(agent, "def f(:\n")
    assert frame.header["type"] == "SyntaxError"


def test_a_module_that_exits(agent: Agent) -> None:
    frame, _ = failure(agent, "import sys\nsys.exit(0)\n")
    assert frame.header["type"] == "SystemExit"


def test_a_name_that_is_not_there(agent: Agent) -> None:
    frame, _ = failure(agent, "def g(): pass\n")
    assert "the module work has no f" in frame.header["message"]


def test_the_module_itself_is_missing(agent: Agent) -> None:
    frame, _ = failure(agent, "", module="elsewhere")
    assert "no module named elsewhere" in frame.header["message"]
    assert "pip_install" not in frame.header["message"]


def test_serialized(agent: Agent) -> None:
    agent.start()
    payload = cloudpickle.dumps(lambda x: x * 3)
    assert agent.configure("<lambda>", serialized=True, payload=payload).kind == protocol.READY
    assert agent.call(2) == 6


def test_serialized_that_does_not_load(agent: Agent) -> None:
    frame, _ = failure(agent, "", serialized=True, payload=b"nonsense")
    assert frame.header["type"] == "DeserializationError"


def test_source_comes_first_and_squall_last(agent: Agent) -> None:
    agent.load("import sys\ndef f():\n    return sys.path\n", "f")
    paths = agent.call()
    assert paths[0] == str(agent.source)
    assert paths[-1] == str(RUNNER.parents[1])
    assert str(RUNNER) not in paths


@pytest.mark.parametrize("name", ["main", "channel", "context", "calls"])
def test_a_users_module_may_have_the_name_of_ours(agent: Agent, name: str) -> None:
    (agent.source / f"{name}.py").write_text("def f():\n    return 'mine'\n")
    agent.start()
    assert agent.configure("f", module=name).kind == protocol.READY
    assert agent.call() == "mine"


def test_the_runner_starts_without_asyncio_and_the_like() -> None:
    path = str(RUNNER.parents[1])
    code = f"import sys; sys.path.append({path!r}); import squall.runner.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {
        "asyncio",
        "subprocess",
        "traceback",
        "inspect",
        "mmap",
        "typing_extensions",
        "ctypes",
        "cloudpickle",
    }
    assert not heavy & set(done.stdout.split())
