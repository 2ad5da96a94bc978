"""Which inputs wait for others that they called.

A container all of whose inputs wait lends its CPU, and only to inputs that somebody waits for: given to
others it would make room for still more that waits. Memory and GPUs it keeps. When it goes on before the
borrower has ended, the node has more to do than CPU for a while, which containers share by weight; nothing
more is placed there until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squall.scheduling.state import Container, Input


class Nesting:
    """Keeps `Input.awaits`, `Input.waiters`, `Input.depth` and `Container.waiting` in step."""

    def __init__(self, inputs: Mapping[str, Input], containers: Mapping[str, Container]) -> None:
        self._inputs = inputs
        self._containers = containers
        #: The inputs that wait for others; each is in a container.
        self.waiting: set[str] = set()
        self._resumed: set[str] = set()

    def wait(self, parent: Input, container: Container, children: Iterable[str]) -> list[Input]:
        """The parent, in this container, waits for these; which of them are unfinished."""
        found = [self._inputs[i] for i in children if i in self._inputs]
        for child in found:
            if parent.awaits is None:
                parent.awaits = set()
            parent.awaits.add(child.id)
            child.depth = max(child.depth, parent.depth + 1)
            if parent.id not in child.waiters:
                child.waiters = (*child.waiters, parent.id)
        if found:
            parent.started = True
            container.waiting.add(parent.id)
            self.waiting.add(parent.id)
        return found

    def ended(self, child: Input) -> None:
        """Nobody waits for it any more."""
        for parent_id in child.waiters:
            parent = self._inputs[parent_id]
            assert parent.awaits is not None
            assert parent.container is not None
            parent.awaits.discard(child.id)
            if not parent.awaits:
                self._resume(parent, self._containers.get(parent.container))
        child.waiters = ()

    def stop(self, parent: Input, container: Container) -> list[Input]:
        """It waits no more: it leaves its container. Returns the inputs that nobody waits for now."""
        children = [self._inputs[child_id] for child_id in parent.awaits or ()]
        for child in children:
            child.waiters = tuple(w for w in child.waiters if w != parent.id)
        self._resume(parent, container)
        return [child for child in children if not child.waiters]

    def take_resumed(self) -> set[str]:
        """The functions of which an input has ceased to wait since this was asked last."""
        resumed, self._resumed = self._resumed, set()
        return resumed

    def _resume(self, parent: Input, container: Container | None) -> None:
        """`container` None: it is no more."""
        parent.awaits = None
        if container is not None:
            container.waiting.discard(parent.id)
        if parent.id in self.waiting:
            self.waiting.remove(parent.id)
            self._resumed.add(parent.function)
