"""For all tests: nobody leaves anything behind on the host."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import signal
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.house import leaks

if TYPE_CHECKING:
    from pathlib import Path

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As a shell starts what it puts in the background; programs of the tests would not hear Ctrl-C, either.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # By a shorter name than pytest-xdist's: paths of sockets have 107 characters.
        config.option.basetemp = f"{_folders(os.getppid())}{config.workerinput['workerid']}"
    else:
        config.pluginmanager.register(NothingLeftBehind())


def _folders(pid: int) -> str:
    """How the temporary folders of the workers begin."""
    return f"{tempfile.gettempdir()}/pytest-of-{pid}-"


class NothingLeftBehind:
    """An error in the session whose processes, mounts, cgroups, links or tables outlive it or its workers."""

    def __init__(self) -> None:
        self._token = os.environ[leaks.MARK] = secrets.token_hex(8)
        self._before = leaks.snapshot()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        own: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        ours = (f"{leaks.MARK}={self._token}", f"{own}/", _folders(os.getpid()))
        if found := leaks.wait_for_leaks(self._before, ours):
            _report(session, "The tests left behind on this host:\n  " + "\n  ".join(found))
        if session.exitstatus == pytest.ExitCode.OK:  # else somebody may want to have a look
            for folder in glob.glob(f"{_folders(os.getpid())}*"):
                shutil.rmtree(folder)


def _report(session: pytest.Session, text: str) -> None:
    """Among the errors of the summary, so that the closing line counts it."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    report = pytest.TestReport("tests", ("tests", None, "leaks"), {}, "failed", text, "teardown")
    reporter.stats.setdefault("error", []).append(report)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
