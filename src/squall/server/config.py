"""A function as declared, in the scheduler's terms. Pure; raises Refusal for what makes no sense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from squall.scheduling.model import Demand, FunctionConfig
from squall.server import variants
from squall.server.names import Refusal, check_function, check_image, is_manifest

if TYPE_CHECKING:
    from squall.server.model import Function
    from squall.wire.values import AutoscalerSettings, FunctionSpec, Recipe

#: Limits on what one declaration may hold.
MAX_MOUNTS = 256
MAX_ENV_BYTES = 1 << 20
MAX_TIMEOUT = 86_400.0
MAX_CONTAINERS = 10_000
MAX_CONCURRENT = 1000
MAX_BATCH = 1000
MAX_BATCH_WAIT = 600.0
#: Inputs that one container may work on at once: what a node's journal of it has room for.
MAX_CAPACITY = 10_000
#: How deep the arguments of a recipe's step may nest.
MAX_DEPTH = 20


def scheduler_config(function: Function) -> FunctionConfig:
    """A retired function keeps no container longer than it has work; a class without its parameters, and one
    that is pinned to a version, keep none ready.
    """
    spec, scale, retries = function.spec, function.autoscaler, function.spec.retries
    idle = function.retired or function.pinned or bool(variants.lacks(spec))
    gpus = tuple((g.type, g.count) for g in spec.resources.gpus)
    batch = max(1, spec.batching.max_batch_size)
    return FunctionConfig(
        id=function.id,
        workspace=function.app.record.workspace,
        demand=Demand(spec.resources.cpu_millis, spec.resources.memory_mib, gpus),
        min_containers=0 if idle else scale.min_containers,
        max_containers=scale.max_containers,
        buffer_containers=0 if idle else scale.buffer_containers,
        scaledown_window=0.0 if function.retired else scale.scaledown_window,
        max_retries=retries.max_retries,
        backoff_coefficient=retries.backoff_coefficient,
        initial_delay=retries.initial_delay,
        max_delay=retries.max_delay,
        generator=spec.is_generator,
        capacity=spec.capacity,
        target=spec.concurrency.target_inputs * batch,
        batch=spec.batching.max_batch_size,
        single_use=spec.single_use,
    )


def check_spec(spec: FunctionSpec) -> None:
    """Numbers within reason, names well formed; the caller checks whether manifests and blobs exist."""
    check_function(spec.name)
    check_image(spec.image)
    if spec.class_ is not None:
        variants.check_class(spec.name, spec.class_)
    resources, retries = spec.resources, spec.retries
    _within(spec.name, "cpu", resources.cpu_millis, 1, 1_000_000)
    _within(spec.name, "memory", resources.memory_mib, 1, 1 << 30)
    for gpu in resources.gpus:
        _within(spec.name, "gpu count", gpu.count, 1, 64)
    check_scale(spec.name, spec.autoscaler)
    _within(spec.name, "max_retries", retries.max_retries, 0, 1000)
    _within(spec.name, "backoff_coefficient", retries.backoff_coefficient, 1, 100)
    _within(spec.name, "initial_delay", retries.initial_delay, 0, MAX_TIMEOUT)
    _within(spec.name, "max_delay", retries.max_delay, 0, MAX_TIMEOUT)
    _within(spec.name, "timeout", spec.timeout, 0.001, MAX_TIMEOUT)
    if spec.startup_timeout is not None:
        _within(spec.name, "startup_timeout", spec.startup_timeout, 0.001, MAX_TIMEOUT)
    _check_sharing(spec)
    if len(spec.mounts) > MAX_MOUNTS:
        raise Refusal("invalid", f"function {spec.name} has {len(spec.mounts)} mounts: {MAX_MOUNTS} at most")
    if sum(len(k) + len(v) for k, v in spec.env.items()) > MAX_ENV_BYTES:
        raise Refusal("invalid", f"function {spec.name}: its environment variables are over 1 MiB")


def _check_sharing(spec: FunctionSpec) -> None:
    """How many inputs share a container."""
    concurrency, batching = spec.concurrency, spec.batching
    _within(spec.name, "max_inputs", concurrency.max_inputs, 1, MAX_CONCURRENT)
    _within(spec.name, "target_inputs", concurrency.target_inputs, 1, concurrency.max_inputs)
    _within(spec.name, "max_batch_size", batching.max_batch_size, 0, MAX_BATCH)
    _within(spec.name, "wait", batching.wait, 0, MAX_BATCH_WAIT)
    _within(spec.name, "max_inputs * max_batch_size", spec.capacity, 1, MAX_CAPACITY)
    if spec.single_use and spec.capacity > 1:
        raise Refusal("invalid", f"function {spec.name}: a single-use container takes one input, and no more")
    if not batching.max_batch_size:
        return
    methods = [] if spec.class_ is None else list(spec.class_.methods.values())
    if spec.is_generator or any(m.is_generator for m in methods):
        raise Refusal("invalid", f"function {spec.name}: a generator cannot be batched")
    if len(methods) > 1:
        raise Refusal("invalid", f"class {spec.name}: a batched method must be the only one of its class")


def check_scale(function: str, scale: AutoscalerSettings) -> None:
    low, high = scale.min_containers, scale.max_containers
    _within(function, "min_containers", low, 0, MAX_CONTAINERS)
    _within(function, "buffer_containers", scale.buffer_containers, 0, MAX_CONTAINERS)
    if high is not None:
        _within(function, "max_containers", high, max(1, low), MAX_CONTAINERS)
    _within(function, "scaledown_window", scale.scaledown_window, 0, MAX_TIMEOUT)


def _within(function: str, what: str, value: float, low: float, high: float) -> None:
    if math.isfinite(value) and low <= value <= high:
        return
    raise Refusal("invalid", f"function {function}: {what}={value:g} is not between {low:g} and {high:g}")


def recipe_manifests(recipe: Recipe) -> set[str]:
    """The manifests that the steps of a recipe name in their arguments."""
    found: set[str] = set()
    _collect([step.args for step in recipe.steps], found, 0)
    return found


def _collect(value: object, found: set[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Refusal("invalid", "the arguments of an image step are nested too deeply")
    if is_manifest(value):
        found.add(str(value))
    elif isinstance(value, dict):
        _collect(list(value.values()), found, depth + 1)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _collect(part, found, depth + 1)
