"""Sealing of secrets: what the file of keys is, what opens, what does not, and rotation."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from squall.server.vault import Vault, VaultError
from squall.store.base import StoreError

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"TOKEN": "s3cr3t-värde", "EMPTY": ""}


def test_the_keys_are_in_a_file_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.keys"
    sealed = Vault.open(str(path)).seal(VALUES, "here")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert Vault.open(str(path)).unseal(sealed, "here") == VALUES
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secret.keys"]


def test_nothing_of_a_value_can_be_read() -> None:
    vault = Vault.in_memory()
    sealed = vault.seal(VALUES, "here")
    assert b"s3cr3t" not in sealed
    assert sealed != vault.seal(VALUES, "here"), "a nonce of its own each time"


@pytest.mark.parametrize("change", ["place", "bit", "short"])
def test_what_was_moved_or_changed_does_not_open(change: str) -> None:
    vault = Vault.in_memory()
    sealed = vault.seal(VALUES, "default/main/st-1/1")
    place = "other/main/st-1/1" if change == "place" else "default/main/st-1/1"
    if change == "bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    if change == "short":
        sealed = sealed[:-1]
    with pytest.raises(VaultError, match="changed outside of Squall"):
        vault.unseal(sealed, place)


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "secret.keys"
    vault = Vault.open(str(path))
    old = vault.seal(VALUES, "here")
    first = vault.key_id
    vault.rotate()
    assert vault.key_id != first
    again = Vault.open(str(path))
    assert again.unseal(old, "here") == VALUES
    new = again.seal(VALUES, "here")
    assert new[:4] == again.key_id == vault.key_id
    vault.retire()
    last = Vault.open(str(path))
    assert last.unseal(new, "here") == VALUES
    with pytest.raises(VaultError, match=r"is not in .*secret\.keys: restore"):
        last.unseal(old, "here")


@pytest.mark.parametrize("text", ["", "\n", "nonsense\n", "00 11\n", "zz" * 4 + " " + "00" * 32])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret.keys"
    path.write_text(text)
    with pytest.raises(StoreError, match="restore the file from a backup"):
        Vault.open(str(path))


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    vault = Vault.open(str(tmp_path / "secret.keys"))
    before = vault.key_id
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="is full: free some space"):
        vault.rotate()
    assert vault.key_id == before, "nothing is sealed with a key that is on no disk"
    with pytest.raises(StoreError, match="is full: free some space"):
        Vault.open(str(tmp_path / "other.keys"))


def test_fingerprints_tell_values_apart_and_not_what_they_are() -> None:
    vault = Vault.in_memory()
    mark = vault.fingerprint(VALUES, "here")
    assert mark == vault.fingerprint(dict(reversed(VALUES.items())), "here")
    assert mark != vault.fingerprint(VALUES, "there")
    assert mark != vault.fingerprint({**VALUES, "X": "1"}, "here")
    assert mark != Vault.in_memory().fingerprint(VALUES, "here")
