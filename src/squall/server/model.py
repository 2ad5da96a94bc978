"""What the control plane holds in memory: apps, functions, calls, inputs, containers. Plain records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from squall.server.stats import Tallies
from squall.wire.indexes import Indexes
from squall.wire.values import ContainerUsage, OutputItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.server.redaction import Redactor
    from squall.server.session import Session
    from squall.store.base import AppRecord
    from squall.wire.control import FunctionVariant
    from squall.wire.messages import CallFailed
    from squall.wire.values import (
        AutoscalerSettings,
        FunctionSpec,
        InputItem,
        Manifest,
        Outcome,
        Payload,
        Recipe,
    )

#: Values of a generator that may be under way to its consumer (client and server count from the same number).
YIELD_WINDOW = 64


class Acknowledges(Protocol):
    """A node: told which attempts' outputs it may forget."""

    def acknowledge(self, input_id: str, attempt: int) -> None: ...


@dataclass(slots=True, eq=False)
class App:
    """`owner` is the stem of the session that an ephemeral app ends with; empty: nobody's.

    `functions` are those of the newest version, `variants` (by id) those of any. `winding_down`: it stops
    when its last call ends (a detached app whose client has gone).
    """

    record: AppRecord
    uid_base: int
    owner: str = ""
    functions: dict[str, Function] = field(default_factory=dict)
    variants: dict[str, Function] = field(default_factory=dict)
    calls: int = 0
    winding_down: bool = False
    stopped: bool = False

    @property
    def id(self) -> str:
        return self.record.id


#: At the end of the id of a function that stays on its version, whatever is deployed. In no record.
PINNED = "-pinned"


@dataclass(slots=True, eq=False)
class Function:
    """One function of one version of an app. `inputs`, `ended` and `failed` are counted since it was loaded.

    `manifests` are None until it was used; `registered`: the scheduler knows it; `retired`: a newer version
    took its place. `waiting` is what its callers were told last, `start_error` why its last container never
    started. `autoscaler` is as declared, or as changed since; `containers` counts those that have not ended.
    A variant has the `request` that it answers, and `asked`: when somebody asked for it last, on the server's
    clock.
    """

    id: str
    app: App
    name: str
    version: int
    spec: FunctionSpec
    recipe: Recipe
    autoscaler: AutoscalerSettings
    request: FunctionVariant | None = None
    asked: float = 0.0
    containers: int = 0
    manifests: dict[str, Manifest] | None = None
    registered: bool = False
    retired: bool = False
    calls: set[str] = field(default_factory=set)
    inputs: int = 0
    ended: int = 0
    failed: int = 0
    waiting: str = ""
    start_error: Outcome | None = None
    tallies: Tallies = field(default_factory=Tallies)

    @property
    def pinned(self) -> bool:
        """No newer version takes its place; also of a variant of such a one."""
        return self.id.endswith(PINNED) or (
            self.request is not None and self.request.function.endswith(PINNED)
        )


@dataclass(slots=True, eq=False)
class Call:
    """A call while it has unfinished inputs, or outputs that its client has not taken.

    `haunted`: it was a ghost with chunks; `loose`: their inputs, which its client has apart. `feeders` have
    not sent all inputs of a durable call yet. `partial`: inputs that were done before this server started are
    not in `seen` yet. `ghost`: its inputs run on a node, and the client that has them has not come back yet.
    """

    id: str
    function: Function
    workspace: str
    environment: str
    kind: str
    durable: bool
    parent: str
    created: float
    #: What the scheduler knows the parent by, where that is one of a chunk.
    waiter: str = ""
    sessions: set[Session] = field(default_factory=set)
    feeders: set[Session] = field(default_factory=set)
    inputs: dict[int, Input] = field(default_factory=dict)
    loose: dict[int, InputItem] = field(default_factory=dict)
    haunted: bool = False
    seen: Indexes = field(default_factory=Indexes)
    total: int = 0
    done: int = 0
    complete: bool = False
    cancelled: bool = False
    partial: bool = False
    ghost: bool = False
    failed: CallFailed | None = None

    @property
    def unfinished(self) -> bool:
        return self.done < self.total or not self.complete


@dataclass(slots=True, eq=False)
class Input:
    """One input, or a chunk of `count`. `item` is None once it has ended, and for a ghost. `charged` bytes of
    the session `payer`.

    `lender`: the node that keeps the output's parcel until it is taken.
    `moving`: to a newer version of its function. `began`: when its last attempt did, wall-clock seconds.

    `held`: not told to the scheduler yet, because a node may be running it. `yields` are the newest values of
    a generator, the first with number `first_yield`; `credit` is where its consumer wants it to pause.
    """

    id: str
    call: Call
    index: int
    item: InputItem | None
    attempt: int = 0
    container: str = ""
    held: bool = False
    cancelled: bool = False
    moving: bool = False
    began: float = 0.0
    output: OutputItem | None = None
    payer: Session | None = None
    charged: int = 0
    credit: int = YIELD_WINDOW
    first_yield: int = 0
    yields: list[Payload] = field(default_factory=list)
    lender: Acknowledges | None = None
    count: int = 1

    def ends(self, outcome: Outcome) -> OutputItem:
        """All of it ends so."""
        return OutputItem(self.index, outcome, self.attempt, count=self.count)

    @property
    def next_yield(self) -> int:
        return self.first_yield + len(self.yields)

    def payloads(self) -> Iterator[Payload]:
        """All that it keeps from being forgotten."""
        if self.item is not None:
            yield self.item.payload
        if self.output is not None:
            yield self.output.outcome.payload
        yield from self.yields


@dataclass(slots=True, eq=False)
class Container:
    """`state`: "requested", "starting", "ready". `started` is wall-clock seconds. `inputs` are there.

    `redactor`: it has secrets, and this takes them out of what it says.

    `decided` and `ready`: when it was decided to start it, and when it was ready (of the server's clock).
    """

    id: str
    function: Function
    node: str
    gpus: list[str]
    started: float
    decided: float = 0.0
    ready: float = 0.0
    state: str = "requested"
    stopping: bool = False
    inputs: set[str] = field(default_factory=set)
    redactor: Redactor | None = None
    usage: ContainerUsage = field(default_factory=ContainerUsage)


@dataclass(frozen=True)
class NodeResult:
    """What a node says of one attempt."""

    node: Acknowledges
    output: OutputItem
    seconds: float = 0.0
