"""Secrets: environment variables that are sealed on the server and reach only containers that name them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from squall.exception import InvalidError, SerializationError
from squall.sdk import checks, context
from squall.sdk.dual import dual, dual_function
from squall.sdk.modes import Access, Mode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from squall.client.api import AsyncClient, Client
    from squall.sdk.ports import Port
    from squall.wire.secrets import SecretInfo
    from squall.wire.values import SecretRef


class Secret:
    """Made by `from_name`, `from_dict`, `from_dotenv` or `from_local_environ`; for `secrets=` of functions.

    Nobody gets the values back: they are in the environment of containers, and nowhere else in clear.
    """

    #: `Secret.objects.create`, `.list`, `.delete`: those with names.
    objects: ClassVar[type[Objects]]

    def __init__(
        self,
        *,
        name: str = "",
        values: Mapping[str, str] | None = None,
        required: Sequence[str] = (),
        access: Access | None = None,
    ) -> None:
        self._name = name
        self._values = values
        self._required = list(required)
        self._access = access

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        required_keys: Sequence[str] = (),
        client: Client | AsyncClient | None = None,
    ) -> Secret:
        """One that is on the server. Functions are refused where it, or a required key of it, is missing."""
        required = checks.texts("required_keys", list(required_keys))
        access = Access(client, environment_name or "") if client or environment_name else None
        return Secret(name=checks.secret_name(name), required=required, access=access)

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None] = {}) -> Secret:
        """These variables, without those that are None. It has no name, and goes with its apps."""
        if not context.is_local():
            return Secret(values={})
        return Secret(values=checks.hidden_variables("env_dict", env_dict))

    @staticmethod
    def from_local_environ(env_keys: Sequence[str]) -> Secret:
        """These variables of the environment here. Raises InvalidError for one that is not set."""
        keys = checks.texts("env_keys", list(env_keys))
        if not context.is_local():
            return Secret(values={})
        missing = [key for key in keys if key not in os.environ]
        if missing:
            raise InvalidError(f"{', '.join(missing)} is not set here: export it before you run this")
        return Secret(values=checks.hidden_variables("env_keys", {key: os.environ[key] for key in keys}))

    @staticmethod
    def from_dotenv(
        path: str | os.PathLike[str] | None = None,
        *,
        filename: str = ".env",
        client: Client | AsyncClient | None = None,
    ) -> Secret:
        """The variables of a file `.env`: in this folder (or that of this file; else here) or above it."""
        from squall.sdk import dotenv

        access = Access(client) if client else None
        if not context.is_local():
            return Secret(values={}, access=access)
        found = dotenv.find(path, filename)
        try:
            with open(found, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidError(f"cannot read {found}: {error}") from None
        try:
            values = dotenv.parse(text, os.environ)
        except InvalidError as error:
            raise InvalidError(f"{found}: {error}") from None
        return Secret(values=checks.hidden_variables("path", values), access=access)

    @property
    def name(self) -> str | None:
        return self._name or None

    @dual
    async def update(self, mode: Mode, env_dict: Mapping[str, str | None]) -> None:
        """Set these variables of a named secret, and remove those that are None, for containers to come."""
        from squall.wire.secrets import SecretPut

        if not self._name:
            raise InvalidError(
                "a secret without a name cannot be changed: make it with Secret.objects.create()"
            )
        removed = [key for key, value in env_dict.items() if value is None]
        values = checks.hidden_variables("env_dict", env_dict)
        port = await mode.port(self._access or Access())
        await port.request("secret.put", SecretPut(values, self._name, "update", removed))

    @dual
    async def info(self, mode: Mode) -> SecretInfo:
        """Name, version, names of the variables, and when it was made and changed; no values."""
        return await self._info(await mode.port(self._access or Access()))

    async def ref(self, mode: Mode, port: Port[Any]) -> SecretRef:
        """What a function's spec says of it; `port` leads to the app's server and environment.

        Raises NotFoundError.
        """
        from squall.wire.values import SecretRef

        told = await self._info(port if self._access is None else await mode.port(self._access))
        return SecretRef(told.id, told.name, told.version)

    async def _info(self, port: Port[Any]) -> SecretInfo:
        from squall.wire.secrets import SecretGet, SecretPut

        if self._values is None:
            told: SecretInfo = await port.request("secret.get", SecretGet(self._name, self._required))
            return told
        made: SecretInfo = await port.request("secret.put", SecretPut(dict(self._values)))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        if self._values:
            raise SerializationError(
                "a secret with values is no argument: name it in secrets= of the function, which reads "
                "os.environ"
            )
        return (_named, (self._name, self._required))

    def __repr__(self) -> str:
        return f"<Secret {self._name}>" if self._name else "<Secret without a name>"


class Objects:
    """The named secrets of an environment."""

    @dual_function
    @staticmethod
    async def create(
        mode: Mode,
        name: str,
        env_dict: Mapping[str, str | None],
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Client | AsyncClient | None = None,
    ) -> None:
        """Make one. Raises AlreadyExistsError, unless one that is there may stay as it is."""
        from squall.exception import AlreadyExistsError
        from squall.wire.secrets import SecretPut

        values = checks.hidden_variables("env_dict", env_dict)
        port = await mode.port(Access(client, environment_name or ""))
        try:
            await port.request("secret.put", SecretPut(values, checks.secret_name(name)))
        except AlreadyExistsError:
            if not checks.flag("allow_existing", allow_existing):
                raise

    @dual_function
    @staticmethod
    async def list(
        mode: Mode,
        *,
        environment_name: str | None = None,
        client: Client | AsyncClient | None = None,
    ) -> list[Secret]:
        """By name."""
        from squall.wire.control import Empty

        access = Access(client, environment_name or "")
        port = await mode.port(access)
        return [
            Secret(name=s.name, access=access) for s in (await port.request("secret.list", Empty())).secrets
        ]

    @dual_function
    @staticmethod
    async def delete(
        mode: Mode,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Client | AsyncClient | None = None,
    ) -> None:
        """Containers that run keep what they have. Raises NotFoundError, unless it may be missing."""
        from squall.exception import NotFoundError
        from squall.wire.secrets import SecretDelete

        port = await mode.port(Access(client, environment_name or ""))
        try:
            await port.request("secret.delete", SecretDelete(checks.secret_name(name)))
        except NotFoundError:
            if not checks.flag("allow_missing", allow_missing):
                raise


Secret.objects = Objects


def checked_secrets(value: Any) -> tuple[Secret, ...]:
    """What `secrets=` was given. Raises InvalidError."""
    found: tuple[object, ...] = (value,) if isinstance(value, Secret) else tuple(value or ())
    for each in found:
        if not isinstance(each, Secret):
            raise InvalidError(
                f"secrets=[{checks.short(each)}] is not possible: give squall.Secret.from_name(...), for one"
            )
    return tuple(each for each in found if isinstance(each, Secret))


async def refs_of(secrets: Collection[Secret], mode: Mode, port: Port[Any]) -> list[SecretRef]:
    return [await secret.ref(mode, port) for secret in secrets]


def _named(name: str, required: list[str]) -> Secret:
    return Secret(name=name, required=required) if name else Secret(values={})
