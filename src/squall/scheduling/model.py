"""Values of the scheduler: what it knows of functions, nodes and inputs, and how it is told and answers.

Events go in (`Scheduler.handle(event, now)`), actions come out. `now` is seconds on any monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: A killed container's started inputs run again this often even without retries (DESIGN.md 7).
MAX_VICTIM_RUNS = 3


@dataclass(frozen=True)
class Demand:
    """What one container occupies: CPU in thousandths of a core, memory in MiB, GPUs by preference."""

    cpu_millis: int = 125
    memory_mib: int = 128
    gpus: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class FunctionConfig:
    """A function as the scheduler sees it. Seconds; `max_containers` None is no limit.

    One container works on `capacity` inputs at once, and there are enough containers for `target` each.
    `batch` inputs make one call (0: not batched). A `single_use` container takes one input and ends.
    """

    id: str
    workspace: str
    demand: Demand = field(default_factory=Demand)
    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: float = 60.0
    max_retries: int = 0
    backoff_coefficient: float = 2.0
    initial_delay: float = 1.0
    max_delay: float = 60.0
    generator: bool = False
    capacity: int = 1
    target: int = 1
    batch: int = 0
    single_use: bool = False


@dataclass(frozen=True)
class RunningAttempt:
    input: str
    attempt: int
    started: bool


@dataclass(frozen=True)
class KnownContainer:
    """A container that a node announces when it joins: it ran before this scheduler lived."""

    id: str
    function: str
    ready: bool
    inputs: tuple[RunningAttempt, ...] = ()


# --------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class NodeJoined:
    node: str
    cpu_millis: int
    memory_mib: int
    gpus: tuple[tuple[str, int], ...] = ()
    containers: tuple[KnownContainer, ...] = ()


@dataclass(frozen=True)
class NodeLost:
    """Its lease ended: its containers are dead or kill themselves."""

    node: str


@dataclass(frozen=True)
class FunctionAdded:
    """New, or the same id with other settings."""

    config: FunctionConfig


@dataclass(frozen=True)
class FunctionRemoved:
    """Its inputs are cancelled, its containers end."""

    function: str


@dataclass(frozen=True)
class InputsArrived:
    """In order of arrival. `attempt` of each is the number that its last attempt had (0: never ran).

    `direct`: each is a caller's line into a container, for calls that are quick. It gets a container that
    idles, or fails at once; it makes way for any other input, and is never run again.

    `counts`: how many inputs of the user's each of them is, where some are chunks. `first`: they come out of
    one that was taken apart, and go to the head of the queue; `victim_runs` as of that one.
    """

    function: str
    inputs: tuple[str, ...]
    attempt: int = 0
    direct: bool = False
    counts: tuple[int, ...] = ()
    first: bool = False
    victim_runs: int = 0


@dataclass(frozen=True)
class InputsAwaited:
    """An input in a container waits until these, as far as they are unfinished, have ended."""

    parent: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class InputsCancelled:
    inputs: tuple[str, ...]
    terminate: bool = False


@dataclass(frozen=True)
class ContainerReady:
    container: str


@dataclass(frozen=True)
class ContainerFailed:
    """Never became ready. `retry` False: the function cannot start at all (import error, no image).

    `shortage`: the node is at fault and may recover (its disk is full): inputs wait however often it fails.
    """

    container: str
    message: str
    retry: bool = False
    shortage: bool = False


@dataclass(frozen=True)
class ContainerExited:
    """`fault`: the tenant's doing (oom, exit, signal of its own making): running inputs fail or retry.

    Otherwise they are victims (killed from outside, lost) and run again, MAX_VICTIM_RUNS times. `returned`
    had not begun: they cost nothing. `reason` is one word of `wire.messages.ContainerState`.
    """

    container: str
    fault: bool
    reason: str
    message: str = ""
    returned: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class InputStarted:
    """User code has begun it a while ago; of a direct input, that one of its calls is not quick."""

    container: str
    input: str
    attempt: int


@dataclass(frozen=True)
class InputYielded:
    """A generator gave a first value: it is never run again."""

    container: str
    input: str
    attempt: int


@dataclass(frozen=True)
class InputFinished:
    """The node's word. status: "ok", "exception", "timeout", "cancelled", "failed"; seconds in user code.

    `count`: for how many of a chunk's inputs it is.
    """

    container: str
    input: str
    attempt: int
    status: str
    seconds: float
    count: int = 1


@dataclass(frozen=True)
class Tick:
    """Time passed: idle containers, retries that are due, leases."""


Event = (
    NodeJoined
    | NodeLost
    | FunctionAdded
    | FunctionRemoved
    | InputsArrived
    | InputsAwaited
    | InputsCancelled
    | ContainerReady
    | ContainerFailed
    | ContainerExited
    | InputStarted
    | InputYielded
    | InputFinished
    | Tick
)

# -------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class StartContainer:
    container: str
    function: str
    node: str
    gpus: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class StopContainer:
    """`drain`: running inputs end first (there are none when the reason is idleness)."""

    container: str
    node: str
    reason: str
    drain: bool = True


@dataclass(frozen=True)
class AssignInputs:
    """(input, attempt) pairs, in order; attempt numbers of an input only grow."""

    container: str
    node: str
    inputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class RevokeInputs:
    """Cancelled while assigned: the node interrupts or drops them.

    `recall`: they are wanted elsewhere. The node drops those that have not begun, as cancelled.
    """

    container: str
    node: str
    inputs: tuple[tuple[str, int], ...]
    terminate: bool = False
    recall: bool = False


@dataclass(frozen=True)
class Deliver:
    """The outcome that came with this event (InputFinished) is the input's final one."""

    input: str
    attempt: int


@dataclass(frozen=True)
class Retrying:
    """The outcome that came with this event is not final: the input runs again after `delay` seconds."""

    input: str
    attempt: int
    delay: float


@dataclass(frozen=True)
class TakeApart:
    """A chunk's container ended under it: its inputs arrive anew, each on its own, after `victim_runs`."""

    input: str
    attempt: int
    victim_runs: int


@dataclass(frozen=True)
class DropStale:
    """The outcome that came with this event belongs to a dead or finished attempt: forget it."""

    input: str
    attempt: int


@dataclass(frozen=True)
class FailInput:
    """Final, by the platform.

    code: why the container ended ("oom", "exit", "signal", ...), "killed" (a victim too often),
    "start_failed", "cancelled", "interrupted" (a generator cut off after a yield), "unplaceable",
    "removed", "deadlock" (all that could make room for it waits for it), "busy" (no container for a direct
    input idles).
    """

    input: str
    code: str
    message: str


@dataclass(frozen=True)
class Waiting:
    """Why a function's inputs wait: one line for its callers. Said once for each reason."""

    function: str
    reason: str


Action = (
    StartContainer
    | StopContainer
    | AssignInputs
    | RevokeInputs
    | Deliver
    | Retrying
    | TakeApart
    | DropStale
    | FailInput
    | Waiting
)
