"""`@squall.concurrent` and `@squall.batched`: how inputs share a container.

Both stand below `@app.function()` or `@app.cls()`, in any order, and leave what they decorate as it is but
for a note, which decorators that use `functools.wraps` carry along.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from squall.exception import InvalidError
from squall.sdk import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.wire.values import Batching, Concurrency

F = TypeVar("F", bound="Callable[..., Any]")

MAX_INPUTS = 1000
MAX_BATCH_SIZE = 1000
MAX_WAIT_MS = 600_000
#: Inputs that one container may work on at once.
MAX_CAPACITY = 10_000
_NOTE = "_squall_sharing"
#: As in `inspect`, which takes long to load: *args and **kwargs; generators of both kinds.
_CO_VARIADIC, _CO_GENERATORS = 0x04 | 0x08, 0x20 | 0x200


@dataclass(frozen=True)
class Sharing:
    """What was declared; None and zero: nothing. `wait_ms` is in milliseconds."""

    max_inputs: int | None = None
    target_inputs: int | None = None
    max_batch_size: int = 0
    wait_ms: int = 0

    def concurrency(self) -> Concurrency:
        from squall.wire.values import Concurrency

        most = self.max_inputs or 1
        return Concurrency(most, self.target_inputs or most)

    def batching(self) -> Batching:
        from squall.wire.values import Batching

        return Batching(self.max_batch_size, self.wait_ms / 1000)


def concurrent(
    without_parentheses: object = None,
    /,
    *,
    max_inputs: int | None = None,
    target_inputs: int | None = None,
) -> Callable[[F], F]:
    """Let one container work on up to `max_inputs` inputs at once: those of an async function as tasks,
    others in threads. There are enough containers for `target_inputs` each, or else for `max_inputs`.

    Raises InvalidError.
    """
    _check_parentheses("concurrent", without_parentheses, "max_inputs=10")
    declared = places(max_inputs, target_inputs)

    def decorate(target: F) -> F:
        _check_target("concurrent", target)
        if not isinstance(target, type) and _is_method(target):
            raise InvalidError(
                "@squall.concurrent is for the whole class: put it between @app.cls() and class"
            )
        return _noted(
            target, replace(of(target), max_inputs=declared.max_inputs, target_inputs=declared.target_inputs)
        )

    return decorate


def batched(
    without_parentheses: object = None,
    /,
    *,
    max_batch_size: int | None = None,
    wait_ms: int | None = None,
) -> Callable[[F], F]:
    """Let one call take up to `max_batch_size` inputs; the first waits `wait_ms` milliseconds for others.

    Each parameter is a list then, and so is what the function returns: one result for each input, in their
    order. A result that is an exception is raised at that input's caller alone. Raises InvalidError.
    """
    _check_parentheses("batched", without_parentheses, "max_batch_size=8, wait_ms=100")
    declared = batches(max_batch_size, wait_ms)

    def decorate(target: F) -> F:
        _check_target("batched", target)
        _check_batched(target)
        return _noted(
            target, replace(of(target), max_batch_size=declared.max_batch_size, wait_ms=declared.wait_ms)
        )

    return decorate


def places(max_inputs: object, target_inputs: object) -> Sharing:
    """What @squall.concurrent takes. Raises InvalidError."""
    most = checks.whole("max_inputs", max_inputs, 1, MAX_INPUTS)
    if target_inputs is None:
        return Sharing(most)
    target = checks.whole("target_inputs", target_inputs, 1, MAX_INPUTS)
    if target > most:
        raise InvalidError(f"target_inputs={target} is not possible: max_inputs={most} is less")
    return Sharing(most, target)


def batches(max_batch_size: object, wait_ms: object) -> Sharing:
    """What @squall.batched takes. Raises InvalidError."""
    return Sharing(
        max_batch_size=checks.whole("max_batch_size", max_batch_size, 1, MAX_BATCH_SIZE),
        wait_ms=checks.whole("wait_ms", wait_ms, 0, MAX_WAIT_MS, " of milliseconds"),
    )


def of(target: object) -> Sharing:
    """What was declared on a function, or on a class itself."""
    noted = vars(target).get(_NOTE) if hasattr(target, "__dict__") else None
    return noted if isinstance(noted, Sharing) else Sharing()


def check(name: str, sharing: Sharing, *, single_use: bool) -> None:
    """What does not go together. Raises InvalidError."""
    places, size = sharing.max_inputs or 1, sharing.max_batch_size or 1
    if single_use and places * size > 1:
        raise InvalidError(
            f"{name}: single_use_containers=True is one input a container: leave out @squall.concurrent and "
            "@squall.batched"
        )
    if places * size > MAX_CAPACITY:
        raise InvalidError(
            f"{name}: max_inputs={places} times max_batch_size={size} is not possible: {MAX_CAPACITY} at most"
        )


def _noted(target: F, sharing: Sharing) -> F:
    setattr(target, _NOTE, sharing)
    return target


def _check_parentheses(name: str, given: object, example: str) -> None:
    if given is not None:
        raise InvalidError(f"write @squall.{name}({example}) with its numbers")


def _check_target(name: str, target: object) -> None:
    from squall.sdk.cls import Cls
    from squall.sdk.function import Function

    if isinstance(target, (Function, Cls)) or not callable(target) or not hasattr(target, "__dict__"):
        below = "put it below @app.function() or @app.cls()"
        raise InvalidError(
            f"@squall.{name} is for functions and classes, and not for {checks.short(target)}: {below}"
        )


def _check_batched(target: Any) -> None:
    if isinstance(target, type):
        raise InvalidError("@squall.batched is for a function or method: put it right above the def")
    code = getattr(getattr(target, "__wrapped__", target), "__code__", None)
    flags = 0 if code is None else code.co_flags
    if flags & _CO_GENERATORS:
        raise InvalidError(f"{target.__name__} is a generator: it cannot be batched")
    if flags & _CO_VARIADIC:
        raise InvalidError(
            f"{target.__name__} takes *args or **kwargs: a batched function names its parameters"
        )


def _is_method(target: Any) -> bool:
    above = getattr(target, "__qualname__", "").rpartition(".")[0]
    return bool(above) and not above.endswith("<locals>")
