"""Values of secrets, sealed: AES-256-GCM, with keys in a file of their own beside the database, mode 0600.

The file has a line for each key, "<id> <key>" in hex, the newest last: that one seals, all open. What is
sealed begins with the id of its key (4 bytes) and a nonce (12 bytes). Where it belongs is authenticated with
it, so that a record moved to another workspace, id or version cannot be opened.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from squall.store.base import StoreError
from squall.store.errors import store_error
from squall.wire import codec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ID_BYTES, KEY_BYTES, NONCE_BYTES = 4, 32, 12


class VaultError(Exception):
    """What was sealed cannot be opened: one line."""


class Vault:
    """`keys` by id, the newest last. `path` is the file that they are in, or empty: they are nowhere else."""

    def __init__(self, keys: Mapping[bytes, bytes], path: str = "") -> None:
        self._keys = dict(keys)
        self._path = path

    @classmethod
    def in_memory(cls) -> Vault:
        """With a key that is gone with the process."""
        return cls(_fresh())

    @classmethod
    def open(cls, path: str) -> Vault:
        """The keys of a file, which is made where there is none. Raises StoreError."""
        if not os.path.exists(path):
            _written(path, _fresh())
        try:
            os.chmod(path, 0o600)
            with open(path, encoding="ascii") as file:
                keys = dict(_parsed(line) for line in file.read().splitlines() if line.strip())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise StoreError(
                f"the keys of secrets in {path} cannot be read ({why}): restore the file from a backup"
            ) from None
        if not keys:
            raise StoreError(f"{path} has no key of secrets: restore the file from a backup")
        return cls(keys, path)

    @property
    def key_id(self) -> bytes:
        """Of the key that seals."""
        return list(self._keys)[-1]

    def rotate(self) -> None:
        """A new key seals from now on; the older ones still open. Raises StoreError."""
        number, key = _new_key()
        keys = {**self._keys, number: key}
        self._save(keys)

    def retire(self) -> None:
        """Forget all keys but the one that seals: nothing is sealed with them any more. Raises StoreError."""
        self._save({self.key_id: self._keys[self.key_id]})

    def seal(self, values: Mapping[str, str], place: str) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed: bytes = _cipher(self._keys[self.key_id]).encrypt(
            nonce, codec.pack(dict(values)), place.encode()
        )
        return self.key_id + nonce + sealed

    def unseal(self, sealed: bytes, place: str) -> dict[str, str]:
        """Raises VaultError."""
        from cryptography.exceptions import InvalidTag

        key = self._keys.get(sealed[:ID_BYTES])
        if key is None:
            where = self._path or "this server's memory"
            raise VaultError(
                f"the key with which it was sealed is not in {where}: restore that from a backup, or create "
                "the secret again with --force"
            )
        nonce = sealed[ID_BYTES : ID_BYTES + NONCE_BYTES]
        try:
            data = _cipher(key).decrypt(nonce, sealed[ID_BYTES + NONCE_BYTES :], place.encode())
        except InvalidTag:
            raise VaultError(
                "its record was changed outside of Squall: create the secret again with --force"
            ) from None
        values: dict[str, str] = codec.unpack(data, dict[str, str])
        return values

    def fingerprint(self, values: Mapping[str, str], place: str) -> str:
        """The same for the same values in the same place, and a riddle without the key."""
        key = self._keys[self.key_id]
        text = codec.pack([place, sorted(values.items())])
        return hmac.new(key, text, hashlib.sha256).hexdigest()[:32]

    def _save(self, keys: Mapping[bytes, bytes]) -> None:
        if self._path:
            _written(self._path, keys)
        self._keys = dict(keys)


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _fresh() -> dict[bytes, bytes]:
    number, key = _new_key()
    return {number: key}


def _new_key() -> tuple[bytes, bytes]:
    return secrets.token_bytes(ID_BYTES), secrets.token_bytes(KEY_BYTES)


def _parsed(line: str) -> tuple[bytes, bytes]:
    number, key = (bytes.fromhex(part) for part in line.split())
    if len(number) != ID_BYTES or len(key) != KEY_BYTES:
        raise ValueError("a line is no key")
    return number, key


def _written(path: str, keys: Mapping[bytes, bytes]) -> None:
    try:
        _write(path, keys)
    except OSError as error:
        raise store_error(error, path) from None


def _write(path: str, keys: Mapping[bytes, bytes]) -> None:
    """On disk before it is used: what is sealed with a lost key is lost."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(f"{number.hex()} {key.hex()}\n" for number, key in keys.items())
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
