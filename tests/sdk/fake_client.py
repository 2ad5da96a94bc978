"""A server in memory with blocking and asyncio clients: it runs functions right here, through pickles."""

# ruff: noqa: ARG002, ARG005 - the signatures are those of the client

from __future__ import annotations

import asyncio
import hashlib
import importlib
import pickle
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from squall import exception
from squall.client.api import AsyncClient, Call, Client, Event, Guest, ServiceRefusal, Watch, YieldItem
from squall.runner import results, targets
from squall.runner.protocol import spool
from squall.server import variants
from squall.server.names import Refusal
from squall.wire import control
from squall.wire import secrets as wire_secrets
from squall.wire.hashing import manifest_id, recipe_id
from squall.wire.values import INLINE_LIMIT, AutoscalerSettings, ErrorInfo, Outcome, OutputItem, Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from squall.runner.protocol.spool import MemoryFile
    from squall.wire.values import FunctionSpec, InputItem, Manifest


def bytes_of(payload: spool.Pickled) -> bytes:
    return payload if isinstance(payload, bytes) else bytes(payload.view())


@dataclass
class FakeApp:
    id: str
    name: str
    deployed: bool = False
    detach: bool = False
    version: int = 0
    stopped: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    tag: str = ""
    specs: dict[str, FunctionSpec] = field(default_factory=dict)

    def info(self) -> control.AppInfo:
        ids = {name: f"fu-{self.id}-{name}" for name in self.specs}
        state = "stopped" if self.stopped else "deployed" if self.deployed else "ephemeral"
        return control.AppInfo(
            self.id,
            self.name,
            state,
            1_700_000_000.0,
            self.version,
            functions=ids,
            tags=self.tags,
            tag=self.tag,
        )


@dataclass
class FakeCall:
    """What the server knows of a call. Outcomes wait here while `server.paused`."""

    id: str
    function: str = ""
    kind: str = ""
    durable: bool = False
    parent: str = ""
    batches: list[int] = field(default_factory=list)
    inputs: dict[int, InputItem] = field(default_factory=dict)
    outputs: list[Event] = field(default_factory=list)
    complete: bool = False
    cancelled: bool = False
    terminated: bool = False
    credits: list[int] = field(default_factory=list)
    most_outstanding: int = 0


