"""Twenty kills under a mix of calls; `scripts/soak` does more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.run import Soak

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

KILLS = 20
SEED = 1
#: The longest pause before a kill (seconds): `scripts/soak` takes its time.
PAUSE_S = 0.8


def test_nothing_is_lost_doubled_or_left_over(daemon: Daemon, tmp_path: Path) -> None:
    """(The common daemon is there first: it has the base system made.)"""
    del daemon
    said: list[str] = []
    soak = Soak(tmp_path, SEED, said.append, longest=PAUSE_S)
    faults = soak.run(KILLS)
    assert faults == [], "\n".join([*said, *soak.summary()])
    assert all(soak.ledger.right.values())
