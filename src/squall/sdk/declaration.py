"""The parameters of a function, checked where they are declared and turned into values of the wire. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError
from squall.sdk import checks, unavailable
from squall.sdk.image import Image, checked_image
from squall.sdk.options import DEFAULTS, ClassOptions
from squall.sdk.retries import MAX_RETRIES, Retries
from squall.sdk.secret import Secret, checked_secrets
from squall.wire.values import AutoscalerSettings, GpuRequest, ResourceRequest, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TIMEOUT = 86_400
MAX_CONTAINERS = 10_000
MAX_DISK_MIB = 3 << 20
MAX_GPUS = 8
#: Fewer of some fit into a machine.
_GPUS_AT_MOST = {"A10": 4}
_GPU = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,31})([!+]?)(?::([0-9]{1,3}))?")
#: What `TYPE+` takes besides the type itself: the next better one.
_OR_BETTER = {"B200": ["B300"]}
#: Sold in sizes; without one, the smaller is taken first.
_SIZES = {"A100": ["A100-40GB", "A100-80GB"]}
_CLOUDS = ("aws", "gcp", "oci", "auto")


@dataclass(frozen=True)
class Declaration:
    """What a function was declared with. `image` and `include_source` may come from its app."""

    image: Image | None
    serialized: bool
    resources: ResourceRequest
    autoscaler: AutoscalerSettings
    retries: RetryPolicy
    timeout: float
    startup_timeout: float | None
    name: str | None
    is_generator: bool | None
    env: dict[str, str]
    block_network: bool
    include_source: bool | None
    single_use: bool
    secrets: tuple[Secret, ...]


def declare(options: Mapping[str, Any], where: str = "@app.function") -> Declaration:
    """Raises InvalidError for what is wrong, UnimplementedError for what is not there yet."""
    names = ClassOptions.__annotations__ if where == "@app.cls" else DEFAULTS
    checks.known(where, options, names)
    given = {**DEFAULTS, **options}
    unavailable.refuse(where, given)
    _check_placement(given)
    startup = given["startup_timeout"]
    return Declaration(
        image=checked_image(given["image"]),
        serialized=checks.flag("serialized", given["serialized"]),
        resources=_resources(given),
        autoscaler=_autoscaler(given),
        retries=retry_policy(given["retries"]),
        timeout=float(checks.whole("timeout", given["timeout"], 1, MAX_TIMEOUT, " of seconds")),
        startup_timeout=None if startup is None else _startup_timeout(startup),
        name=None if given["name"] is None else checks.function_name(given["name"]),
        is_generator=_optional_flag("is_generator", given),
        env=checks.variables("env", given["env"]),
        block_network=checks.flag("block_network", given["block_network"]),
        include_source=_optional_flag("include_source", given),
        single_use=_single_use(given),
        secrets=checked_secrets(given["secrets"]),
    )


def _startup_timeout(value: object) -> float:
    return float(checks.whole("startup_timeout", value, 1, MAX_TIMEOUT, " of seconds"))


def _single_use(given: Mapping[str, Any]) -> bool:
    """`max_inputs=1` is what it was called once."""
    single = checks.flag("single_use_containers", given["single_use_containers"])
    if given["max_inputs"] is None:
        return single
    if given["max_inputs"] != 1 or isinstance(given["max_inputs"], bool):
        raise InvalidError(
            f"max_inputs={checks.short(given['max_inputs'])} is not possible: give 1, or better "
            "single_use_containers=True; for several inputs at once see @squall.concurrent"
        )
    import warnings

    warnings.warn(
        "max_inputs=1 is deprecated: write single_use_containers=True", DeprecationWarning, stacklevel=5
    )
    return True


def _optional_flag(name: str, given: Mapping[str, Any]) -> bool | None:
    return None if given[name] is None else checks.flag(name, given[name])


def _check_placement(given: Mapping[str, Any]) -> None:
    """One's own machines are every region of every cloud, and take no container away for somebody else."""
    cloud, region = given["cloud"], given["region"]
    if cloud is not None and cloud not in _CLOUDS:
        raise InvalidError(f"cloud={checks.short(cloud)} is not possible: give one of {', '.join(_CLOUDS)}")
    if region is not None:
        checks.texts("region", region)
    routing = given["routing_region"]  # all calls go by way of the one server there is
    if routing is not None and (not isinstance(routing, str) or not routing.strip()):
        raise InvalidError(f"routing_region={checks.short(routing)} is not possible: give a text")
    checks.flag("nonpreemptible", given["nonpreemptible"])


