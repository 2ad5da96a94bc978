"""The calls that go on all the time: each kind in a thread of its own, one after the other."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import squall
from squall import exception
from tests.soak import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.ledger import Ledger

#: Seconds that inputs take, at most.
LONGEST_S = 0.3


class Mix:
    """Threads that call until `stop`. What they ask for depends on the seed alone, not when."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._stopped = threading.Event()
        self._numbers = itertools.count()
        kinds = (_remote, _aio, _map, _unordered, _spawn, _forgotten, _nested, _family, _generator)
        self._threads = [
            threading.Thread(target=self._run, args=(kind, random.Random(f"{seed} {kind.__name__}")),
                             name=kind.__name__[1:], daemon=True)
            for kind in kinds
        ]  # fmt: skip

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float) -> None:
        """Let what runs come to its end."""
        self._stopped.set()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self._ledger.fault(f"{thread.name}: it waits for ever, {_where(thread)}")

    def _run(self, kind: Callable[[Ledger, random.Random, int], None], rng: random.Random) -> None:
        name = threading.current_thread().name
        for number in itertools.count():
            if self._stopped.is_set():
                break
            try:
                kind(self._ledger, rng, 1000 * number)
            except BaseException as error:
                self._ledger.fault(f"{name}: {type(error).__name__}: {error}")


def _where(thread: threading.Thread) -> str:
    """The innermost of our own functions that it is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    named = [f"{f.name}:{f.lineno}" for f in traceback.extract_stack(frame) if "squall" in f.filename]
    return " > ".join(named[-8:])


def _seconds(rng: random.Random, count: int) -> list[float]:
    return [rng.uniform(0.0, LONGEST_S) for _ in range(count)]


def _remote(ledger: Ledger, rng: random.Random, first: int) -> None:
    ledger.ask("remote", 1)
    try:
        answer, _ = app.work.remote(first, rng.uniform(0.0, LONGEST_S))
    except exception.InternalFailure as error:
        ledger.excuse("remote", 1, error)
    else:
        ledger.check("remote", [first], [answer])


def _aio(ledger: Ledger, rng: random.Random, first: int) -> None:
    """Through the asyncio client, on a loop of its own each time."""
    seconds = _seconds(rng, 5)

    async def all_of_them() -> list[app.Answer | BaseException]:
        calls = (app.work.remote.aio(first + n, s) for n, s in enumerate(seconds))
        return await asyncio.gather(*calls, return_exceptions=True)

    ledger.ask("aio", len(seconds))
    _sort_out(ledger, "aio", first, asyncio.run(all_of_them()))


def _map(ledger: Ledger, rng: random.Random, first: int) -> None:
    seconds = _seconds(rng, 12)
    ledger.ask("map", len(seconds))
    results = app.work.map(range(first, first + len(seconds)), seconds, return_exceptions=True)
    _sort_out(ledger, "map", first, list(results))


def _unordered(ledger: Ledger, rng: random.Random, first: int) -> None:
    seconds = _seconds(rng, 12)
    ledger.ask("unordered map", len(seconds))
    inputs = range(first, first + len(seconds))
    results = app.work.map(inputs, seconds, order_outputs=False, return_exceptions=True)
    answers: list[app.Answer | BaseException] = list(results)
    errors = [a for a in answers if isinstance(a, BaseException)]
    got = sorted(a[0] for a in answers if not isinstance(a, BaseException))
    for error in errors:
        ledger.excuse("unordered map", 1, error)
    # Which of them an error was for, it does not say.
    missing = sorted(set(inputs) - set(got))[: len(errors)]
    ledger.check("unordered map", [x for x in inputs if x not in missing], got)


def _spawn(ledger: Ledger, rng: random.Random, first: int) -> None:
    """The same result each time that it is asked for."""
    seconds = _seconds(rng, 6)
    ledger.ask("spawn", len(seconds))
    calls = [_spawned(ledger, first + n, s) for n, s in enumerate(seconds)]
    answers: list[app.Answer | BaseException] = []
    for call in calls:
        try:
            answers.append(call.get())
        except exception.InternalFailure as error:  # noqa: PERF203 - each on its own
            answers.append(error)
    _sort_out(ledger, "spawn", first, answers)
    for call, answer in zip(calls, answers, strict=True):
        if (
            not isinstance(answer, BaseException)
            and squall.FunctionCall.from_id(call.object_id).get() != answer
        ):
            ledger.fault(f"spawn: {call.object_id} has two results")


def _forgotten(ledger: Ledger, rng: random.Random, first: int) -> None:
    """Nobody asks for the results: the disk alone knows of them, and the soak looks there in the end."""
    for n, seconds in enumerate(_seconds(rng, 2)):
        ledger.ask("forgotten spawn", 1)
        _spawned(ledger, first + n, seconds)
        ledger.check("forgotten spawn", [first + n], [first + n])
        time.sleep(0.5)


def _spawned(ledger: Ledger, x: int, seconds: float) -> squall.FunctionCall[app.Answer]:
    call = app.work.spawn(x, seconds)
    ledger.accept(call.object_id, x)
    return call


def _nested(ledger: Ledger, rng: random.Random, first: int) -> None:
    seconds = _seconds(rng, 6)
    ledger.ask("nested", len(seconds))
    results = app.parent.map(range(first, first + len(seconds)), seconds, return_exceptions=True)
    _sort_out(ledger, "nested", first, list(results))


def _family(ledger: Ledger, rng: random.Random, first: int) -> None:
    count = rng.randint(1, 4)
    ledger.ask("nested map and spawn", count + 1)
    expected = list(range(first, first + count + 1))
    try:
        got, call = app.family.remote(first, count)
    except exception.InternalFailure as error:
        ledger.excuse("nested map and spawn", count + 1, error)
    else:
        ledger.accept(call, first + count)
        ledger.check("nested map and spawn", expected, got)


def _generator(ledger: Ledger, rng: random.Random, first: int) -> None:
    """All values, or an error after those that came."""
    count = rng.randint(10, 60)
    ledger.ask("generator", count)
    got: list[int] = []
    cut = False
    try:
        got.extend(app.numbers.remote_gen(first, count))
    except exception.InternalFailure:
        cut = True
    ledger.check("generator", list(range(first, first + count)), got, cut=cut)


def _sort_out(ledger: Ledger, kind: str, first: int, answers: list[app.Answer | BaseException]) -> None:
    """Answers and errors in the order of what was asked."""
    expected = []
    got = []
    for number, answer in enumerate(answers, first):
        if isinstance(answer, BaseException):
            ledger.excuse(kind, 1, answer)
        else:
            expected.append(number)
            got.append(answer[0])
    if expected:
        ledger.check(kind, expected, got)
