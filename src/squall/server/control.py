"""The control plane, put together: what is accepted, by whom it is served, how it starts and ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from squall import __version__
from squall.scheduling import Scheduler
from squall.server.announce import Announcements
from squall.server.apps import LIVE, Apps
from squall.server.attachments import Attachments
from squall.server.attempts import AttemptLog
from squall.server.calls import Calls
from squall.server.calltable import CallTable
from squall.server.catalog import Catalog
from squall.server.client import ClientLink
from squall.server.clock import Clock, LoopClock
from squall.server.connection import Acceptor, Connection, Listener
from squall.server.dispatch import Dispatcher
from squall.server.door import Door
from squall.server.drain import Drain
from squall.server.guests import Guests
from squall.server.images import Images
from squall.server.logs import AppLogs
from squall.server.names import Refusal, new_id
from squall.server.nodelink import NodeLink, NodeServices
from squall.server.nodes import Nodes
from squall.server.outputs import OutputRouter
from squall.server.parcels import Content, Parcels
from squall.server.progress import AppProgress
from squall.server.recovery import HoldingPen, Recovery
from squall.server.secrets import Secrets
from squall.server.services import Services
from squall.server.sessions import Sessions
from squall.server.settings import Settings
from squall.server.spawns import Spawns
from squall.server.succession import Succession
from squall.server.sweep import KeptBlobs, Sweep
from squall.server.tasks import Strands, Tasks
from squall.server.vault import Vault
from squall.wire.messages import Welcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.auth import Authenticator
    from squall.server.model import Container
    from squall.store.base import Blobs, Identity, Store
    from squall.wire.messages import Hello

log = logging.getLogger("squall.server")

#: Seconds between looks for results that have expired.
EXPIRY_INTERVAL = 3_600.0
#: Seconds that work under way gets to end when the server stops.
LAST_WORK = 5.0


class ControlPlane(Acceptor):
    """`start` before the first connection, `stop` after the last."""

    _drain: Drain | None = None

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        authenticator: Authenticator,
        *,
        clock: Clock | None = None,
        settings: Settings | None = None,
        vault: Vault | None = None,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._clock = clock = clock or LoopClock()
        self._settings = settings = settings or Settings()
        blobs = KeptBlobs(blobs, clock)
        self._tasks = tasks = Tasks()
        strands = Strands(tasks)
        scheduler = Scheduler(lambda: new_id("ct"))
        dispatcher = Dispatcher(scheduler, clock)
        self._secrets = Secrets(store, vault or Vault.in_memory(), clock)
        catalog = Catalog(store, dispatcher, clock, self._secrets)
        self._pen = pen = HoldingPen(dispatcher)
        self._apps = Apps(store, blobs, catalog, clock, tasks, self._secrets)
        self.parcels = Parcels()
        content = Content(blobs, self.parcels)
        table = CallTable(catalog, self._apps, clock.wall, self.parcels, blobs)
        self._sweep = Sweep(blobs, store, table, clock, tasks)
        router = OutputRouter(table, store, dispatcher, clock, tasks)
        self._apps.replace_function = Succession(table, dispatcher, router).replace
        self._attachments = Attachments(table, catalog, dispatcher, store, strands)
        self._calls = Calls(
            table, self._attachments, router, catalog, pen, dispatcher, store, blobs, strands, clock, settings
        )
        self._spawns = Spawns(self._calls, table, catalog, self._pen, dispatcher, store, strands, settings)
        logs = AppLogs(settings)
        self._sessions = Sessions(self._apps, self._calls, logs, clock, settings)
        self._images = Images(catalog, clock, settings)
        attempts, images = AttemptLog(store, tasks), self._images
        self._nodes = nodes = Nodes(
            table, catalog, images, dispatcher, attempts, store, tasks, clock, settings, self._secrets
        )
        nodes.on_container_gone = self._container_gone
        self._guests = Guests(catalog, nodes)
        announcements = self._announcements(table, catalog, dispatcher)
        self._for_nodes = self._node_services(announcements, router, logs, dispatcher, content, strands)
        self._services = Services(
            store,
            blobs,
            clock,
            scheduler,
            catalog,
            self._apps,
            table,
            self._images,
            logs,
            AppProgress(table, self._nodes, dispatcher, clock),
            self._nodes,
            self._sessions,
            self._secrets,
            self._guests,
        )
        self._recovery = Recovery(store, catalog, table, self._pen, clock, tasks)

    def _node_services(
        self,
        announcements: Announcements,
        router: OutputRouter,
        logs: AppLogs,
        dispatcher: Dispatcher,
        content: Content,
        strands: Strands,
    ) -> NodeServices:
        nodes, images, tasks, guests = self._nodes, self._images, self._tasks, self._guests
        return NodeServices(
            self, nodes, announcements, router, images, logs, dispatcher, content, tasks, strands, guests
        )

    def _announcements(self, table: CallTable, catalog: Catalog, dispatcher: Dispatcher) -> Announcements:
        clock, settings = self._clock, self._settings
        return Announcements(
            self._nodes,
            table,
            self._calls,
            catalog,
            self._images,
            self._pen,
            dispatcher,
            self._store,
            clock,
            settings,
        )

    # ------------------------------------------------------------------------------------------- life cycle

    async def start(self) -> None:
        """Take up what an earlier server left. Raises StoreError."""
        await self._recovery.load_apps(LIVE)
        await self._recovery.load_calls()
        await self._apps.keep_warm(list(self._services.catalog.functions.values()))
        await self._recovery.expect_nodes(self._settings.adoption)
        self._clock.call_later(self._settings.grace, self._apps.stop_orphans)
        self._clock.call_later(self._settings.grace, self._calls.complete_orphans)
        self._start_expiry()
        self._sweep.start()

    async def stop(self) -> None:
        """Finish what is being written; all else survives, or its clients offer it again."""
        await self._images.close()
        await self._tasks.settle(LAST_WORK)
        self.parcels.close()

    def drain(self, done: Callable[[], None]) -> None:
        """No new clients; call `done` when what is under way has ended."""
        log.info("no new clients: ends when what is under way has ended")
        if self._drain is None:
            self._drain = Drain(self._services.table, self._nodes, self._clock)
            self._drain.begin(done)

    def _start_expiry(self) -> None:
        self._tasks.spawn(self._expire())

    async def _expire(self) -> None:
        now, settings = self._clock.wall(), self._settings
        count = await self._store.expire(now - settings.retention, now - settings.remembrance)
        await self._secrets.release()
        if count:
            log.info("results of %d calls have expired", count)
        self._clock.call_later(EXPIRY_INTERVAL, self._start_expiry)

    # ---------------------------------------------------------------------------------------- connections

    def accept(self, connection: Connection) -> Listener:
        return Door(
            connection, self._authenticator, self._enter, self._clock, self._tasks, self._settings.hello
        )

    def _enter(self, connection: Connection, hello: Hello, identity: Identity | None) -> Listener:
        if identity is None:
            return self._nested(connection, hello)
        if identity.role == "node":
            connection.send(
                self._welcome(hello.session or new_id("se"), identity.workspace, hello.environment)
            )
            return NodeLink(connection, self._for_nodes)
        admin = connection.peer.kind == "unix" and not hello.token
        return self._client(connection, hello, identity.workspace, hello.environment, admin=admin)

    def _nested(self, connection: Connection, hello: Hello) -> Listener:
        """A client inside a container speaks for its workspace and environment, whatever it says."""
        container = self._nodes.containers.get(connection.peer.container)
        if container is None or hello.role != "client":
            raise Refusal("auth", "only clients of running containers may come this way")
        record = container.function.app.record
        return self._client(connection, hello, record.workspace, record.environment, container.id)

    def _client(
        self,
        connection: Connection,
        hello: Hello,
        workspace: str,
        environment: str,
        container: str = "",
        *,
        admin: bool = False,
    ) -> Listener:
        if self._drain is not None and not hello.session and not container:
            raise Refusal("unavailable", "the server is about to be replaced: try again in a moment")
        session = self._sessions.open(hello.session, workspace, environment, container, admin=admin)
        session.parcels = admin and hello.parcels
        link = ClientLink(
            connection,
            session,
            self._services,
            self._calls,
            self._spawns,
            self._attachments,
            self._tasks,
        )
        self._sessions.connect(session, connection)
        connection.send(self._welcome(session.id, workspace, environment))
        self._attachments.resume(session)
        return link

    def _welcome(self, session: str, workspace: str, environment: str) -> Welcome:
        settings = self._settings
        return Welcome(session, __version__, workspace, environment, settings.heartbeat, settings.lease)

    def _container_gone(self, container: Container) -> None:
        link = self._for_nodes.links.get(container.node)
        if link is not None:
            link.container_gone(container.id)
        self._guests.container_gone(container)
        self._sessions.container_gone(container.id)
