"""Secrets in real containers: who has them, and that nothing on disk or on the way home does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall import Secret, exception
from tests.e2e.apps import secrets
from tests.e2e.kit import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def running(here: Daemon) -> Iterator[None]:
    Secret.objects.create("e2e-named", {"NAMED": secrets.NAMED})
    try:
        with secrets.app.run():
            yield
    finally:
        Secret.objects.delete("e2e-named")


def with_value(state: str) -> list[str]:
    """Files below the state directory with one of the values in them."""
    values = [secrets.VALUE.encode(), secrets.NAMED.encode()]
    found = []
    for folder, _, names in os.walk(state):
        if "/layers/" in folder:  # the base system, made before any secret was
            continue
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [str(path) for value in values if value in data]
    return found


def test_they_reach_who_names_them_and_nothing_on_disk_has_them(here: Daemon) -> None:
    assert secrets.read.remote() == (len(secrets.VALUE), len(secrets.NAMED))
    assert secrets.without.remote() == [None, None]
    assert here.containers("read"), "it still runs, so its records are there"
    records = list(Path(here.state, "node", "containers").glob("*/order"))
    assert records
    assert with_value(here.state) == []


def test_the_key_is_outside_the_database_and_its_owners_alone(here: Daemon) -> None:
    key = Path(here.state, "server", "secret.keys")
    assert key.stat().st_mode & 0o777 == 0o600
    assert (
        bytes.fromhex(key.read_text().split()[1]) not in Path(here.state, "server", "db.sqlite").read_bytes()
    )


def test_errors_tell_nothing(here: Daemon) -> None:
    with pytest.raises(exception.RemoteError) as caught:
        secrets.blab.remote("raise")
    assert "ValueError: the password [redacted] is wrong" in str(caught.value)
    assert secrets.VALUE not in str(caught.value.__cause__)


def test_output_in_pieces_tells_nothing(here: Daemon) -> None:
    secrets.blab.remote("print")

    def printed() -> str:
        return "".join(line.text for line in secrets.app.logs.fetch())

    text = until(lambda: printed() if "it is [redacted]" in printed() else "", "the line")
    assert secrets.VALUE not in text


def test_a_container_cannot_have_anothers(here: Daemon) -> None:
    """No request gives a value, whoever asks."""
    from squall.wire.secrets import SecretGet

    told = here.client().request("secret.get", SecretGet("e2e-named"))
    assert told.keys == ["NAMED"]
    assert secrets.NAMED not in repr(told)
