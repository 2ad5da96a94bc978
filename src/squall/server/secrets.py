"""Secrets: named ones of an environment, nameless ones of apps, and what containers get of them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from squall.server.names import Refusal, check_secret, new_id, one_line
from squall.server.vault import VaultError
from squall.store.base import NotFound, SecretRecord
from squall.wire.secrets import SecretInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squall.server.clock import Clock
    from squall.server.session import Session
    from squall.server.vault import Vault
    from squall.store.base import Store
    from squall.wire.secrets import SecretPut
    from squall.wire.values import SecretRef

#: Of one secret: variables, and bytes of names and values. A container gets its environment in one message.
MAX_KEYS = 128
MAX_BYTES = 64 << 10
#: Of all secrets of one container together, in bytes.
MAX_TOTAL = 96 << 10
#: Of one environment with names, and of one function.
MAX_SECRETS = 1_000
MAX_USED = 32
#: Seconds after which a nameless secret is forgotten that no app has come to use.
UNUSED = 3_600.0
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


class Secrets:
    """Values are in clear only on their way: from a client into the vault, from there to a container."""

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._changing = asyncio.Lock()

    # ------------------------------------------------------------------------------------- what clients ask

    async def put(self, session: Session, body: SecretPut) -> SecretInfo:
        _check_values(body.values)
        async with self._changing:
            record = await (self._named(session, body) if body.name else self._nameless(session, body))
            await self._store.put_secret(record)
        return _info(record)

    async def get(self, session: Session, name: str, required: Iterable[str]) -> SecretInfo:
        record = await self._find(session, check_secret(name))
        missing = [key for key in required if key not in record.keys]
        if missing:
            keys = ", ".join(one_line(key, 80) for key in missing)
            raise Refusal("not_found", f"the secret {name} has no {keys}: it has {', '.join(record.keys)}")
        return _info(record)

    async def listed(self, session: Session) -> list[SecretInfo]:
        return [_info(r) for r in await self._store.secrets(session.workspace, session.environment)]

    async def delete(self, session: Session, name: str) -> None:
        async with self._changing:
            await self._store.remove_secret((await self._find(session, check_secret(name))).id)

    async def rotate(self) -> int:
        """Seal all with a new key; how many there were."""
        async with self._changing:
            self._vault.rotate()
            records = await self._store.all_secrets()
            for record in records:
                values = self._opened(record)
                await self._store.put_secret(replace(record, sealed=self._vault.seal(values, _place(record))))
            self._vault.retire()
        return len(records)

    # ------------------------------------------------------------------------------------- what apps need

    async def check(self, workspace: str, function: str, refs: Iterable[SecretRef]) -> None:
        """They are there. Raises Refusal."""
        await self._records(workspace, function, refs)

    async def values(self, workspace: str, function: str, refs: Iterable[SecretRef]) -> dict[str, str]:
        """The newest values, those of later ones above those of earlier ones. Raises Refusal."""
        values: dict[str, str] = {}
        for record in await self._records(workspace, function, refs):
            values.update(self._opened(record))
        size = sum(len(key) + len(value) for key, value in values.items())
        if size > MAX_TOTAL:
            raise Refusal(
                "invalid", f"the secrets of function {function} take {size} bytes: {MAX_TOTAL} at most"
            )
        return values

    async def use(self, app: str, refs: Iterable[SecretRef]) -> None:
        ids = sorted({ref.id for ref in refs})
        if ids:
            await self._store.use_secrets(app, ids)

    async def release(self, app: str = "") -> None:
        """An app has ended; what nobody uses goes."""
        await self._store.release_secrets(app, self._clock.wall() - UNUSED)

    # ------------------------------------------------------------------------------------------------ bits

    async def _named(self, session: Session, body: SecretPut) -> SecretRecord:
        check_secret(body.name)
        known = await self._store.secrets(session.workspace, session.environment)
        old = next((record for record in known if record.name == body.name), None)
        if body.mode not in {"create", "replace", "update"}:
            raise Refusal("invalid", f"no mode {body.mode[:40]!r}: use create, replace or update")
        if old is None:
            if body.mode == "update":
                raise _unknown(session, body.name)
            if len(known) >= MAX_SECRETS:
                raise Refusal("exhausted", f"{MAX_SECRETS} secrets are there already: delete some")
            return self._sealed(self._new(session, new_id("st"), body.name), body.values)
        if body.mode == "create":
            raise Refusal(
                "exists", f"there is a secret {body.name} already: replace it with --force, or update it"
            )
        values = dict(body.values)
        if body.mode == "update":
            values = {**self._opened(old), **values}
            values = {key: value for key, value in values.items() if key not in body.removed}
            _check_values(values)
        return self._sealed(replace(old, version=old.version + 1, updated=self._clock.wall()), values)

    async def _nameless(self, session: Session, body: SecretPut) -> SecretRecord:
        """Equal ones of a workspace and environment are one."""
        place = f"{session.workspace}/{session.environment}"
        secret_id = f"st-{self._vault.fingerprint(body.values, place)}"
        return self._sealed(self._new(session, secret_id, ""), body.values)

    def _new(self, session: Session, secret_id: str, name: str) -> SecretRecord:
        now = self._clock.wall()
        return SecretRecord(secret_id, session.workspace, session.environment, name, 1, (), b"", now, now)

    def _sealed(self, record: SecretRecord, values: Mapping[str, str]) -> SecretRecord:
        sealed = self._vault.seal(values, _place(record))
        return replace(record, keys=tuple(sorted(values)), sealed=sealed)

    def _opened(self, record: SecretRecord) -> dict[str, str]:
        try:
            return self._vault.unseal(record.sealed, _place(record))
        except VaultError as error:
            raise Refusal("unavailable", f"the secret {_name(record)} cannot be opened: {error}") from None

    async def _find(self, session: Session, name: str) -> SecretRecord:
        for record in await self._store.secrets(session.workspace, session.environment):
            if record.name == name:
                return record
        raise _unknown(session, name)

    async def _records(self, workspace: str, function: str, refs: Iterable[SecretRef]) -> list[SecretRecord]:
        refs = list(refs)
        if len(refs) > MAX_USED:
            raise Refusal("invalid", f"function {function} has {len(refs)} secrets: {MAX_USED} at most")
        records = []
        for ref in refs:
            try:
                records.append(await self._store.secret(workspace, ref.id))
            except NotFound:  # noqa: PERF203 - there are few
                name = one_line(ref.name, 80) or "without a name"
                raise Refusal(
                    "not_found",
                    f"function {function} needs the secret {name}, which is not there any more: create it "
                    "and deploy again",
                ) from None
        return records


def _check_values(values: Mapping[str, str]) -> None:
    if len(values) > MAX_KEYS:
        raise Refusal("invalid", f"a secret of {len(values)} variables: {MAX_KEYS} at most, split it")
    for key, value in values.items():
        if _KEY.fullmatch(key) is None or key.startswith("SQUALL_"):
            raise Refusal("invalid", f"{one_line(key, 80)!r} is no name for a variable of a secret")
        if "\0" in value:
            raise Refusal("invalid", f"the value of {key} has a null byte: a variable cannot hold it")
    size = sum(len(key) + len(value.encode(errors="surrogatepass")) for key, value in values.items())
    if size > MAX_BYTES:
        raise Refusal(
            "invalid", f"a secret of {size} bytes: {MAX_BYTES} at most, put larger data into a file"
        )


def _place(record: SecretRecord) -> str:
    return "/".join((record.workspace, record.environment, record.id, str(record.version)))


def _info(record: SecretRecord) -> SecretInfo:
    keys = list(record.keys)
    return SecretInfo(record.id, record.name, record.version, keys, record.created, record.updated)


def _name(record: SecretRecord) -> str:
    return record.name or "without a name"


def _unknown(session: Session, name: str) -> Refusal:
    return Refusal(
        "not_found",
        f"no secret {name} in environment {session.environment}: make it with `squall secret create {name} "
        "KEY=VALUE`",
    )
