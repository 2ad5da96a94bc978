"""Messages between client and server, and between server and node. One class each, one number each.

A frame on the wire holds any number of messages (`wire.codec`). Numbers are never reused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from squall.wire.values import (
    ContainerUsage,
    FunctionProgress,
    FunctionSpec,
    InputItem,
    LogItem,
    Manifest,
    OutputItem,
    Payload,
    Recipe,
)

# ------------------------------------------------------------------------------------------ both directions


@dataclass(slots=True)
class Hello:
    """The first message of a connection. `role` is "client" or "node".

    `session` resumes an earlier session of the same token; empty starts a new one. Over TCP the token is
    required; on the embedded Unix socket the peer's uid is what counts. `parcels`: it takes them.
    """

    protocol: int
    role: str
    version: str
    token: str = ""
    session: str = ""
    environment: str = "main"
    parcels: bool = False


@dataclass(slots=True)
class Welcome:
    """Accepted. Times in seconds. A node holds its lease for `lease` after the last heartbeat's answer."""

    session: str
    version: str
    workspace: str
    environment: str
    heartbeat: float = 5.0
    lease: float = 30.0


@dataclass(slots=True)
class Failure:
    """A request or the connection (id 0) was refused.

    code: "auth", "version", "invalid", "not_found", "expired", "exists", "exhausted", "unplaceable", "build",
    "unavailable" or "internal". The message is one line that says what happened and what to do.
    """

    id: int
    code: str
    message: str


@dataclass(slots=True)
class Request:
    """Control plane: `method` names a handler, `body` is the msgpack of that method's own dataclass."""

    id: int
    method: str
    body: bytes = b""


@dataclass(slots=True)
class Response:
    id: int
    body: bytes = b""


@dataclass(slots=True)
class BlobChunk:
    """A piece of a blob, in order; the answer to the `last` one is a Response (upload) with this id.
    A node names the `workspace` for which it acts; a client's is its session's.
    """

    id: int
    blob: str
    offset: int
    data: bytes
    last: bool = False
    workspace: str = ""


@dataclass(slots=True)
class BlobFetch:
    """Asks for a blob; the answers are BlobChunks with this id, or a Failure. `workspace` as in BlobChunk."""

    id: int
    blob: str
    workspace: str = ""


# ------------------------------------------------------------------------------------------- client, server


@dataclass(slots=True)
class Inputs:
    """Inputs of a call whose id the client chose. Sending an index again is harmless: the server has it once.

    kind: "unary", "map" or "generator". `last` says that no more follow. `durable` asks for an Accepted after
    the inputs are synced to disk (spawn). `parent` is the input that made this call, when nested.
    """

    call: str
    function: str
    kind: str
    items: list[InputItem]
    last: bool = True
    durable: bool = False
    parent: str = ""


@dataclass(slots=True)
class Accepted:
    """Durable: the inputs of the call up to and without this index are on disk."""

    call: str
    upto: int


@dataclass(slots=True)
class Outputs:
    """`spread`: its inputs may travel in chunks, and so many containers share them; 0: they may not."""

    call: str
    items: list[OutputItem]
    spread: int = 0


@dataclass(slots=True)
class Yields:
    """Consecutive values of a generator, the first with number `first`."""

    call: str
    index: int
    first: int
    payloads: list[Payload]


@dataclass(slots=True)
class Credit:
    """The consumer is ready for yields up to and without this number (back-pressure; 64 to begin with)."""

    call: str
    index: int
    upto: int


@dataclass(slots=True)
class Received:
    """The client has these outputs; the server may forget them unless the call is durable."""

    call: str
    indexes: list[int]


@dataclass(slots=True)
class Attach:
    """Send the outputs of a call to this session too, from this index on.

    Of those that a durable call has already, only the ones below `end` are sent (None: all). `parent` is the
    input that waits for them, when nested.
    """

    call: str
    start: int = 0
    end: int | None = None
    parent: str = ""


@dataclass(slots=True)
class CallFailed:
    """The whole call was refused (no such function, app stopped, unplaceable): all its inputs fail so."""

    call: str
    code: str
    message: str


@dataclass(slots=True)
class Cancel:
    """Stop the call's inputs (all of them without `indexes`); with `terminate`, end their containers."""

    call: str
    indexes: list[int] = field(default_factory=list)
    terminate: bool = False


@dataclass(slots=True)
class Logs:
    app: str
    items: list[LogItem]


@dataclass(slots=True)
class BuildLog:
    """Output of an image build, or of a step's start (`step` counts from 1 of `steps`)."""

    image: str
    data: bytes
    step: int = 0
    steps: int = 0


@dataclass(slots=True)
class Notice:
    """The platform tells a waiting caller why it waits (no room, image building, container failing)."""

    app: str
    text: str


@dataclass(slots=True)
class Progress:
    """How far an app is, for sessions that asked by `progress.follow`; only when something has changed."""

    app: str
    functions: list[FunctionProgress]


# --------------------------------------------------------------------------------------------- server, node


@dataclass(slots=True)
class NodeResources:
    """What a node has. `gpus` maps a type to a count. `driver` is the runtime driver in use."""

    cpu_millis: int
    memory_mib: int
    gpus: dict[str, int]
    driver: str
    arch: str
    losses: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RunningInput:
    """An input, or a chunk of `count`, that a node holds: which attempt, whether user code has begun it."""

    input: str
    attempt: int
    started: bool
    count: int = 1


