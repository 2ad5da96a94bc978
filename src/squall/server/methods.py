"""Whether inputs fit what they are for: a function, or methods of a class. Pure; raises Refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server import variants
from squall.server.names import Refusal, one_line

if TYPE_CHECKING:
    from squall.wire.messages import Inputs
    from squall.wire.values import FunctionSpec


def check(spec: FunctionSpec, message: Inputs) -> None:
    """Each input's method exists, and is a generator if and only if the call is one."""
    missing = variants.lacks(spec)
    if missing:
        raise Refusal("invalid", f"class {spec.name} needs the parameters {', '.join(missing)}: give them")
    for method in sorted({item.method for item in message.items}):
        _check_kind(spec, method, message)
    if message.kind == "generator" and message.durable:
        raise Refusal("invalid", f"function {spec.name} is a generator: it cannot be spawned")


def _check_kind(spec: FunctionSpec, method: str, message: Inputs) -> None:
    name, is_generator = _found(spec, method)
    if is_generator != (message.kind == "generator"):
        what = "a generator: call remote_gen" if is_generator else "no generator: call remote"
        raise Refusal("invalid", f"function {name} is {what}")


def _found(spec: FunctionSpec, method: str) -> tuple[str, bool]:
    """Its name for people, and whether it is a generator."""
    if spec.class_ is None:
        if method:
            raise Refusal("invalid", f"{spec.name} is a function and has no methods: call it itself")
        return spec.name, spec.is_generator
    if not method:
        raise Refusal("invalid", f"{spec.name} is a class: call a method of it by squall.Cls.from_name()")
    found = spec.class_.methods.get(method)
    if found is None:
        known = ", ".join(spec.class_.methods)
        raise Refusal(
            "not_found", f"class {spec.name} has no method {one_line(method, 80)!r}; it has: {known}"
        )
    return f"{spec.name}.{method}", found.is_generator
