"""The parameters of `@app.function` and `@app.cls`: names, types and defaults, in this one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import PurePosixPath

    from squall.sdk.image import Image
    from squall.sdk.retries import Retries
    from squall.sdk.secret import Secret


class ClassOptions(TypedDict, total=False):
    """What `@app.cls(...)` takes; all by keyword.

    Sizes are in MiB, times in seconds, `cpu` in cores. A pair for `cpu` or `memory` is (request, limit).
    """

    image: Image | None
    env: Mapping[str, str | None] | None
    secrets: Collection[Secret] | None
    gpu: str | Sequence[str] | None
    serialized: bool
    network_file_systems: Mapping[str | PurePosixPath, object]
    volumes: Mapping[str | PurePosixPath, object]
    cpu: float | tuple[float, float] | None
    memory: int | tuple[int, int] | None
    ephemeral_disk: int | None
    min_containers: int | None
    max_containers: int | None
    buffer_containers: int | None
    scaledown_window: int | None
    proxy: object | None
    retries: int | Retries | None
    timeout: int
    startup_timeout: int | None
    cloud: str | None
    region: str | Sequence[str] | None
    routing_region: str | None
    nonpreemptible: bool
    enable_memory_snapshot: bool
    block_network: bool
    restrict_modal_access: bool
    single_use_containers: bool
    i6pn: bool | None
    include_source: bool | None
    experimental_options: Mapping[str, Any] | None
    _experimental_restrict_output: bool
    max_inputs: int | None


class FunctionOptions(ClassOptions, total=False):
    """What `@app.function(...)` takes: that, and what only a function has."""

    schedule: object | None
    name: str | None
    is_generator: bool | None


#: Every parameter and its default.
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(FunctionOptions.__annotations__),
    "serialized": False,
    "network_file_systems": {},
    "volumes": {},
    "timeout": 300,
    "nonpreemptible": False,
    "enable_memory_snapshot": False,
    "block_network": False,
    "restrict_modal_access": False,
    "single_use_containers": False,
    "_experimental_restrict_output": False,
}
