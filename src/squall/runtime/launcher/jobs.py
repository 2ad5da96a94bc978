"""Programs of our own that run as root for an agent: they make base systems, beside the launcher's thread.

The agent says which, by name, and where the result goes; the command line is composed here. A program works
in a directory that nobody but root can enter, and what it made moves to the agent's place at once and whole:
whatever the agent does to that place meanwhile, nothing is written through it. Output goes by a pipe from the
program to the agent; one who does not read delays only his own program.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from squall.runtime.launcher.validate import SpecError, checked_path, checked_suite
from squall.runtime.linux import mounts, processes

if TYPE_CHECKING:
    from pathlib import Path

    from squall.runtime.launcher.agents import Agent
    from squall.runtime.launcher.messages import Message
    from squall.runtime.launcher.sources import Sources
    from squall.runtime.launcher.sweeper import Sweeper

#: How many run at once, for all agents.
AT_ONCE = 4
#: A program that takes longer hangs, or its agent does not read.
TIMEOUT_S = 3600.0
#: What a killed program is said to have ended with, as shells do.
KILLED = 128 + signal.SIGKILL
#: Where the program makes things, in its own directory.
_RESULT = "fs"


class JobError(Exception):
    """A program that cannot be started; the message is one line for a user."""


@dataclass
class Job:
    """A running program, by a number of its agent's. In `place`, a directory, its result will be `name`."""

    agent: Agent
    number: int
    pidfd: int
    folder: str
    place: int
    name: str
    deadline: float


class Jobs:
    """`maker` is the module that makes base systems; `work` a directory of the launcher's alone."""

    def __init__(self, maker: str, work: Path, sources: Sources, sweeper: Sweeper) -> None:
        self._maker = maker
        self._work = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._path = work
        self._sources = sources
        self._sweeper = sweeper
        self._count = 0
        self._running: list[Job] = []

    def __bool__(self) -> bool:
        return bool(self._running)

    def debian_base(self, agent: Agent, request: Message) -> tuple[Job, int]:
        """See `_start`. Raises `JobError`, `SpecError`, `SourceError`."""
        return self._start(agent, request, ["debian"], [checked_suite(request.get("suite"))])

    def host_base(self, agent: Agent, request: Message) -> tuple[Job, int]:
        own = request.get("own_python")
        if not isinstance(own, bool):
            raise SpecError("own_python is no boolean")
        return self._start(agent, request, ["host"], ["--own-python"] if own else [])

    def cancel(self, agent: Agent, number: object) -> None:
        """End a program of this agent; unknown ones are fine."""
        for job in self._running:
            if job.agent is agent and job.number == number:
                processes.send_signal(job.pidfd, signal.SIGKILL)

    def end_of(self, agent: Agent) -> None:
        """The agent is gone: so is the one who wanted its programs."""
        for job in self._running:
            if job.agent is agent:
                processes.send_signal(job.pidfd, signal.SIGKILL)

    def end_all(self) -> None:
        for job in self._running:
            processes.send_signal(job.pidfd, signal.SIGKILL)

    def end_late(self, now: float) -> None:
        for job in self._running:
            if now > job.deadline:
                processes.send_signal(job.pidfd, signal.SIGKILL)

    def ended(self, job: Job) -> None:
        """With the program every process of it has ended: hand over what it made, and tell."""
        self._running.remove(job)
        code = _code(os.waitid(os.P_PIDFD, job.pidfd, os.WEXITED))
        error = ""
        if code == 0:
            try:
                os.rename(f"{job.folder}/{_RESULT}", job.name, src_dir_fd=self._work, dst_dir_fd=job.place)
            except OSError as problem:
                code, error = 1, f"the base system cannot be put in its place: {problem.strerror}"
        self._sweeper.remove(self._work, job.folder)
        os.close(job.pidfd)
        os.close(job.place)
        job.agent.send({"event": "job", "job": job.number, "code": code, "error": error})

    def close(self) -> None:
        os.close(self._work)

    def _start(self, agent: Agent, request: Message, kind: list[str], rest: list[str]) -> tuple[Job, int]:
        """The program, to be watched, and the end of its output to read from."""
        number = request.get("id")
        if not isinstance(number, int):
            raise SpecError("id is no number")
        if not self._maker:
            raise JobError("this launcher was started without a program that makes base systems")
        if len(self._running) >= AT_ONCE:
            raise JobError("too many base systems are made at once; try again later")
        parent, name = os.path.split(checked_path(request.get("path")))
        place = self._sources.open(parent, writable=True)
        try:
            job = Job(agent, number, -1, "", place, name, time.monotonic() + TIMEOUT_S)
            return self._run(job, kind, rest)
        except OSError:
            os.close(place)
            raise

    def _run(self, job: Job, kind: list[str], rest: list[str]) -> tuple[Job, int]:
        self._count += 1
        job.folder = f"{os.getpid()}-{self._count}"
        os.mkdir(job.folder, 0o700, dir_fd=self._work)
        target = str(self._path / job.folder / _RESULT)
        argv = [sys.executable, "-m", self._maker, *kind, target, *rest]
        reader, writer = os.pipe()
        try:
            pid, job.pidfd = processes.clone_watched(processes.NEWPID | processes.NEWNS)
            if pid == 0:
                _become(argv, writer)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._running.append(job)
        return job, reader


def _become(argv: list[str], output: int) -> NoReturn:
    """In the fresh process: the pid 1 of the program's processes, which end with it."""
    try:
        processes.die_with_parent()
        os.setsid()
        processes.set_title("squall-job")
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDWR)
        for fd, source in enumerate((null, output, output)):
            os.dup2(source, fd)
        processes.close_all_but({0, 1, 2})
        mounts.set_propagation(mounts.MS_PRIVATE)
        os._exit(_reap_until(_program(argv)))
    except BaseException as error:
        with suppress(OSError):
            os.write(2, f"the program cannot be started: {error}\n".encode())
        os._exit(126)


def _program(argv: list[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    pid = os.fork()
    if pid == 0:
        os.umask(0o022)
        os.execve(argv[0], argv, environment)
    return pid


def _reap_until(program: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _code(ended: os.waitid_result | None) -> int:
    return ended.si_status if ended is not None and ended.si_code == os.CLD_EXITED else KILLED
