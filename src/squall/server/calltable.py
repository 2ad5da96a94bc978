"""The table of calls in memory, and the book-keeping that goes with every change of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from squall.server.lineage import Lineage
from squall.server.model import Input
from squall.server.sweep import RELEASED
from squall.wire.chunks import MAX_COUNT, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.apps import Apps
    from squall.server.catalog import Catalog
    from squall.server.model import Call, Function
    from squall.server.parcels import Parcels
    from squall.server.session import Session
    from squall.server.sweep import KeptBlobs
    from squall.wire.values import InputItem, OutputItem, Payload

#: What an input costs in memory beside its payload, in bytes, about.
INPUT_BYTES = 500


class CallTable:
    """Calls with unfinished inputs or outputs not taken. Durable outputs live in the store, not here."""

    def __init__(
        self, catalog: Catalog, apps: Apps, now: Callable[[], float], parcels: Parcels, blobs: KeptBlobs
    ) -> None:
        self._catalog = catalog
        self._apps = apps
        self._now = now
        self.parcels = parcels
        self.blobs = blobs
        self.calls: dict[str, Call] = {}
        #: Inputs that have no outcome yet, or one that nobody has taken.
        self.inputs: dict[str, Input] = {}
        #: Unfinished durable inputs by workspace.
        self.durable: Counter[str] = Counter()
        self._children: dict[str, set[str]] = {}
        self.lineage = Lineage()

    def open(self, call: Call) -> None:
        self.calls[call.id] = call
        call.function.calls.add(call.id)
        call.function.app.calls += 1
        self.belongs(call, call.parent, call.waiter)

    def belongs(self, call: Call, parent: str, waiter: str = "") -> None:
        """An input made the call (empty: none did), and is to take it along when it ends."""
        call.parent, call.waiter = parent, waiter
        if parent:
            self._children.setdefault(parent, set()).add(call.id)
        self.lineage.opened(call)

    def move(self, call: Call, function: Function) -> None:
        """The call is one of this version of its function now."""
        call.function.calls.discard(call.id)
        call.function = function
        function.calls.add(call.id)

    def close(self, call: Call) -> None:
        """Nothing of it is left to do here."""
        if self.calls.pop(call.id, None) is None:
            return
        for entry in list(call.inputs.values()):
            self.forget(entry)
        for session in call.sessions:
            session.calls.discard(call)
        call.sessions.clear()
        siblings = self._children.get(call.parent)
        if siblings is not None:
            siblings.discard(call.id)
            if not siblings:
                del self._children[call.parent]
        call.function.calls.discard(call.id)
        call.function.app.calls -= 1
        self._catalog.forget_retired(call.function)
        self._apps.call_ended(call.function.app)

    def close_if_over(self, call: Call) -> None:
        """When all its inputs have come and ended, and their outputs are taken (or safe in the store)."""
        if not call.unfinished and not call.inputs:
            self.close(call)

    def attach(self, session: Session, call: Call) -> bool:
        """Send the call's outputs to this session. False if it was so already, or has ended."""
        if session in call.sessions or session.ended:
            return False
        call.sessions.add(session)
        session.calls.add(call)
        return True

    def add(self, call: Call, item: InputItem, payer: Session | None) -> Input:
        entry = Input(f"{call.id}:{item.index}", call, item.index, None, count=item.count)
        self.give(entry, item)
        call.inputs[item.index] = self.inputs[entry.id] = entry
        call.total += entry.count
        call.function.inputs += entry.count
        if call.durable:
            self.durable[call.workspace] += 1
        else:
            self.charge(entry, payer, len(item.payload.data))
        return entry

    def replace(self, entry: Input, pieces: list[Input]) -> None:
        """A chunk by what it comes apart into."""
        payer = entry.payer
        self._pay_back(entry)
        del entry.call.inputs[entry.index], self.inputs[entry.id]
        for piece in pieces:
            entry.call.inputs[piece.index] = self.inputs[piece.id] = piece
            entry.call.loose.pop(piece.index, None)
            self.charge(piece, payer, 0 if piece.item is None else len(piece.item.payload.data))

    def covering(self, input_id: str) -> Input | None:
        """The input, or the chunk that it is one of."""
        entry = self.inputs.get(input_id)
        call_id, _, number = input_id.rpartition(":")
        call = self.calls.get(call_id)
        if entry is not None or call is None or not number.isdecimal():
            return entry
        index = int(number[:12])
        before = (call.inputs.get(i) for i in range(index - 1, max(-1, index - MAX_COUNT), -1))
        found = next((e for e in before if e is not None), None)
        return found if found is not None and index < found.index + found.count else None

    def give(self, entry: Input, item: InputItem) -> None:
        """Its arguments: a ghost's come later than itself."""
        entry.item = item
        self.parcels.hold(entry.call.workspace, item.payload, entry)

    def give_piece(self, call: Call, item: InputItem) -> None:
        """The arguments of one input of a ghost's chunk, which its client has apart."""
        chunk = self.covering(f"{call.id}:{item.index}") if call.haunted else None
        if chunk is not None and chunk.item is None and chunk.output is None:
            call.loose[item.index] = item

    def charge(self, entry: Input, payer: Session | None, size: int) -> None:
        """The session pays for the memory until the output is taken."""
        entry.payer, entry.charged = payer, size + INPUT_BYTES
        if payer is not None:
            payer.inputs += entry.count
            payer.bytes += entry.charged

    def _pay_back(self, entry: Input) -> None:
        if entry.payer is not None:
            entry.payer.inputs -= entry.count
            entry.payer.bytes -= entry.charged
            entry.payer = None

    def ended(self, entry: Input, output: OutputItem) -> set[str]:
        """The input has its outcome; its payload is needed no more. Returns the calls that it made."""
        self.lineage.ended(entry, statuses(output), self._now())
        payer = entry.payer
        self._pay_back(entry)
        if entry.item is not None:
            self._let_go(entry, entry.item.payload)
        self.parcels.hold(entry.call.workspace, output.outcome.payload, entry)
        entry.output, entry.item, entry.held = output, None, False
        entry.call.done += entry.count
        if entry.call.kind == "direct":  # as many calls as went over the line
            entry.call.function.inputs += output.outcome.yields - 1
            entry.call.function.ended += output.outcome.yields - 1
        entry.call.function.ended += entry.count
        begun = entry.call.kind != "direct" or output.outcome.yields > 0
        entry.call.function.failed += begun and sum(s not in ("ok", "done") for s in statuses(output))
        if entry.call.durable:
            self.durable[entry.call.workspace] -= 1
            self.forget(entry)
        else:
            self.charge(entry, payer, len(output.outcome.payload.data))
        return self._children_of(entry) if self._children else set()

    def _children_of(self, entry: Input) -> set[str]:
        """The calls that it made, or that those of a chunk did."""
        inputs = range(entry.index, entry.index + entry.count)
        made = (self._children.get(f"{entry.call.id}:{index}", ()) for index in inputs)
        return {child for children in made for child in children}

    def forget(self, entry: Input) -> None:
        """Nobody will ask for it again."""
        self._pay_back(entry)
        for payload in entry.payloads():
            self._let_go(entry, payload)
        if entry.output is not None and entry.lender is not None:
            entry.lender.acknowledge(entry.id, entry.output.attempt)
            entry.lender = None
        entry.call.inputs.pop(entry.index, None)
        self.inputs.pop(entry.id, None)

    def _let_go(self, entry: Input, payload: Payload) -> None:
        """The input needs it no more. Whoever was told of a blob may still fetch it for a while."""
        if payload.blob:
            self.parcels.release(payload.blob, entry)
            self.blobs.keep(entry.call.workspace, payload, RELEASED)
