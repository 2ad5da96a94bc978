"""What `with_options` and its like change of a function or class, checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from squall.sdk import checks, sharing
from squall.sdk.declaration import declare
from squall.sdk.secret import Secret, refs_of
from squall.wire.values import Overrides

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import PurePosixPath

    from squall.sdk.modes import Mode
    from squall.sdk.ports import Port
    from squall.sdk.retries import Retries


class VariantOptions(TypedDict, total=False):
    """What `with_options(...)` takes; units as in `@app.function`. None leaves a thing as it was declared."""

    cpu: float | tuple[float, float] | None
    memory: int | tuple[int, int] | None
    gpu: str | None
    env: Mapping[str, str | None] | None
    secrets: Collection[Secret] | None
    volumes: Mapping[str | PurePosixPath, object]
    retries: int | Retries | None
    max_containers: int | None
    buffer_containers: int | None
    scaledown_window: int | None
    timeout: int | None
    region: str | Sequence[str] | None
    cloud: str | None
    routing_region: str | None


@dataclass(slots=True)
class Changes(Overrides):
    """Overrides on their way: `wanted` are secrets that the server has not been asked about."""

    wanted: tuple[Secret, ...] = ()


async def asked(changes: Overrides | None, mode: Mode, port: Port[Any]) -> Overrides:
    """What is asked of a server. Raises NotFoundError for a secret that is not there."""
    if changes is None:
        return Overrides()
    plain = Overrides(**{f.name: getattr(changes, f.name) for f in fields(Overrides)})
    wanted = changes.wanted if isinstance(changes, Changes) else ()
    return replace(plain, secrets=await refs_of(wanted, mode, port)) if wanted else plain


def of_options(where: str, options: Mapping[str, Any]) -> Overrides:
    """Raises InvalidError, UnimplementedError."""
    checks.known(where, options, VariantOptions.__annotations__)
    given = {name: value for name, value in options.items() if value is not None}
    declared = declare(given, where)
    resources, scale = declared.resources, declared.autoscaler
    changes: dict[str, Any] = {
        "cpu": {"cpu_millis": resources.cpu_millis, "cpu_limit_millis": resources.cpu_limit_millis},
        "memory": {"memory_mib": resources.memory_mib, "memory_limit_mib": resources.memory_limit_mib},
        "gpu": {"gpus": resources.gpus},
        "env": {"env": declared.env},
        "retries": {"retries": declared.retries},
        "max_containers": {"max_containers": scale.max_containers},
        "buffer_containers": {"buffer_containers": scale.buffer_containers},
        "scaledown_window": {"scaledown_window": scale.scaledown_window},
        "timeout": {"timeout": declared.timeout},
        "secrets": {"wanted": declared.secrets},
    }
    return Changes(**{k: v for name in given for k, v in changes.get(name, {}).items()})


def of_concurrency(max_inputs: object, target_inputs: object) -> Overrides:
    """Raises InvalidError."""
    return Overrides(concurrency=sharing.places(max_inputs, target_inputs).concurrency())


def of_batching(max_batch_size: object, wait_ms: object) -> Overrides:
    """Raises InvalidError."""
    return Overrides(batching=sharing.batches(max_batch_size, wait_ms).batching())


def merged(first: Overrides | None, second: Overrides) -> Overrides:
    """The second one's changes on top of the first one's."""
    if first is None:
        return second
    changes: dict[str, Any] = {
        f.name: value for f in fields(second) if (value := getattr(second, f.name)) is not None
    }
    if second.cpu_millis is not None:
        changes["cpu_limit_millis"] = second.cpu_limit_millis
    if second.memory_mib is not None:
        changes["memory_limit_mib"] = second.memory_limit_mib
    if second.env is not None:
        changes["env"] = {**(first.env or {}), **second.env}
    wanted = tuple(s for each in (first, second) if isinstance(each, Changes) for s in each.wanted)
    plain = {f.name: getattr(first, f.name) for f in fields(Overrides)}
    return Changes(**{**plain, **changes, "wanted": wanted})
