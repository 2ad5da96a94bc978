"""A container that only waits (`squall shell`): a function's image, files and resources, without its code."""

from __future__ import annotations

import builtins
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from squall import exception
from squall.sdk import invocation, outcomes, serialization, sharing
from squall.sdk.app import App
from squall.sdk.declaration import MAX_TIMEOUT
from squall.sdk.flows import finish
from squall.sdk.function import Function
from squall.sdk.handles import OfApp
from squall.sdk.modes import BLOCKING
from squall.sdk.source.home import Home
from squall.wire.control import Empty
from squall.wire.values import InputItem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from squall.client.api import Call, Client
    from squall.sdk.ports import Port
    from squall.wire.values import ClassSpec

NAME = "shell"
#: What says how a function runs and scales, and not what its containers have.
_LEFT_OUT = frozenset({
    "name", "serialized", "is_generator", "schedule", "retries", "timeout", "startup_timeout", "max_inputs",
    "min_containers", "max_containers", "buffer_containers", "scaledown_window", "single_use_containers",
})  # fmt: skip
#: Between two looks whether the container is there (seconds).
_LOOK_S = 0.1


class Waiting(Function[..., Any]):
    """Make it with `like`. Its one input sleeps, a day at most."""

    @classmethod
    def like(cls, original: Function[..., Any] | None, changes: Mapping[str, Any]) -> Waiting:
        """For containers with what `original` has, and these options instead; its app is one of its own."""
        of = None if original is None else original.app
        app = App(NAME, image=of and of.image, include_source=of is not None and of.include_source)
        raw_f = time.sleep if original is None else original.get_raw_f()
        waiting = cls(NAME, OfApp(app, NAME), raw_f, is_generator=False)
        options = {} if original is None else original.options
        kept = {name: value for name, value in options.items() if name not in _LEFT_OUT}
        waiting.options = {**kept, **changes, "timeout": MAX_TIMEOUT}
        waiting._home = Home("time", "", is_main=False) if original is None else original.home
        app._register(waiting)
        return waiting

    @property
    def entry(self) -> tuple[str, str]:
        return "time", "sleep"

    @property
    def serialized(self) -> bool:
        return False

    @property
    def sharing(self) -> sharing.Sharing:
        return sharing.Sharing()

    @property
    def class_spec(self) -> ClassSpec | None:
        return None

    @contextmanager
    def container(self) -> Iterator[tuple[Client, str]]:
        """A client and the id of a container, which has ended after the block. The app must run.

        Raises what keeps the container from starting.
        """
        found = finish(self._resolve(BLOCKING, generator=False))
        call = invocation.open_call(found.port, found.function_id, "unary")
        try:
            data = serialization.dump_arguments(NAME, (float(MAX_TIMEOUT),), {}, by_value=False)
            payload = finish(serialization.to_payload(found.port, data))
            call.send([InputItem(0, payload)], last=True)
            yield found.port.client, _ready(found.port, self.app.app_id, call)
        finally:
            invocation.give_up(call)


def _ready(port: Port[Any], app_id: str, call: Call) -> str:
    while True:
        for container in finish(port.request("container.list", Empty())).containers:
            if container.app == app_id and container.state == "ready":
                return str(container.id)
        try:
            item: Any = finish(port.next(call, _LOOK_S))
        except builtins.TimeoutError:
            continue
        finish(outcomes.value_of(port, item.outcome))
        raise exception.ExecutionError("the container ended before a shell could begin: try again")
