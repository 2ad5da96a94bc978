"""Functions for the tests of direct lines. It runs in containers too, with nothing but Squall."""

from __future__ import annotations

import os
import subprocess
import time

import squall

app = squall.App("e2e-direct")


class OddError(Exception):
    """The user's own."""


@app.function()
def act(what: str = "", value: object = None) -> object:
    """Quick, unless it is told to be something else."""
    if what == "raise":
        raise OddError("odd")
    if what == "print":
        print(value)
    if what == "shell":
        subprocess.run(["sh", "-c", f"echo {value}"], check=True)
    if what == "exit":
        os._exit(7)
    if what == "sleep":
        time.sleep(float(str(value)))
    if what == "large":
        return b"x" * int(str(value))
    if what == "ids":
        return squall.current_input_id(), squall.current_function_call_id()
    if what == "nested":
        return plus_one.remote(int(str(value)))
    return value


@app.function()
def plus_one(x: int) -> int:
    return x + 1


@app.function(timeout=1)
def short(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(max_containers=1)
def alone(x: int) -> tuple[int, int]:
    return x, os.getpid()


@app.function(retries=2)
def again(x: int) -> int:
    return x


@app.cls()
class Counter:
    """One a container."""

    @squall.enter()
    def begin(self) -> None:
        self.count = 0

    @squall.method()
    def up(self, seconds: float = 0.0) -> int:
        self.count += 1
        time.sleep(seconds)
        return self.count

    @squall.method()
    def read(self) -> int:
        return self.count
