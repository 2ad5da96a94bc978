"""Functions that have secrets, and one that has none. It runs in containers too."""

from __future__ import annotations

import os
import sys
import time

import squall

app = squall.App("e2e-secrets")
#: Taken apart, so that the source that is sent does not have it.
WORDS = ("correct", "horse", "battery", "staple")
VALUE, NAMED = "-".join(WORDS[:3]), "-".join(WORDS[2:])


@app.function(secrets=[squall.Secret.from_dict({"PASSWORD": VALUE}), squall.Secret.from_name("e2e-named")])
def read() -> tuple[int, int]:
    """Lengths, so that the result does not have them either."""
    return len(os.environ["PASSWORD"]), len(os.environ["NAMED"])


@app.function()
def without() -> list[str | None]:
    return [os.environ.get("PASSWORD"), os.environ.get("NAMED")]


@app.function(secrets=[squall.Secret.from_dict({"PASSWORD": VALUE})])
def blab(how: str) -> None:
    password = os.environ["PASSWORD"]
    if how == "print":
        for part in ("it is ", password[:9], password[9:], "\n"):
            sys.stdout.write(part)
            sys.stdout.flush()
            time.sleep(0.15)
        return
    raise ValueError(f"the password {password} is wrong")
