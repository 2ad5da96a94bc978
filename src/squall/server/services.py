"""What handlers of requests may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squall.scheduling import Scheduler
    from squall.server.apps import Apps
    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.clock import Clock
    from squall.server.guests import Guests
    from squall.server.images import Images
    from squall.server.logs import AppLogs
    from squall.server.nodes import Nodes
    from squall.server.progress import AppProgress
    from squall.server.secrets import Secrets
    from squall.server.sessions import Sessions
    from squall.store.base import Blobs, Store


@dataclass(frozen=True)
class Services:
    store: Store
    blobs: Blobs
    clock: Clock
    scheduler: Scheduler
    catalog: Catalog
    apps: Apps
    table: CallTable
    images: Images
    logs: AppLogs
    progress: AppProgress
    nodes: Nodes
    sessions: Sessions
    secrets: Secrets
    guests: Guests