@dataclass(slots=True)
class AnnouncedContainer:
    container: str
    function: str
    ready: bool
    inputs: list[RunningInput]


@dataclass(slots=True)
class Announce:
    """A node's first message after Welcome: what it has and what runs there already.

    `chunks`: it takes inputs in chunks.
    """

    node: str
    resources: NodeResources
    containers: list[AnnouncedContainer]
    images: list[str]
    chunks: bool = False


@dataclass(slots=True)
class Heartbeat:
    """From a node every `Welcome.heartbeat` seconds; the server answers with the same number."""

    number: int
    usage: dict[str, ContainerUsage] = field(default_factory=dict)


@dataclass(slots=True)
class BuildImage:
    """Make an image present on the node (build what is missing). Answered by ImageDone; logs by BuildLog.

    Steps run in `workspace`'s range of uids, which begins at `uid_base`.
    """

    image: str
    recipe: Recipe
    workspace: str
    manifests: dict[str, Manifest] = field(default_factory=dict)
    uid_base: int = 0


@dataclass(slots=True)
class ImageDone:
    """`error` is empty when the image is there; else one line, and the last lines of the failing step."""

    image: str
    error: str = ""
    tail: str = ""


@dataclass(slots=True)
class StartContainer:
    """Start a function's container, in the uids from `uid_base` on. No record may hold its `secrets`."""

    container: str
    function_id: str
    function: FunctionSpec
    app: str
    workspace: str
    environment: str
    uid_base: int
    recipe: Recipe
    manifests: dict[str, Manifest]
    gpus: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class StopContainer:
    """End a container: at once, or (`drain`) after its running inputs, at most `grace` seconds later."""

    container: str
    drain: bool = False
    grace: float = 5.0


@dataclass(slots=True)
class NodeInput:
    """An attempt at an InputItem. Ids are the server's: "<call>:<index>". `parcels`: results may be such."""

    input: str
    attempt: int
    payload: Payload
    call: str
    method: str = ""
    generator: bool = False
    credit: int = 0
    timeout: float = 300.0
    trace: list[tuple[str, float]] | None = None
    parcels: bool = False
    sizes: list[int] | None = None

    @property
    def count(self) -> int:
        """How many inputs of the user's it is."""
        return 1 if self.sizes is None else len(self.sizes)


@dataclass(slots=True)
class Assign:
    container: str
    inputs: list[NodeInput]


@dataclass(slots=True)
class Revoke:
    """Cancel these attempts (running ones are interrupted, waiting ones dropped). Answered by outputs.

    `recall`: only those that have not begun; others go on, and there is no answer.
    """

    container: str
    inputs: list[tuple[str, int]]
    terminate: bool = False
    recall: bool = False


@dataclass(slots=True)
class NodeCredit:
    container: str
    input: str
    upto: int


@dataclass(slots=True)
class ContainerState:
    """state: "starting", "ready", "failed" (never became ready) or "exited".

    For the last two: `reason` is one word ("oom", "exit", "signal", "killed", "stopped", "import", "image",
    "startup_timeout", "protocol", "lost", "disk" for the node's being full), `message` one line, `returned`
    the attempts that had not begun.
    """

    container: str
    state: str
    reason: str = ""
    message: str = ""
    error: Payload = field(default_factory=Payload)
    exit_code: int | None = None
    signal: int | None = None
    returned: list[tuple[str, int]] = field(default_factory=list)
    usage: ContainerUsage = field(default_factory=ContainerUsage)


@dataclass(slots=True)
class InputsStarted:
    container: str
    inputs: list[tuple[str, int]]


@dataclass(slots=True)
class NodeOutput:
    """An attempt's end, `seconds` after user code began it."""

    input: str
    attempt: int
    output: OutputItem
    seconds: float


@dataclass(slots=True)
class NodeOutputs:
    container: str
    items: list[NodeOutput]


@dataclass(slots=True)
class NodeYields:
    container: str
    input: str
    attempt: int
    first: int
    payloads: list[Payload]


@dataclass(slots=True)
class OutputsDurable:
    """The server has these attempts' outputs (on disk where promised); the node may forget them."""

    inputs: list[tuple[str, int]]


@dataclass(slots=True)
class NodeLogs:
    items: list[LogItem]


@dataclass(slots=True)
class Nested:
    """Bytes (whole frames) of a client inside a container, relayed both ways; empty data closes it.

    The server treats (container, connection) as a client session with the container's identity.
    """

    container: str
    connection: int
    data: bytes


#: Every message by its number on the wire.
KINDS: dict[int, type] = {
    1: Hello,
    2: Welcome,
    3: Failure,
    4: Request,
    5: Response,
    6: BlobChunk,
    7: BlobFetch,
    16: Inputs,
    17: Accepted,
    18: Outputs,
    19: Yields,
    20: Credit,
    21: Received,
    22: Attach,
    23: CallFailed,
    24: Cancel,
    25: Logs,
    26: BuildLog,
    27: Notice,
    28: Progress,
    64: Announce,
    65: Heartbeat,
    66: BuildImage,
    67: ImageDone,
    68: StartContainer,
    69: StopContainer,
    70: Assign,
    71: Revoke,
    72: NodeCredit,
    73: ContainerState,
    74: InputsStarted,
    75: NodeOutputs,
    76: NodeYields,
    77: OutputsDurable,
    78: NodeLogs,
    79: Nested,
}
