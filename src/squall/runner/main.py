"""The program in a container: connects, loads the user's function, runs one input after another."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from squall.runner import context, loading, protocol, results, streams
from squall.runner.calls import Executor
from squall.runner.cancellation import Cancellation, Interrupts
from squall.runner.channel import AgentGoneError, Channel
from squall.runner.held import Held
from squall.runner.results import Answer

if TYPE_CHECKING:
    from squall.runner.protocol import Frame
    from squall.runner.protocol.spool import Pickled
    from squall.runner.sharing import Sharing


class Runner:
    """Everything in the main thread: frames are read while no user code runs, or a generator waits."""

    def __init__(self, channel: Channel, began: float) -> None:
        """`began`: when this program did (CLOCK_MONOTONIC seconds)."""
        channel.on_connect = self._hello
        self._channel = channel
        self._interrupts = Interrupts()
        self._executor: Executor | None = None
        self._sharing: Sharing | None = None
        self._waiting: deque[Held] = deque()
        self._current: Held | None = None
        self._credit = 0
        self._stopping = False
        self._failed = False
        self._times = {"main": began}
        self._pid = os.getpid()

    def run(self) -> int:
        """Until the agent says stop; the exit code. Raises AgentGoneError."""
        self._channel.connect()
        self._times["connected"] = time.monotonic()
        while not self._failed:
            while self._waiting:
                self._run_input(self._waiting.popleft())
            if self._stopping:
                break
            self._handle(self._channel.receive())
            if self._sharing is not None:
                self._sharing.serve()
                break
        if self._executor is not None:
            if not self._failed:
                self._executor.exit()
            self._executor.close()
            streams.flush()
        return int(self._failed)

    # -- of generators (calls.Stream)

    def ready(self, number: int) -> bool:
        if number >= self._credit:
            for frame in self._channel.received():
                self._handle(frame)
        return number < self._credit

    def wait(self) -> None:
        self._channel.wait()

    async def arrival(self) -> None:
        from squall.runner.asynchronous import readable

        await readable(self._channel.fileno())

    def send(self, number: int, data: Pickled) -> None:
        assert self._current is not None
        self._channel.send(protocol.YIELD, self._current.number, {"n": number}, data)

    # -- frames

    def _hello(self) -> bytes:
        held = [*([self._current] if self._current else []), *self._waiting]
        listed = [h.listed for h in held]
        told = {"python": sys.version.split()[0], "held": listed, "chunks": True, "lines": True}
        return protocol.encode(protocol.HELLO, 0, told)

    def _handle(self, frame: Frame) -> None:
        if frame.kind == protocol.INPUT:
            self._waiting.append(self._held(frame))
        elif frame.kind == protocol.CREDIT:
            if self._current is not None and frame.input == self._current.number:
                self._credit = max(self._credit, frame.header["upto"])
        elif frame.kind == protocol.CONFIG:
            self._configure(frame)
        elif frame.kind == protocol.STOP:
            self._stopping = True

    def _held(self, frame: Frame) -> Held:
        if "line" in frame.header:
            return Held(frame, b"", line=(self._channel.descriptor(), self._channel.descriptor()))
        received = time.monotonic() if "t" in frame.header else 0.0
        payload = self._channel.payload(frame)
        page = self._channel.descriptor() if "sizes" in frame.header else -1
        return Held(frame, payload, received, page=page)

    def _configure(self, frame: Frame) -> None:
        alarm = self._channel.descriptor()
        payload = self._channel.payload(frame)
        shared = frame.header.get("max_inputs", 1) > 1 or bool(frame.header.get("batching"))
        if not shared:
            self._interrupts.listen(alarm)
        try:
            if self._executor is None:
                self._executor = self._load(frame, payload)
                self._times["imported"] = time.monotonic()
        except loading.LoadError as error:
            self._fail(error)
            return
        if shared:
            from squall.runner.sharing import Sharing

            self._sharing = Sharing(self._channel, self._executor, frame.header, self._interrupts.exception)
            self._sharing.listen(alarm)
        self._channel.send(protocol.READY, 0, {"t": self._times})

    def _load(self, frame: Frame, payload: bytes | memoryview) -> Executor:
        config = frame.header
        context.function_id = config.get("function_id", "")
        results.hide(config.get("secrets", []))
        results.sources[:] = config["paths"]
        target = loading.target(config, payload)
        self._interrupts.exception = loading.cancellation(config["cancellation"], Cancellation)
        executor = Executor(target, config["name"], config["limit"], self._interrupts)
        try:
            executor.enter()
        except BaseException as error:
            raise loading.failure(error, f"@enter of {config['name']}") from error
        return executor

    def _fail(self, error: loading.LoadError) -> None:
        self._failed = True
        cause = error.cause
        header = results.told(cause) if cause is not None else {"tb": ""}
        payload = results.of_exception(cause).payload if cause is not None else b""
        if cause is None or isinstance(cause, ModuleNotFoundError):
            print(error, file=sys.stderr)
        else:
            print(header["tb"], end="", file=sys.stderr)
        streams.flush()
        self._channel.send(protocol.FAILED, 0, {**header, "type": error.kind, "message": str(error)}, payload)

    # -- inputs

    def _run_input(self, held: Held) -> None:
        self._current = held
        header = held.frame.header
        self._credit = header.get("c", 0)
        times = {"received": held.received} if "t" in header else None
        if held.line is not None:
            answer = self._serve(held, held.line)
        elif held.page >= 0:
            answer = self._run_chunk(held)
        else:
            answer = self._answer(held, times)
        if os.getpid() != self._pid:  # user code forked, and the child came back out of it
            os._exit(0)
        streams.flush()
        if times is not None:
            answer.header["t"] = {**times, "sent": time.monotonic()}
        self._channel.send(protocol.OUTPUT, held.number, answer.header, answer.payload)
        self._current = None

    def _answer(self, held: Held, times: dict[str, float] | None) -> Answer:
        return self._call(held, held.frame.header.get("in", ""), held.payload, times)

    def _call(
        self,
        held: Held,
        input_id: str,
        payload: bytes | memoryview,
        times: dict[str, float] | None = None,
    ) -> Answer:
        assert self._executor is not None
        self._interrupts.begin(held.number)
        if self._interrupts.cancelled(held.number):
            self._interrupts.end()
            return Answer({"s": "cancelled"})
        header = held.frame.header
        context.input_id, context.call_id = input_id, header.get("call", "")
        try:
            stream = self if "c" in header else None
            return self._executor.run(payload, stream, times, held.method)
        finally:
            self._interrupts.end()
            context.input_id = context.call_id = ""

    def _run_chunk(self, held: Held) -> Answer:
        """Several inputs: each as in `_call`."""
        from squall.runner import chunks

        assert self._executor is not None
        run, interrupts, number, method = self._executor.run, self._interrupts, held.number, held.method
        call, _, first = held.ids[0].rpartition(":")
        index = int(first)

        def one(offset: int, payload: memoryview) -> Answer:
            interrupts.begin(number)
            if interrupts.cancelled(number):
                interrupts.end()
                return Answer({"s": "cancelled"})
            context.input_id = f"{call}:{index + offset}"
            try:
                return run(payload, None, None, method)
            finally:
                interrupts.end()

        context.call_id = held.ids[1]
        try:
            return chunks.run(held.page, held.sizes, held.payload, one)
        finally:
            context.input_id = context.call_id = ""

    def _serve(self, held: Held, line: tuple[int, int]) -> Answer:
        """A direct call: answer on its line as long as nobody else wants anything."""
        from squall.runner.direct import Line

        for frame in self._channel.received():
            self._handle(frame)
        if self._waiting or self._stopping:
            Line(*line).close()
            return Answer({"s": "done"})
        call = held.frame.header.get("call", "")

        def run(number: int, payload: bytes) -> Answer:
            context.line_id = held.frame.header.get("in", "")
            try:
                return self._call(held, f"{call}:{number}", payload)
            finally:
                context.line_id = ""

        return Line(*line).serve(self._channel.fileno(), run)


def main() -> int:
    """Run until the agent says stop; the exit code of the process."""
    began = time.monotonic()
    streams.prepare()
    channel = Channel(os.environ.get("SQUALL_SOCKET", protocol.SOCKET))
    try:
        return Runner(channel, began).run()
    except AgentGoneError as error:
        print(error, file=sys.stderr)
        return 1
