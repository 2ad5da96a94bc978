"""Threads for user code that is not asynchronous: one input, or one batch, at a time each."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from squall.runner.cancellation import Cancellation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.runner.calls import Executor
    from squall.runner.jobs import Job


class ThreadInterrupts:
    """As `cancellation.Interrupts`, for a thread that is not the main one: the interpreter raises there, once
    the thread runs Python code. What waits inside a system call does not notice.
    """

    def __init__(self, exception: type[BaseException] = Cancellation) -> None:
        self.exception = exception
        self.instead: Callable[[], object] | None = None
        self.hit = False
        # Reentrant, for it knows its owner: an exception may come between taking it and knowing that.
        self._lock = threading.RLock()
        self._job: Job | None = None
        self._thread = 0
        self._open = False
        self._pending = False

    def begin(self, job: Job) -> None:
        """The thread that calls works on this job from now on."""
        with self._lock:
            self._job, self._thread = job, threading.get_ident()
            self.hit = False

    def end(self) -> None:
        """Nothing is raised in this thread any more."""
        self._leave()
        with self._lock:
            self._job = self.instead = None

    def cancel(self, job: Job) -> None:
        """From another thread: interrupt the job, now or as soon as user code runs."""
        with self._lock:
            job.cancelled = True
            if self._job is not job or not self._open or self.hit:
                return
            self.hit = True
            if self.instead is not None:
                self.instead()
            else:
                self._pending = True
                _raise_in(self._thread, self.exception)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around user code. Raises `exception` out of it when the job is cancelled."""
        try:
            self._enter()
            yield
        finally:
            self._leave()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within `interruptible`: a cancellation meanwhile is raised at the end."""
        self._leave()
        yield
        self._enter()

    def _enter(self) -> None:
        with self._lock:
            self._open = True
            missed = self._job is not None and self._job.cancelled and not self.hit
            self.hit = self.hit or missed
        if missed:
            raise self.exception("the input was cancelled")

    def _leave(self) -> None:
        """The exception may come at any point of this, once at most; afterwards it does not come any more."""
        while True:
            try:
                self._lock.acquire()
                self._open = False
                if self._pending:
                    _raise_in(self._thread, None)
                    self._pending = False
                self._lock.release()
            except self.exception:  # noqa: PERF203 - it has come
                self._pending = False
                with suppress(RuntimeError):
                    self._lock.release()
            else:
                return


class Worker(threading.Thread):
    """`make` gives an executor of the thread's own; `done` is called in the thread when a job is over."""

    def __init__(
        self,
        interrupts: ThreadInterrupts,
        make: Callable[[ThreadInterrupts], Executor],
        done: Callable[[Worker, Job], object],
    ) -> None:
        super().__init__(name="squall-input", daemon=True)
        self.interrupts = interrupts
        self._make = make
        self._done = done
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.start()

    def give(self, job: Job | None) -> None:
        """The next one; None: there are no more."""
        self._inbox.put(job)

    def run(self) -> None:
        executor = self._make(self.interrupts)
        pid = os.getpid()
        while (job := self._inbox.get()) is not None:
            self.interrupts.begin(job)
            copy_context().run(self._work, job, executor)
            if os.getpid() != pid:  # user code forked, and the child came back out of it
                os._exit(0)
            self._done(self, job)
        executor.close()

    def _work(self, job: Job, executor: Executor) -> None:
        try:
            job.run(executor, self.interrupts)
        except self.interrupts.exception as error:  # it came between user code and its end
            job.fail(executor.answer_of(error))
        finally:
            self.interrupts.end()


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Raise in another thread; None takes back what was not raised yet. Without ctypes nobody is interrupted,
    and the agent ends the container.
    """
    with suppress(ImportError):
        import ctypes

        raised: Any = None if exception is None else ctypes.py_object(exception)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
