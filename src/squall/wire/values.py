"""Values inside messages: payloads, outcomes, function and image descriptions.

Plain dataclasses: `msgspec` encodes them where it is installed, `wire.msgpack` (standard library only)
inside containers that do not have it. Every field that is added later needs a default: decoders ignore what
they do not know and fill in what they miss, so that neighbours of one protocol version understand each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Version of the protocol; both sides must agree on it exactly (see `messages.Hello`).
PROTOCOL = 1
#: Payloads up to this many bytes travel inside messages, larger ones as blobs.
INLINE_LIMIT = 2 << 20
#: The largest argument, result or yield, in bytes.
PAYLOAD_LIMIT = 2 << 30
#: Results over this many bytes stay in memory files where all who handle them are on one host.
PARCEL_LIMIT = 256 << 10
#: The size of one piece of a blob on the wire, in bytes.
CHUNK = 1 << 20


@dataclass(slots=True)
class Payload:
    """A user's bytes, which only the user's own processes ever decode.

    Either `data` holds them or `blob` names them: content of the store (SHA-256, hex), or a parcel
    (`wire.parcels`). `size` is in bytes.
    """

    data: bytes = b""
    blob: str = ""
    size: int = 0


@dataclass(slots=True)
class ErrorInfo:
    """What can be told of an exception without unpickling it."""

    type: str
    message: str
    traceback: str = ""


@dataclass(slots=True)
class Outcome:
    """How an input ended.

    status: "ok" (payload: the result), "exception" (payload: the pickled exception, may be empty; error),
    "timeout", "cancelled", "failed" (the platform's or the container's doing: out of memory, killed, could
    not start; `error.type` is a name in `squall.exception`), "done" (a generator's end; `yields` of them).
    """

    status: str
    payload: Payload = field(default_factory=Payload)
    error: ErrorInfo | None = None
    yields: int = 0


#: Hops of one input: (name of the hop, CLOCK_MONOTONIC seconds); filled only where tracing was asked for.
Trace = list[tuple[str, float]]


@dataclass(slots=True)
class InputItem:
    """One input of a call. `method` names the method of a class; empty for a function.

    With `sizes` it is a chunk: so many inputs from `index` on, whose payloads lie one behind the other.
    """

    index: int
    payload: Payload
    method: str = ""
    trace: Trace | None = None
    sizes: list[int] | None = None

    @property
    def count(self) -> int:
        """How many inputs of the user's it is."""
        return 1 if self.sizes is None else len(self.sizes)


@dataclass(slots=True)
class Part:
    """One input of a chunk that ended in another way than "ok"; its payload lies with those of the others."""

    offset: int
    outcome: Outcome


@dataclass(slots=True)
class OutputItem:
    """The outcome of the input with this index; `attempt` says which run of it.

    It is that of `count` inputs from `index` on (0: none of a chunk has one, and all of them come back). With
    `sizes`, their payloads lie one behind the other, and `parts` says which of them have no result.
    `seconds` is how long all of them took.
    """

    index: int
    outcome: Outcome
    attempt: int = 1
    trace: Trace | None = None
    count: int = 1
    sizes: list[int] | None = None
    parts: list[Part] | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class FileEntry:
    """One file of a manifest: posix path relative to its root, content hash (SHA-256, hex), size, mode."""

    path: str
    sha256: str
    size: int
    mode: int = 0o644


@dataclass(slots=True)
class Manifest:
    """A tree of files by content; its id is `wire.hashing.manifest_id`."""

    entries: list[FileEntry]


@dataclass(slots=True)
class MountRef:
    """A manifest shown read-only at `target` (an absolute posix path in the container)."""

    manifest: str
    target: str


@dataclass(slots=True)
class Step:
    """One step of a recipe: `kind` names a module of `squall.build.steps`, `args` are JSON values."""

    kind: str
    args: dict[str, Any] = field(default_factory=dict)
    force: bool = False


@dataclass(slots=True)
class Recipe:
    """How an image comes to be; its id is `hashing.recipe_id`. `python`: "3.11", or empty (the host's)."""

    base: str
    python: str = ""
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class GpuRequest:
    """`count` devices of one type ("H100"); a function lists alternatives in order of preference."""

    type: str
    count: int = 1


@dataclass(slots=True)
class ResourceRequest:
    """What placement needs and what caps: CPU in thousandths of a core, memory and disk in MiB."""

    cpu_millis: int = 125
    cpu_limit_millis: int | None = None
    memory_mib: int = 128
    memory_limit_mib: int | None = None
    ephemeral_disk_mib: int | None = None
    gpus: list[GpuRequest] = field(default_factory=list)


@dataclass(slots=True)
class AutoscalerSettings:
    """Containers: at least, at most (None: no limit), beyond the need; seconds idle before one ends."""

    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: float = 60.0


@dataclass(slots=True)
class RetryPolicy:
    """Re-runs after an exception or timeout: delay n is initial * backoff**n, at most max_delay seconds."""

    max_retries: int = 0
    backoff_coefficient: float = 2.0
    initial_delay: float = 1.0
    max_delay: float = 60.0


@dataclass(slots=True)
class Concurrency:
    """Calls of the function that one container runs at once: the most, and what the autoscaler aims at."""

    max_inputs: int = 1
    target_inputs: int = 1


@dataclass(slots=True)
class Batching:
    """How many inputs one call takes together at most (0: not batched); the first waits `wait` seconds."""

    max_batch_size: int = 0
    wait: float = 0.0


@dataclass(slots=True)
class MethodSpec:
    is_generator: bool = False


@dataclass(slots=True)
class ParameterSpec:
    """A parameter of a class. `kind`: "str", "int" (64 bits), "bool" or "bytes"; `default` is of it, or None:
    it must be given.
    """

    kind: str
    default: Any = None


@dataclass(slots=True)
class ClassSpec:
    """A class as a server sees it. `exits`: it has something to do before its container ends.

    One that is batched has a single method.
    """

    methods: dict[str, MethodSpec]
    parameters: dict[str, ParameterSpec] = field(default_factory=dict)
    exits: bool = False


@dataclass(slots=True)
class SecretRef:
    """A secret by id, and the version that it had when it was named. Its containers get the newest one.

    `name` is empty for one that only its app knows.
    """

    id: str
    name: str = ""
    version: int = 0


@dataclass(slots=True)
class FunctionSpec:
    """A function as declared: how to load it, where it runs, how it scales.

    `module` and `qualname` find it in the mounted source; with `serialized` set, the payload is the
    cloudpickled callable instead. `image` is a recipe id. `timeout` and `startup_timeout` are seconds.
    `single_use`: a container takes one input and ends.
    With `class_` it is a class, whose methods calls name (`InputItem.method`); `parameters` are the values
    that a variant of it is bound to.
    """

    name: str
    module: str
    qualname: str
    image: str
    serialized: Payload | None = None
    is_generator: bool = False
    mounts: list[MountRef] = field(default_factory=list)
    resources: ResourceRequest = field(default_factory=ResourceRequest)
    autoscaler: AutoscalerSettings = field(default_factory=AutoscalerSettings)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float = 300.0
    startup_timeout: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    block_network: bool = False
    concurrency: Concurrency = field(default_factory=Concurrency)
    batching: Batching = field(default_factory=Batching)
    single_use: bool = False
    class_: ClassSpec | None = None
    parameters: dict[str, Any] | None = None
    secrets: list[SecretRef] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """How many inputs one container works on at once."""
        return self.concurrency.max_inputs * max(1, self.batching.max_batch_size)


@dataclass(slots=True)
class Overrides:
    """What a variant of a function changes; None leaves it as it was declared. `env` and `secrets` add to
    what is there.

    Units as in ResourceRequest and AutoscalerSettings. A CPU or memory request without a limit takes the
    declared limit away.
    """

    cpu_millis: int | None = None
    cpu_limit_millis: int | None = None
    memory_mib: int | None = None
    memory_limit_mib: int | None = None
    gpus: list[GpuRequest] | None = None
    env: dict[str, str] | None = None
    retries: RetryPolicy | None = None
    max_containers: int | None = None
    buffer_containers: int | None = None
    scaledown_window: float | None = None
    timeout: float | None = None
    concurrency: Concurrency | None = None
    batching: Batching | None = None
    secrets: list[SecretRef] | None = None


@dataclass(slots=True)
class LogItem:
    """Output of one container: `fd` 1 or 2 (0: the platform speaks), raw bytes, wall-clock seconds.

    `dropped` lines were lost before this piece because the container wrote faster than the bound.
    """

    container: str
    function: str
    fd: int
    data: bytes
    time: float
    dropped: int = 0


@dataclass(slots=True)
class FunctionProgress:
    """Of one function: inputs known, ended (`failed` of them not well) and running, and its containers.

    `more`: a call of it has not sent all its inputs. `waiting`: why inputs wait, in one line, or empty.
    """

    function: str
    inputs: int = 0
    ended: int = 0
    failed: int = 0
    running: int = 0
    starting: int = 0
    busy: int = 0
    idle: int = 0
    more: bool = False
    waiting: str = ""


@dataclass(slots=True)
class ContainerUsage:
    """Of one container: CPU seconds and the peak of its memory in bytes (None: the host cannot tell)."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
