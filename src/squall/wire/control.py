"""Bodies of control-plane requests (`messages.Request.method`) and of their responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from squall.wire.secrets import Count, SecretDelete, SecretGet, SecretInfo, SecretList, SecretPut
from squall.wire.values import (
    AutoscalerSettings,
    ClassSpec,
    FunctionSpec,
    LogItem,
    Manifest,
    Overrides,
    Recipe,
)


@dataclass(slots=True)
class Empty:
    """Nothing to say. `session.close` (Empty -> Empty) ends the session now: no grace for a reconnect."""


@dataclass(slots=True)
class AppCreate:
    """`app.create` -> AppInfo. An ephemeral app (squall run) ends with its session unless `detach`."""

    name: str
    detach: bool = False
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class BlobsHave:
    """`blobs.missing` -> BlobsHave with those that the server lacks (upload them with BlobChunk)."""

    hashes: list[str]


@dataclass(slots=True)
class ManifestPut:
    """`manifest.put` -> Empty. All blobs must be there. The id is checked against the content."""

    id: str
    manifest: Manifest


@dataclass(slots=True)
class ImageEnsure:
    """`image.ensure` -> Empty once a node has the image; BuildLog messages on the way; Failure "build"."""

    image: str
    recipe: Recipe


@dataclass(slots=True)
class AppPublish:
    """`app.publish` -> AppPublished. Into an ephemeral app, or (`deploy`) as a new version under its name.

    `tag` is a label of the version; `tags`, if there are any, replace those of the app. strategy: "rolling"
    (calls that run end on the old version) or "recreate" (its containers end, its calls begin anew).
    """

    app: str
    functions: list[FunctionSpec]
    recipes: dict[str, Recipe] = field(default_factory=dict)
    deploy: bool = False
    tag: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    strategy: str = "rolling"


@dataclass(slots=True)
class AppPublished:
    """Function ids by name, and the version of the app that this made."""

    app: str
    functions: dict[str, str]
    version: int = 1


@dataclass(slots=True)
class AppRef:
    """`app.stop`, `app.get`, `logs.follow`: an app by id or by name (in the session's environment).

    For `app.get` from inside a container, an empty one is the app that the container works for.
    """

    app: str


@dataclass(slots=True)
class AppInfo:
    id: str
    name: str
    state: str
    created: float = 0.0
    version: int = 0
    containers: int = 0
    functions: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    tag: str = ""


@dataclass(slots=True)
class AppVersion:
    """What was deployed once, in wall-clock seconds (0: not known any more)."""

    version: int
    created: float
    tag: str
    functions: list[str]


@dataclass(slots=True)
class AppHistory:
    """`app.history`, the newest version first."""

    versions: list[AppVersion]


@dataclass(slots=True)
class AppRollback:
    """`app.rollback` -> AppPublished: an earlier version once more, as a new one; 0: the one before."""

    app: str
    version: int = 0
    strategy: str = "rolling"


@dataclass(slots=True)
class AppTags:
    """`app.tags` -> AppTags as they are then: replaced by these, or (None) only read."""

    app: str
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class StatsQuery:
    """`app.stats`, `function.stats` -> Stats. `id` of an app or function; wall-clock seconds, 0: no bound.

    `all_variants`: of a function, with its variants.
    """

    id: str
    since: float = 0.0
    until: float = 0.0
    all_variants: bool = False


@dataclass(slots=True)
class Stats:
    """Inputs that ended, by the status of their outcome, and how long they ran, in seconds.

    Counted by the minute since the server began, for a day at most. `backlog` (inputs that wait for a
    container) and `runners` (containers) are of this moment.
    """

    ended: dict[str, int]
    seconds: float
    longest: float
    backlog: int
    runners: int


@dataclass(slots=True)
class FunctionGet:
    """`function.get` -> FunctionInfo, by id."""

    id: str


@dataclass(slots=True)
class AppLookup:
    """`app.lookup` -> AppInfo; makes an empty deployed app where asked."""

    name: str
    create_if_missing: bool = False


@dataclass(slots=True)
class AppList:
    """`app.list` (Empty) -> AppList."""

    apps: list[AppInfo]


@dataclass(slots=True)
class FunctionLookup:
    """`function.lookup` -> FunctionInfo, by the deployed app's and the function's name.

    Calls of the id that comes back run on the newest version of the function; with `version`, on that one.
    """

    app: str
    name: str
    version: int = 0


@dataclass(slots=True)
class FunctionInfo:
    id: str
    app: str
    name: str
    is_generator: bool = False
    version: int = 0
    class_: ClassSpec | None = None


@dataclass(slots=True)
class FunctionVariant:
    """`function.variant` -> FunctionInfo: the function with other options, or a class with these parameters.

    Equal requests give the same id, which has containers of its own. It is good as long as it has calls or
    containers, and for 5 minutes after each request: ask again before that.
    """

    function: str
    parameters: dict[str, Any] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(slots=True)
class FunctionAutoscaler:
    """`function.autoscaler` -> AutoscalerSettings, as they are after the change; None leaves one as it is.

    The change holds for this version of the app.
    """

    function: str
    min_containers: int | None = None
    max_containers: int | None = None
    buffer_containers: int | None = None
    scaledown_window: float | None = None


@dataclass(slots=True)
class CallInfo:
    """`call.get` (CallRef) -> CallInfo: how many inputs it has, how many are done.

    `complete`: no more inputs follow. `ready`: the input that CallRef names is done.
    """

    id: str
    function: str
    kind: str
    inputs: int
    done: int
    complete: bool = True
    ready: bool = False


@dataclass(slots=True)
class CallsQuery:
    """`call.list`: the newest calls of a deployed app's function, of all its versions; `limit` 1 to 1,000."""

    app: str
    function: str
    limit: int = 100


@dataclass(slots=True)
class CallSummary:
    """state: "running", "done" or "cancelled"; "expired" once its results are forgotten."""

    id: str
    kind: str
    state: str
    created: float
    inputs: int
    done: int
    durable: bool


@dataclass(slots=True)
class CallList:
    """Newest first."""

    calls: list[CallSummary]


@dataclass(slots=True)
class CallRef:
    call: str
    index: int = -1


@dataclass(slots=True)
class GraphInput:
    """One input of a call graph. `parent` is the input that made its call; empty at the root.

    status: as Outcome's, or "pending". `container` is empty where it is not known any more.
    """

    input: str
    call: str
    parent: str
    function: str
    module: str
    status: str
    container: str = ""


@dataclass(slots=True)
class CallGraph:
    """`call.graph` (CallRef) -> CallGraph: a call's inputs, those of the calls that they made, and so on."""

    inputs: list[GraphInput]


@dataclass(slots=True)
class ContainerInfo:
    id: str
    app: str
    function: str
    node: str
    state: str
    started: float
    running: int
    cpu_seconds: float | None = None
    memory_peak_bytes: int | None = None


@dataclass(slots=True)
class ContainerList:
    """`container.list` (Empty) -> ContainerList."""

    containers: list[ContainerInfo]


@dataclass(slots=True)
class ContainerRef:
    """`container.stop`: it ends at once, and what it worked on runs again elsewhere."""

    container: str


@dataclass(slots=True)
class NodeInfo:
    id: str
    state: str
    cpu_millis: int
    memory_mib: int
    gpus: dict[str, int]
    driver: str
    losses: list[str]
    containers: int = 0


@dataclass
class Counts:
    apps: int = 0
    containers: int = 0
    waiting_inputs: int = 0


@dataclass(slots=True)
class Status:
    """`status` (Empty) -> Status: what there is of the session's environment.

    `elsewhere` is what the embedded socket is told besides: of all other environments and workspaces.
    `sessions` counts clients outside of containers, the one that asks included.
    """

    version: str
    protocol: int
    workspace: str
    environment: str
    nodes: list[NodeInfo]
    apps: int
    containers: int
    waiting_inputs: int
    sessions: int = 0
    elsewhere: Counts = field(default_factory=Counts)


@dataclass(slots=True)
class WorkspaceCreate:
    """`workspace.create` -> TokenCreated. Only on the embedded socket."""

    name: str


@dataclass(slots=True)
class TokenNew:
    """`token.new` -> TokenCreated. Only on the embedded socket. `role` is "client" or "node"."""

    workspace: str = "default"
    role: str = "client"


@dataclass(slots=True)
class TokenCreated:
    """The secret is shown once and stored only as a hash."""

    workspace: str
    token: str


@dataclass(slots=True)
class LogsFetch:
    """`logs.fetch` -> LogsFetched: the newest `tail` pieces kept of an app or container."""

    app: str
    tail: int = 1000


@dataclass(slots=True)
class LogsRead:
    """`logs.read` -> LogsPage: what is kept of an app's output, oldest first.

    app: id or name. Only of one function (a name), container, or call (a container's output while it worked
    at an input of it); only `fd` (0 the platform, 1, 2; -1: all); from `since` to `until`, wall-clock seconds
    (0: no bound); only pieces after number `after`. Waits up to `wait` seconds for the first.
    """

    app: str
    function: str = ""
    container: str = ""
    call: str = ""
    fd: int = -1
    since: float = 0.0
    until: float = 0.0
    after: int = 0
    wait: float = 0.0


@dataclass(slots=True)
class LogsPage:
    """`upto` is the number to go on after. `live`: the app has not stopped, more may come."""

    items: list[LogItem]
    upto: int
    live: bool


@dataclass(slots=True)
class LogsFetched:
    text: list[tuple[str, str, int, bytes, float]] = field(default_factory=list)


#: Request body and response body of every control method.
METHODS: dict[str, tuple[type, type]] = {
    "app.create": (AppCreate, AppInfo),
    "app.publish": (AppPublish, AppPublished),
    "app.stop": (AppRef, Empty),
    "app.get": (AppRef, AppInfo),
    "app.lookup": (AppLookup, AppInfo),
    "app.list": (Empty, AppList),
    "app.tags": (AppTags, AppTags),
    "app.history": (AppRef, AppHistory),
    "app.rollback": (AppRollback, AppPublished),
    "app.stats": (StatsQuery, Stats),
    "blobs.missing": (BlobsHave, BlobsHave),
    "manifest.put": (ManifestPut, Empty),
    "image.ensure": (ImageEnsure, Empty),
    "function.lookup": (FunctionLookup, FunctionInfo),
    "function.get": (FunctionGet, FunctionInfo),
    "function.stats": (StatsQuery, Stats),
    "function.variant": (FunctionVariant, FunctionInfo),
    "function.autoscaler": (FunctionAutoscaler, AutoscalerSettings),
    "call.get": (CallRef, CallInfo),
    "call.list": (CallsQuery, CallList),
    "call.graph": (CallRef, CallGraph),
    "container.list": (Empty, ContainerList),
    "container.stop": (ContainerRef, Empty),
    "logs.follow": (AppRef, Empty),
    "progress.follow": (AppRef, Empty),
    "logs.fetch": (LogsFetch, LogsFetched),
    "logs.read": (LogsRead, LogsPage),
    "secret.put": (SecretPut, SecretInfo),
    "secret.get": (SecretGet, SecretInfo),
    "secret.list": (Empty, SecretList),
    "secret.delete": (SecretDelete, Empty),
    "secret.rotate": (Empty, Count),
    "status": (Empty, Status),
    "session.close": (Empty, Empty),
    "workspace.create": (WorkspaceCreate, TokenCreated),
    "token.new": (TokenNew, TokenCreated),
}
