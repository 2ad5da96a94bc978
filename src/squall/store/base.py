"""The interfaces of durable state. Every record has a workspace and an environment from the first schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence


class StoreError(Exception):
    """State could not be read or written (disk full, read-only, corrupt, newer schema): one line."""


class NotFound(Exception):
    """No such record."""


@dataclass(frozen=True)
class Workspace:
    """A tenant. `uid_index` picks its range of 65,536 host uids; it is never given to another."""

    name: str
    uid_index: int


@dataclass(frozen=True)
class Identity:
    """Whom a token speaks for. role: "client" or "node"."""

    workspace: str
    role: str


@dataclass(frozen=True)
class AppRecord:
    """state: "ephemeral", "detached", "deployed" or "stopped". `created` in wall-clock seconds.

    `tags` are the user's labels of the app, `tag` that of its newest version.
    """

    id: str
    workspace: str
    environment: str
    name: str
    state: str
    created: float
    version: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    tag: str = ""


@dataclass(frozen=True)
class VersionRecord:
    """That a version of an app was published, in wall-clock seconds; 0 for those of before schema 6."""

    app: str
    version: int
    created: float
    tag: str


@dataclass(frozen=True)
class FunctionRecord:
    """One function of one version of an app; `spec` and `recipe` are msgpack of wire values.

    A variant names its `parent`, has that one's name, and in `variant` the msgpack of the request for it;
    spec and recipe follow from these and are empty. `autoscaler` is the msgpack of settings that were changed
    since the function was published; empty: none were. `blob`: where its code is, if it is in a blob.
    """

    id: str
    app: str
    workspace: str
    environment: str
    name: str
    version: int
    spec: bytes
    recipe: bytes
    parent: str = ""
    variant: bytes = b""
    autoscaler: bytes = b""
    blob: str = ""


@dataclass(frozen=True)
class CallRecord:
    """A durable call (spawn). `parent` is the input that made it; `expired`: nothing else of it is left."""

    id: str
    workspace: str
    environment: str
    function: str
    kind: str
    created: float
    parent: str = ""
    complete: bool = True
    cancelled: bool = False
    expired: bool = False


@dataclass(frozen=True)
class InputRecord:
    """An input of a durable call: `payload` is msgpack of a wire InputItem, `blob` the one that it names."""

    call: str
    index: int
    payload: bytes
    attempt: int = 0
    blob: str = ""


@dataclass(frozen=True)
class OutputRecord:
    """`payload` is msgpack of a wire OutputItem, `blob` the one that it names."""

    call: str
    index: int
    payload: bytes
    created: float
    blob: str = ""


@dataclass(frozen=True)
class SecretRecord:
    """A secret: the names of its variables, and its values `sealed` with a key that no store has.

    Without a `name` it lives as long as an app uses it. Wall-clock seconds.
    """

    id: str
    workspace: str
    environment: str
    name: str
    version: int
    keys: tuple[str, ...]
    sealed: bytes
    created: float
    updated: float


class Store(ABC):
    """Records. Writes return after they are synced to disk (group commit); reads see all finished writes."""

    @abstractmethod
    async def open(self) -> None:
        """Open and migrate. Raises StoreError for a corrupt or newer database."""

    @abstractmethod
    async def close(self) -> None: ...

    # workspaces and tokens
    @abstractmethod
    async def create_workspace(self, name: str) -> Workspace:
        """A new workspace with the next uid index; the same one again if the name exists."""

    @abstractmethod
    async def workspace(self, name: str) -> Workspace:
        """Raises NotFound."""

    @abstractmethod
    async def add_token(self, token_hash: str, identity: Identity) -> None: ...

    @abstractmethod
    async def identify(self, token_hash: str) -> Identity:
        """Raises NotFound."""

    # nodes
    @abstractmethod
    async def add_node(self, node: str) -> None:
        """It may run inputs from now on."""

    @abstractmethod
    async def remove_node(self, node: str) -> None:
        """It runs nothing any more."""

    @abstractmethod
    async def nodes(self) -> list[str]:
        """Those added and not removed, by id."""

    # apps and functions
    @abstractmethod
    async def put_app(self, app: AppRecord) -> None:
        """Insert or replace by id."""

    @abstractmethod
    async def app(self, app_id: str) -> AppRecord:
        """Raises NotFound."""

    @abstractmethod
    async def app_by_name(self, workspace: str, environment: str, name: str) -> AppRecord:
        """The deployed app of that name. Raises NotFound."""

    @abstractmethod
    async def apps(self, workspace: str | None = None, states: Sequence[str] = ()) -> list[AppRecord]:
        """Newest first; of all workspaces without `workspace`, in any state without `states`."""

    @abstractmethod
    async def publish(self, app: AppRecord, functions: Sequence[FunctionRecord], created: float) -> None:
        """The app's new state, a version and its functions, in one transaction."""

    @abstractmethod
    async def versions(self, app_id: str) -> list[VersionRecord]:
        """The newest first."""

    @abstractmethod
    async def function(self, function_id: str) -> FunctionRecord:
        """Raises NotFound."""

    @abstractmethod
    async def functions(self, app_id: str, version: int | None = None) -> list[FunctionRecord]:
        """Those of a version, the newest without one; variants too."""

    @abstractmethod
    async def put_function(self, function: FunctionRecord) -> None:
        """Insert or replace by id."""

    @abstractmethod
    async def remove_functions(self, function_ids: Sequence[str]) -> None:
        """Forget them; unknown ones are no error."""

    # secrets
    @abstractmethod
    async def put_secret(self, secret: SecretRecord) -> None:
        """Insert, or replace the one with this id. Raises StoreError when another one has the name."""

    @abstractmethod
    async def secret(self, workspace: str, secret_id: str) -> SecretRecord:
        """Raises NotFound, also for one of another workspace."""

    @abstractmethod
    async def secrets(self, workspace: str, environment: str) -> list[SecretRecord]:
        """Those with names, by name."""

    @abstractmethod
    async def all_secrets(self) -> list[SecretRecord]:
        """Of all workspaces, also those without names."""

    @abstractmethod
    async def remove_secret(self, secret_id: str) -> None: ...

    @abstractmethod
    async def use_secrets(self, app: str, secret_ids: Sequence[str]) -> None:
        """From now on the app uses these; unknown ones are no error."""

    @abstractmethod
    async def release_secrets(self, app: str, before: float) -> None:
        """The app uses none any more. Those without names that no app uses and that are older than `before`
        (wall-clock seconds) are forgotten; `app` may be empty.
        """

    # manifests
    @abstractmethod
    async def put_manifest(
        self, workspace: str, manifest_id: str, data: bytes, blobs: Collection[str] = ()
    ) -> None:
        """`blobs`: the files that it names."""

    @abstractmethod
    async def manifest(self, workspace: str, manifest_id: str) -> bytes:
        """Raises NotFound: a hash is not a permission, a workspace sees its own manifests only."""

    # durable calls
    @abstractmethod
    async def add_inputs(self, call: CallRecord, inputs: Sequence[InputRecord]) -> None:
        """Insert the call if new, and inputs that are not there yet; synced on return.

        `complete` sticks. Raises NotFound when the id is a call of another workspace or environment.
        """

    @abstractmethod
    async def add_calls(self, calls: Sequence[tuple[CallRecord, Sequence[InputRecord]]]) -> set[str]:
        """Insert new calls, each with inputs of its own, in one transaction; synced on return.

        The ids of those whose id was taken already: of them nothing was written.
        """

    @abstractmethod
    async def set_attempts(self, attempts: Sequence[tuple[str, int, int]]) -> None:
        """(call, index, attempt): the number of the last attempt that was dispatched."""

    @abstractmethod
    async def add_outputs(self, outputs: Sequence[OutputRecord], *, lazy: bool = False) -> None:
        """Of each input the first output stays; those of unknown inputs are dropped. Synced on return.

        `lazy`: nobody waits for them, so they may wait a moment for another write to be synced with.
        """

    @abstractmethod
    async def cancel_call(self, call_id: str) -> None: ...

    @abstractmethod
    async def call(self, call_id: str) -> CallRecord:
        """Raises NotFound."""

    @abstractmethod
    async def calls_of(self, app_id: str, function: str, limit: int) -> list[CallRecord]:
        """The durable calls of a function by name, of all versions of its app and variants, newest first."""

    @abstractmethod
    async def children(self, call_id: str) -> list[CallRecord]:
        """The durable calls that a call's inputs have made, oldest first."""

    @abstractmethod
    async def call_outputs(
        self, call_id: str, start: int = 0, end: int | None = None, limit: int | None = None
    ) -> list[OutputRecord]:
        """Of the inputs from `start` up to and without `end`, by index; the first `limit` of them."""

    @abstractmethod
    async def call_size(self, call_id: str) -> tuple[int, int]:
        """(inputs, outputs)."""

    @abstractmethod
    async def unfinished(self) -> list[tuple[CallRecord, list[InputRecord]]]:
        """All durable calls with inputs that have no output yet, oldest first: cancelled ones too, which a
        server that starts has to end.
        """

    @abstractmethod
    async def expire(self, before: float, forget: float) -> int:
        """Forget what calls have that are done and whose newest output is older than `before` (wall-clock
        seconds); returns how many. That they were there is remembered, for those made after `forget`.
        A call that is not done loses nothing: its inputs would run again. Stopped apps made before `forget`
        go, with their functions.
        """

    @abstractmethod
    async def named_blobs(self) -> set[BlobKey]:
        """What records need: arguments of inputs that are not done, results, functions' code, sources."""