class FakeServer:
    """`paused`: inputs are kept and not run, until `run_waiting`. `backwards`: the last of a batch first."""

    def __init__(self) -> None:
        self.apps: dict[str, FakeApp] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.manifests: dict[str, Manifest] = {}
        self.images: list[str] = []
        self.lookups: list[control.FunctionLookup] = []
        self.secrets: dict[str, dict[str, str]] = {}
        self.calls: dict[str, FakeCall] = {}
        self.requests: list[str] = []
        self.refusals: dict[str, ServiceRefusal] = {}
        self.container_app = ""
        self.published: list[control.AppPublish] = []
        self.stats: dict[str, control.Stats] = {}
        self.log_pages: list[control.LogsPage] = []
        self.log_queries: list[control.LogsRead] = []
        self.graph: list[control.GraphInput] = []
        self.attached: list[tuple[int, int | None]] = []
        self.variants: dict[str, FunctionSpec] = {}
        self.autoscalers: dict[str, AutoscalerSettings] = {}
        #: The object of each class, or of each of its variants.
        self.objects: dict[str, targets.Target] = {}
        self.paused = False
        self.backwards = False
        self.outcome: Callable[[InputItem], Outcome | None] = lambda item: None
        self._waiting: list[tuple[FakeCall, InputItem]] = []
        self._lock = threading.RLock()
        self._ids = 0

    # -------------------------------------------------------------------------------------------- control

    def request(self, method: str, body: Any) -> Any:
        with self._lock:
            self.requests.append(method)
            if method in self.refusals:
                raise self.refusals[method]
            assert isinstance(body, control.METHODS[method][0]), method
            result = getattr(self, "_" + method.replace(".", "_"))(body)
            assert isinstance(result, control.METHODS[method][1]), method
            return result

    def _secret_put(self, body: wire_secrets.SecretPut) -> wire_secrets.SecretInfo:
        if body.name and body.mode == "create" and body.name in self.secrets:
            raise ServiceRefusal("exists", f"there is a secret {body.name} already")
        name = body.name or f"nameless-{hash(frozenset(body.values.items()))}"
        before = self.secrets.get(name, {}) if body.mode == "update" else {}
        merged = {**before, **body.values}
        self.secrets[name] = {key: value for key, value in merged.items() if key not in body.removed}
        return wire_secrets.SecretInfo(f"st-{name}", body.name, 1, sorted(self.secrets[name]))

    def _secret_get(self, body: wire_secrets.SecretGet) -> wire_secrets.SecretInfo:
        keys = self.secrets.get(body.name)
        if keys is None or not set(body.required) <= set(keys):
            raise ServiceRefusal("not_found", f"no secret {body.name}, or no {body.required} in it")
        return wire_secrets.SecretInfo(f"st-{body.name}", body.name, 1, sorted(keys))

    def _secret_list(self, body: control.Empty) -> wire_secrets.SecretList:
        names = sorted(name for name in self.secrets if not name.startswith("nameless"))
        return wire_secrets.SecretList([self._secret_get(wire_secrets.SecretGet(name)) for name in names])

    def _secret_delete(self, body: wire_secrets.SecretDelete) -> control.Empty:
        if self.secrets.pop(body.name, None) is None:
            raise ServiceRefusal("not_found", f"no secret {body.name}")
        return control.Empty()

    def _app_create(self, body: control.AppCreate) -> control.AppInfo:
        app = self._new_app(body.name, detach=body.detach)
        app.tags = body.tags
        return app.info()

    def _app_publish(self, body: control.AppPublish) -> control.AppPublished:
        app = self._named(body.app) if body.deploy else self.apps[body.app]
        if app is None:
            app = self._new_app(body.app, deployed=True)
        for image, recipe in body.recipes.items():
            assert recipe_id(recipe) == image
            assert image in self.images
        for spec in body.functions:
            assert spec.image in body.recipes
            assert all(m.manifest in self.manifests for m in spec.mounts)
        self.published.append(body)
        app.tags, app.tag = body.tags or app.tags, body.tag
        app.specs = {spec.name: spec for spec in body.functions}
        app.version += 1
        return control.AppPublished(app.id, app.info().functions, app.version)

    def _app_stop(self, body: control.AppRef) -> control.Empty:
        self.apps[body.app].stopped = True
        return control.Empty()

    def _app_get(self, body: control.AppRef) -> control.AppInfo:
        return self.apps[body.app or self.container_app].info()

    def _app_lookup(self, body: control.AppLookup) -> control.AppInfo:
        app = self._named(body.name)
        if app is None and not body.create_if_missing:
            raise ServiceRefusal("not_found", f"no app {body.name}")
        return (app or self._new_app(body.name, deployed=True)).info()

    def _blobs_missing(self, body: control.BlobsHave) -> control.BlobsHave:
        return control.BlobsHave([h for h in body.hashes if h not in self.blobs])

    def _manifest_put(self, body: control.ManifestPut) -> control.Empty:
        assert manifest_id(body.manifest) == body.id
        assert all(e.sha256 in self.blobs for e in body.manifest.entries)
        self.manifests[body.id] = body.manifest
        return control.Empty()

    def _image_ensure(self, body: control.ImageEnsure) -> control.Empty:
        assert recipe_id(body.recipe) == body.image
        self.images.append(body.image)
        return control.Empty()

    def _function_lookup(self, body: control.FunctionLookup) -> control.FunctionInfo:
        app = self._named(body.app)
        if app is None or body.name not in app.specs:
            raise ServiceRefusal("not_found", f"no function {body.name} in app {body.app}")
        spec = app.specs[body.name]
        function_id = app.info().functions[body.name]
        self.lookups.append(body)
        return control.FunctionInfo(function_id, app.id, body.name, spec.is_generator, class_=spec.class_)

    def _function_variant(self, body: control.FunctionVariant) -> control.FunctionInfo:
        parent = self._spec(body.function)
        try:
            request = variants.checked(parent, body)
        except Refusal as refusal:
            raise ServiceRefusal(refusal.code, refusal.message) from None
        spec = variants.derived(parent, request)
        function_id = variants.id_of(request)
        self.variants[function_id] = spec
        return control.FunctionInfo(function_id, "ap", spec.name, spec.is_generator, class_=spec.class_)

    def _function_autoscaler(self, body: control.FunctionAutoscaler) -> AutoscalerSettings:
        now = self.autoscalers.get(body.function, self._spec(body.function).autoscaler)
        self.autoscalers[body.function] = variants.rescaled(now, body)
        return self.autoscalers[body.function]

    def _call_get(self, body: control.CallRef) -> control.CallInfo:
        call = self.calls.get(body.call)
        if call is None:
            raise ServiceRefusal("not_found", f"no call {body.call}")
        done = {e.index for e in call.outputs if isinstance(e, OutputItem)}
        return control.CallInfo(
            call.id,
            call.function,
            call.kind,
            len(call.inputs),
            len(done),
            complete=call.complete,
            ready=body.index in done,
        )

    def _call_graph(self, body: control.CallRef) -> control.CallGraph:
        return control.CallGraph(self.graph)

    def _app_tags(self, body: control.AppTags) -> control.AppTags:
        app = self.apps[body.app]
        app.tags = app.tags if body.tags is None else body.tags
        return control.AppTags(app.id, app.tags)

    def _app_stats(self, body: control.StatsQuery) -> control.Stats:
        return self.stats[body.id]

    def _function_stats(self, body: control.StatsQuery) -> control.Stats:
        return self.stats[body.id]

    def _function_get(self, body: control.FunctionGet) -> control.FunctionInfo:
        for app in self.apps.values():
            for name, each in app.info().functions.items():
                if each == body.id:
                    generator = app.specs[name].is_generator
                    return control.FunctionInfo(each, app.id, name, generator, app.version)
        if body.id in self.variants:
            return control.FunctionInfo(body.id, "ap", self.variants[body.id].name)
        raise ServiceRefusal("not_found", "no such function")

    def _logs_read(self, body: control.LogsRead) -> control.LogsPage:
        self.log_queries.append(replace(body))
        return self.log_pages.pop(0)

    def _logs_follow(self, body: control.AppRef) -> control.Empty:
        assert body.app in self.apps
        return control.Empty()

    def _progress_follow(self, body: control.AppRef) -> control.Empty:
        assert body.app in self.apps
        return control.Empty()

    def _new_app(self, name: str, *, deployed: bool = False, detach: bool = False) -> FakeApp:
        app = FakeApp(f"ap-{len(self.apps)}", name, deployed, detach)
        self.apps[app.id] = app
        return app

    def _named(self, name: str) -> FakeApp | None:
        found = [a for a in self.apps.values() if a.name == name and a.deployed and not a.stopped]
        return found[0] if found else None

    # ---------------------------------------------------------------------------------------------- blobs

    def upload(self, blob: str, data: bytes | memoryview) -> None:
        assert hashlib.sha256(data).hexdigest() == blob
        self.uploads.append(blob)
        self.blobs[blob] = bytes(data)

    def read(self, payload: Payload) -> bytes:
        return self.blobs[payload.blob] if payload.blob else payload.data

    def write(self, data: bytes) -> Payload:
        if len(data) <= INLINE_LIMIT:
            return Payload(data, size=len(data))
        blob = hashlib.sha256(data).hexdigest()
        self.blobs[blob] = data
        return Payload(blob=blob, size=len(data))

    # ---------------------------------------------------------------------------------------------- calls

    def new_call(self, function: str, kind: str, *, durable: bool, parent: str) -> FakeCall:
        with self._lock:
            self._ids += 1
            call = FakeCall(f"fc-{self._ids:032x}", function, kind, durable, parent)
            self.calls[call.id] = call
            return call

    def inputs(self, call: FakeCall, items: Sequence[InputItem], *, last: bool) -> None:
        with self._lock:
            call.batches.append(len(items))
            call.complete = call.complete or last
            for item in items:
                assert item.index == len(call.inputs)
                call.inputs[item.index] = item
            self._waiting += [(call, item) for item in items]
            if not self.paused:
                self.run_waiting()

    def run_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for call, item in reversed(waiting) if self.backwards else waiting:
                if call.cancelled:
                    call.outputs.append(OutputItem(item.index, Outcome("cancelled")))
                    continue
                outcome = self.outcome(item) or self._run(call, item)
                call.outputs.append(OutputItem(item.index, outcome, trace=item.trace))

    def _run(self, call: FakeCall, item: InputItem) -> Outcome:
        spec = self._spec(call.function)
        try:
            raw = self._load(spec) if spec.class_ is None else self._method(call.function, item.method)
            args, kwargs = spool.load(self.read(item.payload))
            value = raw(*args, **kwargs)
            if hasattr(value, "__await__"):
                value = _awaited(value)
            if call.kind != "generator":
                return Outcome("ok", self.write(pickle.dumps(value, 5)))
            count = 0
            for count, each in enumerate(value, 1):
                call.outputs.append(YieldItem(item.index, count - 1, self.write(pickle.dumps(each, 5))))
            return Outcome("done", yields=count)
        except BaseException as error:
            answer = results.of_exception(error)
            told = ErrorInfo(answer.header["type"], answer.header["message"], answer.header["tb"])
            return Outcome("exception", self.write(bytes_of(answer.payload)), told)

    def _method(self, function_id: str, method: str) -> Any:
        """Of an object that is made and entered once."""
        if function_id not in self.objects:
            spec = self._spec(function_id)
            found = self._load(spec)
            made = targets.instance(getattr(found, "blueprint", found), spec.parameters or {})
            for hook in made.enters:
                value = hook()
                if hasattr(value, "__await__"):
                    _awaited(value)
            self.objects[function_id] = made
        return self.objects[function_id].calls[method]

    def _spec(self, function_id: str) -> FunctionSpec:
        if function_id in self.variants:
            return self.variants[function_id]
        for app in self.apps.values():
            for name, each in app.info().functions.items():
                if each == function_id:
                    return app.specs[name]
        raise AssertionError(function_id)

    def _load(self, spec: FunctionSpec) -> Any:
        if spec.serialized is not None:
            return pickle.loads(self.read(spec.serialized))
        found: Any = importlib.import_module(spec.module)
        for name in spec.qualname.split("."):
            found = getattr(found, name)
        return getattr(found, "raw_f", found)


