"""blobs.*, manifest.* and image.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.names import Refusal, check_blob
from squall.server.requests.registry import handles
from squall.wire import codec
from squall.wire.control import BlobsHave, Empty
from squall.wire.hashing import manifest_id

if TYPE_CHECKING:
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import ImageEnsure, ManifestPut
    from squall.wire.values import FileEntry

#: Hashes that one question may hold, and files of one manifest.
MAX_HASHES = 100_000
MAX_FILES = 100_000


@handles("blobs.missing")
async def missing(services: Services, session: Session, body: BlobsHave) -> BlobsHave:
    if len(body.hashes) > MAX_HASHES:
        raise Refusal("invalid", f"{len(body.hashes)} hashes at once: ask for {MAX_HASHES} at most")
    lacking = [h for h in body.hashes if not await services.blobs.has(session.workspace, check_blob(h))]
    return BlobsHave(lacking)


@handles("manifest.put")
async def put_manifest(services: Services, session: Session, body: ManifestPut) -> Empty:
    entries = body.manifest.entries
    if len(entries) > MAX_FILES:
        raise Refusal("invalid", f"a manifest of {len(entries)} files: {MAX_FILES} at most")
    for entry in entries:
        _check_entry(entry)
    if len({entry.path for entry in entries}) != len(entries):
        raise Refusal("invalid", "a manifest names one path twice")
    if manifest_id(body.manifest) != body.id:
        raise Refusal("invalid", "the manifest's id is that of another one")
    blobs = {entry.sha256 for entry in entries}
    for blob in blobs:
        if not await services.blobs.has(session.workspace, blob):
            raise Refusal("not_found", f"blob {blob[:12]} of the manifest is not here: upload it first")
    await services.store.put_manifest(session.workspace, body.id, codec.pack(body.manifest), blobs)
    return Empty()


def _check_entry(entry: FileEntry) -> None:
    check_blob(entry.sha256)
    parts = entry.path.split("/")
    if (
        not entry.path
        or len(entry.path) > 4096
        or "\0" in entry.path
        or any(p in ("", ".", "..") for p in parts)
    ):
        raise Refusal("invalid", f"no path below a manifest's root: {entry.path[:80]!r}")
    if entry.size < 0 or entry.mode & ~0o777:
        raise Refusal("invalid", f"file {entry.path[:80]!r}: size or mode is out of range")


@handles("image.ensure")
async def ensure(services: Services, session: Session, body: ImageEnsure) -> Empty:
    await services.images.ensure(session, body.image, body.recipe)
    return Empty()
