"""How slow the machine is that runs the tests: an emulated guest needs longer for everything."""

from __future__ import annotations

import os

#: Multiplies the deadlines of tests that wait for something real.
SLOWNESS = float(os.environ.get("SQUALL_TEST_SLOWNESS", "1"))
