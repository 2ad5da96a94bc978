"""Whether inputs fit what they are for: a function, or methods of a class. Pure; raises Refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server import variants
from squall.server.names import Refusal, one_line
from squall.wire.parcels import is_socket_name

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
    _check_direct(spec, message)
    if message.kind == "generator" and message.durable:
        raise Refusal("invalid", f"function {spec.name} is a generator: it cannot be spawned")


def _check_direct(spec: FunctionSpec, message: Inputs) -> None:
    """A direct call is one socket, to a container that works on one input at a time and tries none again."""
    direct = message.kind == "direct"
    if any(is_socket_name(item.payload.blob) != direct for item in message.items):
        raise Refusal("invalid", "the argument of a direct call, and of no other, is a socket")
    if not direct:
        return
    if [item.index for item in message.items] != [0] or message.durable:
        raise Refusal("invalid", "a direct call has one input, and is not spawned")
    if spec.capacity > 1 or spec.batching.max_batch_size or spec.single_use or spec.retries.max_retries:
        raise Refusal("invalid", f"function {spec.name} takes no direct calls")


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
