"""A function for the tests of programs that join its container."""

from __future__ import annotations

import time

import squall

app = squall.App("e2e-shell")


@app.function(env={"OWN": "1"}, timeout=3600)
def busy() -> None:
    time.sleep(3000)
