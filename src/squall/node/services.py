"""What every container needs of its agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from squall.node.files import Sources
    from squall.node.gpus import Gpus
    from squall.node.images import Images
    from squall.node.link import Link
    from squall.node.logs import Logs
    from squall.node.parcels import Parcels
    from squall.node.reports import Reports
    from squall.node.settings import Settings
    from squall.node.transfers import Transfers
    from squall.runtime.driver import Runtime


@dataclass(frozen=True)
class Services:
    """`squall` is the folder with copies of the package and of cloudpickle, made for containers."""

    settings: Settings
    runtime: Runtime
    link: Link
    transfers: Transfers
    parcels: Parcels
    reports: Reports
    logs: Logs
    sources: Sources
    images: Images
    squall: Path
    gpus: Gpus
