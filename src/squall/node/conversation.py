"""What is said between the agent and one runner: its configuration, inputs out, outputs and yields in."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from squall.node import chunks, direct, ends, frames, outcomes, payloads
from squall.node.channel import Channel, Payloads
from squall.node.deadlines import Deadlines
from squall.node.deliveries import Deliveries
from squall.node.inputs import Attempt, Inputs, OutOfTurnError
from squall.node.stages import Stages
from squall.node.transfers import TransferError
from squall.runner import protocol
from squall.runner.protocol import BadFrame, Frame
from squall.wire.messages import InputsStarted, NodeInput, NodeOutput, NodeYields
from squall.wire.values import INLINE_LIMIT, PARCEL_LIMIT, PAYLOAD_LIMIT, Outcome, OutputItem, Payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from squall.node.journal import Journal
    from squall.node.owner import Owner
    from squall.node.services import Services

#: Inputs that a runner may claim to hold when it comes back, beyond those that it works on.
_HELD = 1024


class Conversation(Payloads):
    """Survives its connection: a runner, or this agent, may come back."""

    def __init__(
        self,
        services: Services,
        container: str,
        workspace: str,
        timeout: float,
        inputs: Inputs,
        owner: Owner,
        *,
        lendable: int,
    ) -> None:
        """`lendable`: bytes of results that may wait in the container's memory."""
        self.inputs = inputs
        self.stages = Stages()
        self.ready = False
        self._services = services
        self._container = container
        self._timeout = timeout
        self._owner = owner
        self._lendable = lendable
        self._loop = asyncio.get_running_loop()
        self._payloads = payloads.Payloads(services.transfers, workspace, services.parcels)
        self._deliveries = Deliveries(self._payloads, self._set_busy)
        self._config: tuple[dict[str, Any], bytes] | None = None
        self._adopted = False
        self._journal: Journal | None = None
        self._greeted = False
        self._channel: Channel | None = None
        self._alarm: socket.socket | None = None
        self._draining = False
        self._takes_chunks = False
        self._fetched: dict[Attempt, int] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._deadlines = Deadlines(
            self.inputs,
            services.settings.cancel_grace,
            self._tell,
            self._ring,
            lambda: owner.must_end(ends.STUCK),
        )
        self._paused: set[str] = set()
        self._pulled = False

    # -- what the container says

    def keep(self, journal: Journal) -> None:
        """Where to note which inputs the runner has."""
        self._journal = journal

    def adopt(self, journal: Journal) -> None:
        """The runner may be at work already, on what the agent's earlier life gave it."""
        self._journal = journal
        self._adopted = True
        for noted in journal.noted():
            call = noted.input.rpartition(":")[0]
            # Whether it is a generator, the server knows: it takes no values of what is none.
            item = NodeInput(
                noted.input, noted.attempt, Payload(), call, generator=True, timeout=self._timeout
            )
            self.inputs.adopt(noted.number, item, time.monotonic(), noted.inputs)
        self._deadlines.begun()

    def configure(self, header: dict[str, Any], payload: bytes) -> None:
        """What the runner is to be told, now if it waits for it."""
        self._config = (header, payload)
        if self._greeted:
            self._send_config()

    def attach(self, connection: socket.socket) -> None:
        """Somebody who does not speak like a nested client has come in."""
        if self._channel is not None and self._channel.is_open:
            connection.close()
            return
        self._channel = Channel(self._loop, connection, self, PAYLOAD_LIMIT)
        self._greeted = False
        if self._paused:
            self._channel.pause()

    def assign(self, items: Iterable[NodeInput]) -> None:
        for item in items:
            outcomes.hop(item, "agent.received", time.monotonic())
            self.inputs.add([item])
        self._pump()

    def credit(self, input_id: str, upto: int) -> None:
        for attempt in self.inputs.all():
            if attempt.input.input == input_id and upto > attempt.credit:
                attempt.credit = upto
                if self.inputs.get(attempt.number) is not None:
                    self._send(protocol.encode(protocol.CREDIT, attempt.number, {"upto": upto}))

    def revoke(self, key: tuple[str, int], *, recall: bool = False) -> None:
        """Cancel an attempt (`recall`: unless it has begun). Unknown ones have their outputs on the way."""
        attempt = self.inputs.find(key)
        if attempt is None or attempt.dropped:
            return
        if self.inputs.has_begun(attempt):
            if not recall:
                self._deadlines.cancel(attempt, "cancelled")
            return
        if self.inputs.drop(attempt):
            self._ring(attempt)
        self._discard_fetched(attempt)
        self._finished(attempt, ends.cancelled(), 0.0)

    def drain(self) -> list[tuple[str, int]]:
        """Take no more; what has not begun is given back. `is_idle` follows when the rest is done."""
        self._draining = True
        returned = []
        for attempt in self.inputs.unbegun():
            if self.inputs.drop(attempt):
                self._ring(attempt)
            self._discard_fetched(attempt)
            returned.append(attempt.key)
        for line in (a for a in self.inputs.begun if a.line):
            self._send(protocol.encode(protocol.HANG_UP, line.number))
        if not self.inputs.sent:
            self._loop.call_soon(self._owner.is_idle)
        return returned

    def say_stop(self) -> None:
        self._send(protocol.encode(protocol.STOP))

    def pause(self, why: str) -> None:
        """Read nothing from the runner while there is a reason."""
        self._paused.add(why)
        if self._channel is not None:
            self._channel.pause()

    def resume(self, why: str) -> None:
        self._paused.discard(why)
        if not self._paused and self._channel is not None:
            self._channel.resume()

    def take_rest(self) -> None:
        """The runner is dead: take in what it said before."""
        if self._channel is not None:
            self._channel.drain()

    async def settle(self) -> None:
        """Until all that it said is on its way to the server."""
        await self._deliveries.settle()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self._deadlines.close()
        if self._fetching is not None:
            self._fetching.cancel()
        for attempt in list(self._fetched):
            self._discard_fetched(attempt)
        self._deliveries.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def resend_yields(self) -> None:
        """After an announcement: the server skips those that it has."""
        for attempt in list(self.inputs.sent):
            again = attempt.kept_yields(self._container)
            if again is not None:
                self._services.link.send(again)

    # -- what the runner says (channel.Payloads)

    def frame(self, frame: Frame, fd: int | None) -> None:
        handler = _HANDLERS.get(frame.kind)
        try:
            if handler is None or self._greeted != (frame.kind != protocol.HELLO):
                raise BadFrame(f"a frame of kind {frame.kind}")
            if fd is not None and frame.kind not in _WITH_PAYLOAD:
                raise BadFrame("a payload where none belongs")
            if self.ready and frame.kind in {protocol.READY, protocol.FAILED}:
                raise BadFrame("ready for a second time")
            handler(self, frame, fd)
        except BadFrame:  # raised before anybody took the descriptor
            if fd is not None:
                os.close(fd)
            raise

    def handled(self) -> float:
        """All that the runner said for now is taken in: what it gets next leaves together."""
        self._pulled = False
        self._pump()
        if self._draining and not self.inputs.sent:
            self._owner.is_idle()
        return self.inputs.rest

    def broken(self, reason: str) -> None:
        self._owner.must_end(ends.End("protocol", f"the container sent its agent what it may not: {reason}"))

    def gone(self) -> None:
        """Its end is told by the driver; or it comes back."""

    def _hello(self, frame: Frame, _fd: int | None) -> None:
        held = outcomes.held(frame.header, self.inputs.slots + _HELD)
        if self._adopted:
            self._compare(held)
        elif self.ready or held:
            raise BadFrame("a second HELLO")
        self._adopted, self._greeted = False, True
        self._takes_chunks = frame.header.get("chunks") is True
        self._payloads.lines = frame.header.get("lines") is True
        if self._config is not None:
            self._send_config()

    def _compare(self, held: list[tuple[int, str, int]]) -> None:
        """What the dead agent took along (unread inputs, unread answers): the server must hear of it."""
        known = {(a.number, *a.key) for a in self.inputs.sent}
        if not known.issuperset(held):
            raise BadFrame("a HELLO that holds what nobody gave it")
        lost = known.difference(held)
        for number, _, _ in lost:
            self.inputs.forget(number, time.monotonic())
            self._note_end(number)
        if lost:
            self._services.link.renew()

    def _send_config(self) -> None:
        assert self._config is not None
        header, payload = self._config
        data, fd = payloads.given(payload)
        if self._alarm is not None:
            self._alarm.close()
        self._alarm, theirs = socket.socketpair()
        self._alarm.setblocking(False)
        described = {**header, "alarm": True, **frames.attached(fd)}
        descriptors = [theirs.detach(), *([] if fd is None else [fd])]
        self._send(protocol.encode(protocol.CONFIG, 0, described, data), descriptors)

    def _is_ready(self, frame: Frame, _fd: int | None) -> None:
        self.ready = True
        self.stages.ready(frame.header, time.monotonic())
        self._owner.is_ready()
        self._pump()

    def _has_failed(self, frame: Frame, fd: int | None) -> None:
        error = payloads.taken(frame.payload, fd)
        if isinstance(error, int):  # over 2 MiB of exception: the message has to do
            os.close(error)
            error = Payload()
        self._owner.has_failed(outcomes.text(frame.header, "message") or "the function does not load", error)

    def _output(self, frame: Frame, fd: int | None) -> None:
        now = time.monotonic()
        covered = chunks.answered(self.inputs.get(frame.input), frame, fd)
        try:
            attempt, seconds = self.inputs.finish(frame.input, now)
        except OutOfTurnError as error:
            raise BadFrame(str(error)) from None
        self._note_end(attempt.number)
        ended = attempt.verdict and (attempt.count == 1 or attempt.verdict != "timeout")
        if attempt.dropped or ended:
            if fd is not None:
                os.close(fd)
            if not attempt.dropped:
                self._finished(attempt, self._verdict(attempt), seconds)
        else:
            self._answered(attempt, frame, fd, seconds, covered)

    def _answered(
        self, attempt: Attempt, frame: Frame, fd: int | None, seconds: float, covered: chunks.Covered | None
    ) -> None:
        outcomes.answered(attempt.input, frame.header, time.monotonic())
        self._pull()
        passing = fd is not None and attempt.input.parcels and self._may_lend(frame)
        payload = payloads.taken(frame.payload, fd, PARCEL_LIMIT if passing else INLINE_LIMIT)
        # Of an adopted attempt that gave nothing since, only the runner knows; the server compares.
        yields = attempt.yields if attempt.yields >= 0 else outcomes.count(frame.header)

        def deliver(stored: Payload | str) -> None:
            self._finished(attempt, outcomes.of(frame.header, yields, stored), seconds, covered)

        self._deliveries.add(payload, deliver, passing=passing)

    def _pull(self) -> None:
        """What was printed before anything that was read together, and is not sent yet."""
        if not self._pulled:
            self._pulled = True
            self._services.logs.pull(self._container)

    def _may_lend(self, frame: Frame) -> bool:
        """The container pays for the memory until somebody has taken the result: no more than it can."""
        lent = self._services.reports.lent(self._container) + outcomes.count(frame.header, "size")
        return self._services.parcels.possible and lent <= self._lendable

    def _yield(self, frame: Frame, fd: int | None) -> None:
        attempt = self.inputs.get(frame.input)
        runs = attempt is not None and self.inputs.has_begun(attempt)
        if attempt is None or not runs or not attempt.may_yield(frame.header.get("n")):
            raise BadFrame("a yield out of turn or beyond its credit")
        attempt.yields += 1
        yielding, first = attempt, attempt.yields - 1
        self._pull()

        def deliver(stored: Payload | str) -> None:
            if isinstance(stored, Payload):
                yielding.keep(first, stored)
                self._services.link.send(NodeYields(self._container, *yielding.key, first, [stored]))

        self._deliveries.add(payloads.taken(frame.payload, fd), deliver)

    def _have_begun(self, frame: Frame, _fd: int | None) -> None:
        """A batch has gathered."""
        now, keys = time.monotonic(), []
        try:
            for number in outcomes.numbers(frame.header, "ins"):
                attempt = self.inputs.begin(number, now)
                attempt.told = True
                keys.append(attempt.key)
        except OutOfTurnError as error:
            raise BadFrame(str(error)) from None
        self._services.link.send(InputsStarted(self._container, keys))
        self._deadlines.begun()

    # -- inputs on their way

    def _pump(self) -> None:
        """Give the runner what it may have."""
        if self._channel is not None and self.ready and not self._draining and self._fetching is None:
            with self._channel.together():
                self._give_more()
        self._deadlines.begun()

    def _give_more(self) -> None:
        while self.inputs.waiting and len(self.inputs.sent) < self.inputs.window:
            following = self.inputs.waiting[0]
            if following.input.payload.blob and following not in self._fetched:
                self._fetching = self._loop.create_task(self._fetch(following))
                return
            attempt = self.inputs.take(time.monotonic())
            if attempt is None:
                return
            if attempt.count > 1 and not self._takes_chunks:
                self.inputs.forget(attempt.number, time.monotonic())
                self._finished(attempt, Outcome("ok"), 0.0, chunks.NOTHING)
            else:
                self._give(attempt)

    async def _fetch(self, attempt: Attempt) -> None:
        try:
            fd = await self._payloads.fetch(attempt.input.payload)
        except (TransferError, OSError) as error:
            if self.inputs.find(attempt.key) is attempt:
                self.inputs.drop(attempt)
                self._finished(attempt, outcomes.lost_argument(error), 0.0)
        else:
            if self.inputs.find(attempt.key) is attempt:
                self._fetched[attempt] = fd
            else:
                os.close(fd)
        self._fetching = None
        self._pump()

    def _give(self, attempt: Attempt) -> None:
        item = attempt.input
        fd, data = self._fetched.pop(attempt, None), b""
        if fd is None:
            data, fd = payloads.given(item.payload.data)
        elif direct.is_direct(item):
            attempt.line, attempt.page = True, direct.Page(attempt.began)
        if attempt.count > 1:
            attempt.page = direct.Page(attempt.began)
        if item.trace is not None:
            self.stages.tell(item.trace)
            outcomes.hop(item, "agent.given", time.monotonic())
        item.payload = Payload()  # the runner's now
        if self._journal is not None:
            self._journal.add(attempt.number, item.input, item.attempt, attempt.count)
        page = None if attempt.page is None else attempt.page.lend()
        self._send(frames.of_input(attempt, data, fd), [given for given in (fd, page) if given is not None])

    def wind_up(self, end: ends.End) -> list[tuple[str, int]]:
        """The container is dead: end the inputs that ended with it. Returns those that lose nothing by it;
        the others are victims, and the server's.
        """
        returned = [a.key for a in self.inputs.unbegun()]
        for attempt in [a for a in self.inputs.begun if not a.dropped]:
            seconds = max(0.0, time.monotonic() - attempt.began)
            covered = chunks.blamed(attempt) if attempt.count > 1 else None
            if attempt.verdict or (end.reason in ends.FAULTS and (covered or attempt.count == 1)):
                outcome = self._verdict(attempt) if attempt.verdict else ends.failed(end)
                self._finished(attempt, outcome, seconds, covered)
            elif end.innocent and not attempt.yields:
                returned.append(attempt.key)
            elif not attempt.told:
                self._tell(attempt)  # however short it was: else it would be given out again for ever
        return returned

    def _finished(
        self, attempt: Attempt, outcome: Outcome, seconds: float, covered: chunks.Covered | None = None
    ) -> None:
        item = attempt.input
        index = int(item.input.rpartition(":")[2] or 0)
        if attempt.line and attempt.page is not None:
            outcome.yields, seconds = attempt.page.calls(), attempt.page.seconds()
        outcomes.hop(item, "agent.output", time.monotonic())
        output = OutputItem(index, outcome, item.attempt, item.trace)
        if covered is not None:
            output.index, output.count = index + covered.offset, covered.count
            output.sizes, output.parts = covered.sizes, covered.parts
        report = NodeOutput(item.input, item.attempt, output, seconds)
        yields = attempt.kept_yields(self._container)
        self._services.reports.output(self._container, report, yields, attempt.count)

    def _verdict(self, attempt: Attempt) -> Outcome:
        """How an attempt ends that we have ended."""
        return ends.timed_out(attempt.input.timeout) if attempt.verdict == "timeout" else ends.cancelled()

    def _ring(self, attempt: Attempt) -> None:
        if self._alarm is not None:
            with suppress(OSError):  # it does not listen: what does not end in time is killed
                self._alarm.send(protocol.ALARM.pack(attempt.number))
        if attempt.line:  # which may idle
            self._send(protocol.encode(protocol.HANG_UP, attempt.number))

    def _tell(self, attempt: Attempt) -> None:
        self._services.link.send(InputsStarted(self._container, [attempt.key]))

    # -- bits

    def _send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        if self._channel is not None:
            self._channel.send(data, descriptors)
        else:
            for fd in descriptors:
                os.close(fd)

    def _note_end(self, number: int) -> None:
        if self._journal is not None:
            self._journal.remove(number)

    def _set_busy(self, busy: bool) -> None:
        """Large payloads are on their way: no more of them for now."""
        if busy:
            self.pause("deliveries")
        else:
            self.resume("deliveries")

    def _discard_fetched(self, attempt: Attempt) -> None:
        fd = self._fetched.pop(attempt, None)
        if fd is not None:
            os.close(fd)


_WITH_PAYLOAD = frozenset({protocol.OUTPUT, protocol.YIELD, protocol.FAILED})
_HANDLERS = {
    protocol.HELLO: Conversation._hello,
    protocol.READY: Conversation._is_ready,
    protocol.FAILED: Conversation._has_failed,
    protocol.OUTPUT: Conversation._output,
    protocol.YIELD: Conversation._yield,
    protocol.BEGUN: Conversation._have_begun,
}