def _resources(given: Mapping[str, Any]) -> ResourceRequest:
    defaults = ResourceRequest()
    cpu, cpu_limit = _pair("cpu", given["cpu"], " of cores", low=0.001, high=1000)
    memory, memory_limit = _pair("memory", given["memory"], " of MiB", low=1, high=1 << 30)
    disk = given["ephemeral_disk"]
    return ResourceRequest(
        cpu_millis=defaults.cpu_millis if cpu is None else round(cpu * 1000),
        cpu_limit_millis=None if cpu_limit is None else round(cpu_limit * 1000),
        memory_mib=defaults.memory_mib if memory is None else _whole_mib(memory),
        memory_limit_mib=None if memory_limit is None else _whole_mib(memory_limit),
        ephemeral_disk_mib=None
        if disk is None
        else checks.whole("ephemeral_disk", disk, 1, MAX_DISK_MIB, " of MiB"),
        gpus=gpus(given["gpu"]),
    )


def _whole_mib(value: float) -> int:
    return checks.whole("memory", value, 1, 1 << 30, " of MiB")


def _pair(name: str, value: Any, unit: str, *, low: float, high: float) -> tuple[float | None, float | None]:
    """(request, limit): a limit only where a pair was given."""
    if value is None:
        return None, None
    if not isinstance(value, (tuple, list)):
        return checks.number(name, value, low, high, unit), None
    if len(value) != 2:
        raise InvalidError(
            f"{name}={checks.short(value)} is not possible: give a request, or (request, limit)"
        )
    request = checks.number(name, value[0], low, high, unit)
    limit = checks.number(name, value[1], low, high, unit)
    if limit < request:
        raise InvalidError(f"{name}={checks.short(value)} is not possible: the limit is below the request")
    return request, limit


def _autoscaler(given: Mapping[str, Any]) -> AutoscalerSettings:
    low = checks.whole("min_containers", given["min_containers"] or 0, 0, MAX_CONTAINERS)
    high = given["max_containers"]
    if high is not None:
        checks.whole("max_containers", high, 1, MAX_CONTAINERS)
        if high < low:
            raise InvalidError(f"max_containers={high} is not possible: min_containers={low} is more")
    window = given["scaledown_window"]
    return AutoscalerSettings(
        min_containers=low,
        max_containers=high,
        buffer_containers=checks.whole(
            "buffer_containers", given["buffer_containers"] or 0, 0, MAX_CONTAINERS
        ),
        scaledown_window=60.0 if window is None else float(_window(window)),
    )


def _window(value: object) -> int:
    return checks.whole("scaledown_window", value, 2, 3600, " of seconds")


def retry_policy(retries: object) -> RetryPolicy:
    """A number is so many times, one second apart. Raises InvalidError."""
    if retries is None:
        return RetryPolicy()
    if isinstance(retries, Retries):
        return RetryPolicy(*retries)
    if isinstance(retries, int):
        count = checks.whole("retries", retries, 0, MAX_RETRIES)
        return RetryPolicy(count, backoff_coefficient=1.0, initial_delay=1.0)
    raise InvalidError(
        f"retries={checks.short(retries)} is not possible: give a number or squall.Retries(...)"
    )


def gpus(value: object) -> list[GpuRequest]:
    """`"H100"`, `"H100:8"`, or a list of these in order of preference. Raises InvalidError.

    The type is whatever the machines declare. `TYPE!` is exactly this type, which is what a type always
    means here; `TYPE+` also takes better ones.
    """
    if value is None:
        return []
    return [request for text in checks.texts("gpu", value) for request in _gpu(text)]


def _gpu(text: str) -> list[GpuRequest]:
    match = _GPU.fullmatch(text.strip())
    if match is None:
        raise InvalidError(
            f'gpu={checks.short(text)} is not possible: give a type and a count, such as "H100:2"'
        )
    kind, mark, count = match[1].upper(), match[2], int(match[3] or 1)
    most = _GPUS_AT_MOST.get(kind, MAX_GPUS)
    if not 1 <= count <= most:
        raise InvalidError(f"gpu={text!r} is not possible: one container can have 1 to {most} of {kind}")
    kinds = [kind, *_SIZES.get(kind, []), *(_OR_BETTER.get(kind, []) if mark == "+" else [])]
    return [GpuRequest(k, count) for k in kinds]
