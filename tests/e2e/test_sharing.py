"""Several inputs in one real container, containers for a single use, and tries that go on in another one."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall import exception
from tests.e2e.apps import sharing
from tests.e2e.kit import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def running(here: Daemon) -> Iterator[None]:
    with sharing.app.run():
        yield


@pytest.mark.parametrize("function", [sharing.meet, sharing.meet_async], ids=["threads", "tasks"])
def test_all_at_once_each_with_its_own_id(function: squall.Function[..., Any]) -> None:
    results = list(function.map(range(sharing.PLACES)))
    assert [x for x, _ in results] == list(range(sharing.PLACES))
    ids = [input_id for _, input_id in results]
    assert [i.rpartition(":")[2] for i in ids] == [str(x) for x in range(sharing.PLACES)]
    assert len(set(ids)) == sharing.PLACES


def test_generators_share_too() -> None:
    with ThreadPoolExecutor(2) as threads:
        both = threads.map(lambda n: list(sharing.numbers.remote_gen(n)), [300, 200])
        assert list(both) == [list(range(300)), list(range(200))]


def test_cancelling_one_of_several_leaves_the_others_and_the_container() -> None:
    waiting = [sharing.gated.spawn("wait") for _ in range(4)]
    _, container = sharing.gated.remote("ask")
    waiting[1].cancel()
    with pytest.raises(exception.InputCancellation):
        waiting[1].get(timeout=60)
    assert sharing.gated.remote("open") == ("open", container)
    assert [waiting[n].get(timeout=60) for n in (0, 2, 3)] == [("wait", container)] * 3


def test_a_timeout_of_one_of_several() -> None:
    call: Any = sharing.impatient.remote
    container = call(0)
    with ThreadPoolExecutor(2) as threads:
        late, good = (
            threads.submit(call, 600),
            threads.submit(call, 0.1),
        )
        assert good.result() == container
        with pytest.raises(exception.FunctionTimeoutError, match="timeout of 2 seconds"):
            late.result()
    assert call(0) == container


def test_killed_with_four_at_work_all_run_again_once() -> None:
    """Whoever runs twice answers once. First a fresh container: an earlier test may have opened its gate."""
    _, used = sharing.gated.remote("ask")
    _kill(used)
    until(lambda: sharing.gated.remote("ask")[1] != used, "a fresh container")
    waiting = [sharing.gated.spawn("wait") for _ in range(4)]
    _, first = sharing.gated.remote("ask")
    _kill(first)
    task, second = sharing.gated.remote("open")
    assert (task, second != first) == ("open", True)
    assert [call.get(timeout=60) for call in waiting] == [("wait", second)] * 4


def test_a_batch_gathers_and_one_of_it_fails_alone() -> None:
    results: list[Any] = list(sharing.together.map(range(4), return_exceptions=True))
    assert results[:3] == [(0, 4), (1, 4), (2, 4)]
    assert isinstance(results[3], ValueError)
    assert str(results[3]) == "no 3"


def test_a_result_of_nothing_like_a_list_is_told(here: Daemon, tmp_path: Path) -> None:
    program = _program(
        tmp_path,
        "@app.function()\n@squall.batched(max_batch_size=2, wait_ms=1)\ndef f(x):\n    return 7\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote(1)\n",
    )
    told = here.squall("run", program, code=1).stderr
    assert "the batched f returned a int for 1 inputs: return a list" in told


def test_a_container_for_each_input() -> None:
    assert len(set(sharing.once.map(range(3)))) == 3


def test_quick_inputs_share_one_container() -> None:
    assert list(sharing.nap.map(range(400))) == list(range(400))


# --------------------------------------------------------------------------------------------------- retries


def test_tries_go_from_container_to_container_and_are_counted(here: Daemon, tmp_path: Path) -> None:
    program = _program(
        tmp_path,
        "@app.function(single_use_containers=True,\n"
        "    retries=squall.Retries(max_retries=2, initial_delay=0.1, backoff_coefficient=2.0))\n"
        "def f():\n    print('try', os.environ['SQUALL_TASK_ID'])\n    raise KeyError('never')\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote()\n",
    )
    done = here.squall("run", program, code=1)
    tries = [line.rpartition(" ")[2] for line in done.stdout.splitlines() if "try ct-" in line]
    assert len(tries) == len(set(tries)) == 3
    assert "KeyError: 'never'" in done.stderr


def test_a_timeout_is_tried_again(here: Daemon, tmp_path: Path) -> None:
    program = _program(
        tmp_path,
        "@app.function(timeout=1, startup_timeout=600, retries=1)\n"
        "def f():\n    print('one try')\n    time.sleep(600)\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote()\n",
    )
    done = here.squall("run", program, code=1)
    assert done.stdout.count("one try") == 2
    assert "FunctionTimeoutError" in done.stderr


def test_a_generator_is_tried_again_until_its_first_value(here: Daemon, tmp_path: Path) -> None:
    program = _program(
        tmp_path,
        "@app.function(retries=squall.Retries(max_retries=2, initial_delay=0.0))\n"
        "def f(early):\n    print('one try')\n    if early:\n        raise KeyError(1)\n"
        "    yield 1\n    raise KeyError(2)\n"
        "@app.local_entrypoint()\ndef main():\n    for early in (True, False):\n"
        "        try:\n            list(f.remote_gen(early))\n"
        "        except KeyError as error:\n            print('it was', error)\n",
    )
    done = here.squall("run", program)
    assert done.stdout.count("one try") == 3 + 1
    assert done.stdout.index("it was 1") < done.stdout.index("it was 2")


def test_a_start_that_takes_too_long_names_what_to_change(here: Daemon, tmp_path: Path) -> None:
    program = _program(
        tmp_path,
        "if not squall.is_local():\n    time.sleep(600)\n"
        "@app.function(startup_timeout=1)\ndef f():\n    pass\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote()\n",
    )
    told = here.squall("run", program, code=1).stderr
    assert "the container was not ready within 1 seconds: give it more with startup_timeout=" in told


def _program(folder: Path, code: str) -> str:
    path = folder / "program.py"
    path.write_text(f"import os, time\nimport squall\napp = squall.App('e2e-tries')\n{code}")
    return str(path)


def _kill(container: str) -> None:
    """As the host's memory shortage would, or an operator: its runner, from outside."""
    mark = f"SQUALL_TASK_ID={container}".encode()
    for folder in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