#: A blob: the name of its workspace, and its hash.
BlobKey = tuple[str, str]


class Blobs(ABC):
    """Content by its SHA-256, kept per workspace."""

    async def open(self) -> None:  # noqa: B027 - what needs no place has nothing to do
        """Make the place and clear what was never finished. Raises StoreError."""

    async def close(self) -> None:  # noqa: B027 - see open
        """Finish what is under way."""

    @abstractmethod
    async def has(self, workspace: str, blob: str) -> bool: ...

    @abstractmethod
    async def begin(self, workspace: str, blob: str) -> Upload:
        """Start an upload. Several of the same blob at once are fine."""

    @abstractmethod
    def read(self, workspace: str, blob: str, chunk: int) -> AsyncIterator[bytes]:
        """Its bytes in pieces. Raises NotFound, StoreError."""

    @abstractmethod
    async def size(self, workspace: str, blob: str) -> int:
        """Bytes. Raises NotFound."""

    @abstractmethod
    async def all(self) -> list[BlobKey]:
        """Of all workspaces, whole ones."""

    @abstractmethod
    async def remove(self, blobs: Sequence[BlobKey]) -> int:
        """Delete them, unless a backup is being made; returns how many. One that is gone is no error."""


class Upload(ABC):
    """A blob on its way in; visible only after `finish`."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Append. Raises StoreError (disk full)."""

    @abstractmethod
    async def finish(self) -> None:
        """Check the hash, sync, publish. Raises ValueError when the content is not what the id says."""

    @abstractmethod
    async def abort(self) -> None:
        """Forget what was written."""
