"""Variants of a function: other options, or a class bound to parameters. Pure; raises Refusal.

A variant is a function of its own, with its own id, containers and autoscaler; its spec follows from its
parent's and from the request for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from squall.server.names import Refusal, one_line
from squall.wire import codec
from squall.wire.control import FunctionVariant
from squall.wire.values import Overrides

if TYPE_CHECKING:
    from squall.wire.values import (
        AutoscalerSettings,
        ClassSpec,
        FunctionSpec,
        ParameterSpec,
        ResourceRequest,
    )

#: What the values of parameters may take in all, in bytes.
MAX_PARAMETER_BYTES = 64 << 10
KINDS: dict[str, type] = {"str": str, "int": int, "bool": bool, "bytes": bytes}
_INT = 1 << 63


def checked(spec: FunctionSpec, request: FunctionVariant) -> FunctionVariant:
    """The request in its one form: all parameters in the order of the class, defaults filled in."""
    overrides = request.overrides
    if overrides.env is not None:
        overrides = replace(overrides, env=dict(sorted(overrides.env.items())) or None)
    return FunctionVariant(request.function, _parameters(spec, request.parameters), overrides)


def is_parent(spec: FunctionSpec, request: FunctionVariant) -> bool:
    """Whether a checked request asks for no more than the function itself."""
    defaults = {name: p.default for name, p in _declared(spec).items()}
    return request.overrides == Overrides() and request.parameters == defaults


def id_of(request: FunctionVariant) -> str:
    """The id of a checked request's variant; its parent's id, which nobody can guess, is a part of it."""
    return f"fu-{hashlib.sha256(codec.pack(request)).hexdigest()[:32]}"


def derived(spec: FunctionSpec, request: FunctionVariant) -> FunctionSpec:
    """The spec of a checked request's variant."""
    changes = request.overrides
    return replace(
        spec,
        parameters=request.parameters if spec.class_ is not None else None,
        resources=_resources(spec.resources, changes),
        autoscaler=rescaled(spec.autoscaler, changes),
        retries=spec.retries if changes.retries is None else changes.retries,
        concurrency=spec.concurrency if changes.concurrency is None else changes.concurrency,
        batching=spec.batching if changes.batching is None else changes.batching,
        timeout=spec.timeout if changes.timeout is None else changes.timeout,
        env={**spec.env, **(changes.env or {})},
        secrets=[*spec.secrets, *(changes.secrets or [])],
    )


def rescaled(settings: AutoscalerSettings, changes: Any) -> AutoscalerSettings:
    """With those fields that `changes` has and that are not None there."""
    names = ("min_containers", "max_containers", "buffer_containers", "scaledown_window")
    given = {name: getattr(changes, name, None) for name in names}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def lacks(spec: FunctionSpec) -> list[str]:
    """Parameters without which nothing of a class can run."""
    if spec.parameters is not None:
        return []
    return [name for name, p in _declared(spec).items() if p.default is None]


def check_class(name: str, found: ClassSpec) -> None:
    """Methods and parameters as declared."""
    for each in (*found.methods, *found.parameters):
        if not each.isidentifier() or len(each) > 255:
            raise Refusal("invalid", f"class {name}: {one_line(each, 80)!r} is no Python name")
    if not found.methods:
        raise Refusal("invalid", f"class {name} has no methods: give it one with @squall.method()")
    for each, parameter in found.parameters.items():
        if parameter.kind not in KINDS:
            raise Refusal("invalid", f"class {name}: parameter {each} is of no kind of {', '.join(KINDS)}")
        if parameter.default is not None:
            _check_value(name, each, parameter, parameter.default)


def _declared(spec: FunctionSpec) -> dict[str, ParameterSpec]:
    return {} if spec.class_ is None else spec.class_.parameters


def _parameters(spec: FunctionSpec, given: dict[str, Any]) -> dict[str, Any]:
    declared = _declared(spec)
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise Refusal("invalid", f"{spec.name} has no parameter {one_line(name, 80)}; it has {known}")
    values: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise Refusal("invalid", f"{spec.name} needs the parameter {name}: {spec.name}({name}=...)")
        _check_value(spec.name, name, parameter, value)
        values[name] = value
    if sum(len(value) for value in values.values() if isinstance(value, (str, bytes))) > MAX_PARAMETER_BYTES:
        raise Refusal(
            "invalid",
            f"the parameters of {spec.name} take over {MAX_PARAMETER_BYTES >> 10} KiB: pass large values to "
            "its methods",
        )
    return values


def _check_value(owner: str, name: str, parameter: ParameterSpec, value: object) -> None:
    kind = KINDS[parameter.kind]
    if type(value) is not kind or (isinstance(value, int) and not -_INT <= value < _INT):
        article = "an" if parameter.kind == "int" else "a"
        raise Refusal(
            "invalid",
            f"parameter {name} of {owner} is {article} {parameter.kind}, and not "
            f"{one_line(repr(value)[:80], 80)}",
        )


def _resources(declared: ResourceRequest, changes: Overrides) -> ResourceRequest:
    given: dict[str, Any] = {}
    if changes.cpu_millis is not None:
        given |= {"cpu_millis": changes.cpu_millis, "cpu_limit_millis": changes.cpu_limit_millis}
    if changes.memory_mib is not None:
        given |= {"memory_mib": changes.memory_mib, "memory_limit_mib": changes.memory_limit_mib}
    if changes.gpus is not None:
        given["gpus"] = changes.gpus
    return replace(declared, **given)