def _awaited(value: Any) -> Any:
    """In a thread: this one may run a loop already."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(asyncio.run(value)))
    thread.start()
    thread.join()
    return got[0]


class _FakeCallBase(Call):
    def __init__(
        self,
        server: FakeServer,
        call: FakeCall,
        start: int = 0,
        end: int | None = None,
        *,
        opened: bool,
        trace: bool,
    ) -> None:
        self.id = call.id
        self.fake = call
        self.closed = False
        self._server = server
        self._position = 0
        self._start, self._end = start, end
        self._opened = opened
        self._trace = trace
        self._taken = 0

    def send(self, items: Sequence[InputItem], *, last: bool) -> None:
        assert self._opened
        assert not self.fake.complete
        if self._trace:
            for item in items:
                item.trace = [*(item.trace or ()), ("client.send", time.monotonic())]
        self.fake.most_outstanding = max(
            self.fake.most_outstanding, len(self.fake.inputs) + len(items) - self._taken
        )
        self._server.inputs(self.fake, items, last=last)

    def take(self) -> Event | None:
        failure = self._server.refusals.get("call")
        if failure is not None:
            raise failure
        while self._position < len(self.fake.outputs):
            event = self.fake.outputs[self._position]
            self._position += 1
            if event.index >= self._start and (self._end is None or event.index < self._end):
                self._taken += isinstance(event, OutputItem)
                return event
        return None

    def credit(self, index: int, upto: int) -> None:
        assert index == 0
        self.fake.credits.append(upto)

    def cancel(self, *, terminate: bool = False) -> None:
        self.fake.cancelled = True
        self.fake.terminated = terminate

    def close(self) -> None:
        self.closed = True

    def next(self, timeout: float | None = None) -> Event:
        raise AssertionError("not a blocking call")

    async def next_async(self, timeout: float | None = None) -> Event:
        raise AssertionError("not an asyncio call")

    def accepted(self, upto: int, timeout: float | None = None) -> None:
        raise AssertionError("not a blocking call")

    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:
        raise AssertionError("not an asyncio call")


class FakeBlockingCall(_FakeCallBase):
    def next(self, timeout: float | None = None) -> Event:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (event := self.take()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise exception.TimeoutError("nothing came")
            time.sleep(0.0005)
        return event

    def accepted(self, upto: int, timeout: float | None = None) -> None:
        assert self.fake.durable
        assert len(self.fake.inputs) >= upto


class FakeAsyncCall(_FakeCallBase):
    async def next_async(self, timeout: float | None = None) -> Event:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (event := self.take()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise exception.TimeoutError("nothing came")
            await asyncio.sleep(0.0005)
        return event

    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:
        assert self.fake.durable
        assert len(self.fake.inputs) >= upto


class FakeClient(Client):
    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.watch = Watch()
        self.workspace, self.environment = "default", "main"
        self.opened: deque[_FakeCallBase] = deque()

    def open_call(
        self, function_id: str, kind: str, *, durable: bool = False, parent: str = "", trace: bool = False
    ) -> Call:
        call = self.server.new_call(function_id, kind, durable=durable, parent=parent)
        self.opened.append(FakeBlockingCall(self.server, call, opened=True, trace=trace))
        return self.opened[-1]

    def attach_call(self, call_id: str, start: int = 0, end: int | None = None, *, parent: str = "") -> Call:
        del parent
        self.server.attached.append((start, end))
        fake = self.server.calls[call_id]
        return FakeBlockingCall(self.server, fake, start, end, opened=False, trace=False)

    def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        return self.server.request(method, body)

    def upload(self, blob: str, data: bytes | memoryview) -> None:
        self.server.upload(blob, data)

    def offer(self, file: MemoryFile) -> str:
        return ""

    def download(self, blob: str) -> bytes:
        return self.server.blobs[blob]

    def join(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Guest:
        raise AssertionError(f"nobody joins {container} here: {argv}, {env}, {terminal}")

    def close(self) -> None:
        pass


class FakeAsyncClient(AsyncClient):
    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.watch = Watch()
        self.workspace, self.environment = "default", "main"
        self.closed = False
        self.opened: deque[_FakeCallBase] = deque()

    def open_call(
        self, function_id: str, kind: str, *, durable: bool = False, parent: str = "", trace: bool = False
    ) -> Call:
        call = self.server.new_call(function_id, kind, durable=durable, parent=parent)
        self.opened.append(FakeAsyncCall(self.server, call, opened=True, trace=trace))
        return self.opened[-1]

    def attach_call(self, call_id: str, start: int = 0, end: int | None = None, *, parent: str = "") -> Call:
        del parent
        self.server.attached.append((start, end))
        fake = self.server.calls[call_id]
        return FakeAsyncCall(self.server, fake, start, end, opened=False, trace=False)

    async def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        await asyncio.sleep(0)
        return self.server.request(method, body)

    async def upload(self, blob: str, data: bytes | memoryview) -> None:
        self.server.upload(blob, data)

    async def offer(self, file: MemoryFile) -> str:
        return ""

    async def download(self, blob: str) -> bytes:
        return self.server.blobs[blob]

    async def close(self) -> None:
        self.closed = True
