"""Images: each is built once however many ask, on one node, and its log goes to all who wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.server.config import recipe_manifests
from squall.server.names import Refusal, check_image
from squall.wire.hashing import recipe_id
from squall.wire.messages import BuildImage, BuildLog, Notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.server.catalog import Catalog
    from squall.server.clock import Clock
    from squall.server.node import Node
    from squall.server.session import Session
    from squall.server.settings import Settings
    from squall.wire.messages import ImageDone
    from squall.wire.values import Recipe

#: Bytes of a running build's log that somebody who asks later still gets.
REPLAY_BYTES = 64 << 10
#: A waiting reader who is this far behind misses the rest of the log.
READER_BYTES = 8 << 20


@dataclass(eq=False)
class _Build:
    """`node` is None while none is there. `done` has the node's word, None when the node was lost."""

    request: BuildImage
    node: Node | None = None
    done: asyncio.Future[ImageDone | None] = field(default_factory=asyncio.Future)
    sessions: list[Session] = field(default_factory=list)
    log: list[BuildLog] = field(default_factory=list)
    size: int = 0


class Images:
    def __init__(self, catalog: Catalog, clock: Clock, settings: Settings) -> None:
        self._catalog = catalog
        self._clock = clock
        self._settings = settings
        self._nodes: dict[str, Node] = {}
        self._arrival = asyncio.Event()
        self._builds: dict[str, _Build] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, session: Session, image: str, recipe: Recipe) -> None:
        """The image is on a node on return. Raises Refusal "build", "unavailable"."""
        check_image(image)
        if recipe_id(recipe) != image:
            raise Refusal("invalid", f"the recipe of image {image[:40]} is another one")
        manifests = await self._catalog.manifests(session.workspace, recipe_manifests(recipe))
        uid_base = await self._catalog.uid_base(session.workspace)
        if any(image in node.images for node in self._nodes.values()):
            return
        build = self._builds.get(image)
        if build is None:
            build = _Build(BuildImage(image, recipe, session.workspace, manifests, uid_base))
            self._builds[image] = build
            self._asking[image] = asyncio.get_running_loop().create_task(self._run(image, build))
        session.send(*build.log)
        build.sessions.append(session)
        try:
            await asyncio.shield(self._asking[image])
        finally:
            build.sessions.remove(session)

    async def _run(self, image: str, build: _Build) -> None:
        """Try until a node has answered: one that is lost says nothing about the image."""
        try:
            while True:
                build.node = await self._choose(build)
                build.node.send(build.request)
                done = await build.done
                if done is not None:
                    break
                build.node, build.done = None, asyncio.get_running_loop().create_future()
        finally:
            del self._builds[image], self._asking[image]
        if done.error:
            raise Refusal("build", f"{done.error}\n{done.tail}".rstrip())
        build.node.images.add(image)

    async def _choose(self, build: _Build) -> Node:
        """The node with the fewest builds; waits for one to connect."""
        deadline = self._clock.now() + self._settings.patience
        told = False
        while not self._nodes:
            left = deadline - self._clock.now()
            if left <= 0:
                raise Refusal("unavailable", "no node is connected that could build the image: start one")
            if not told:
                told = True
                for session in build.sessions:
                    session.send(Notice("", "the image waits for a node to connect"))
            await self._wait_for_arrival(left)
        busy = [b.node for b in self._builds.values()]
        return min(self._nodes.values(), key=lambda node: (busy.count(node), node.id))

    async def _wait_for_arrival(self, seconds: float) -> None:
        self._arrival.clear()
        timer = self._clock.call_later(seconds, self._arrival.set)
        try:
            await self._arrival.wait()
        finally:
            timer.cancel()

    # ----------------------------------------------------------------------------------------------- nodes

    def node_joined(self, node: Node) -> None:
        """New or back: a request that got lost with its connection is repeated; equal ones are built once."""
        self._nodes[node.id] = node
        self._arrival.set()
        for build in self._on(node):
            node.send(build.request)

    def node_lost(self, node: Node) -> None:
        if self._nodes.get(node.id) is node:
            del self._nodes[node.id]
        for build in self._on(node):
            if not build.done.done():
                build.done.set_result(None)

    def done(self, node: Node, message: ImageDone) -> None:
        build = self._builds.get(message.image)
        if build is not None and build.node is node and not build.done.done():
            build.done.set_result(message)
        elif not message.error:
            node.images.add(message.image)

    def log(self, node: Node, message: BuildLog) -> None:
        build = self._builds.get(message.image)
        if build is None or build.node is not node:
            return
        build.log.append(message)
        build.size += len(message.data)
        while build.size > REPLAY_BYTES and len(build.log) > 1:
            build.size -= len(build.log.pop(0).data)
        for session in set(build.sessions):
            if session.buffered() < READER_BYTES:
                session.send(message)

    def workspaces(self, node: Node) -> set[str]:
        """Whose builds run there."""
        return {build.request.workspace for build in self._on(node)}

    def _on(self, node: Node) -> Iterator[_Build]:
        return (build for build in list(self._builds.values()) if build.node is node)

    async def close(self) -> None:
        """Nobody waits any more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
