"""From what the server asks for to what a driver and a runner are told. Pure.

With the process driver there are no mounts: paths are the host's own.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from squall.runtime.gpus import DRIVER_FILES
from squall.runtime.spec import ContainerSpec, Mount, Resources
from squall.wire.values import PAYLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from squall.build.base import BuiltImage
    from squall.runtime.gpus import Gpu
    from squall.wire.messages import StartContainer
    from squall.wire.values import FunctionSpec, ResourceRequest

SOURCE = "/squall/source"
SQUALL = "/opt/squall"
SOCKETS = "/run/squall"
CANCELLATION = "squall.exception:InputCancellation"
DEFAULTS = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class SpecError(Exception):
    """What the function asks, the driver cannot do; one line."""


@dataclass(frozen=True)
class Places:
    """Folders of this host: of the container's socket, of squall's copy, and of each manifest's tree."""

    sockets: Path
    squall: Path
    trees: Mapping[str, Path]


def isolated(
    start: StartContainer, image: BuiltImage, places: Places, gpus: Sequence[Gpu] = ()
) -> ContainerSpec:
    """For a driver with mounts."""
    env = {**DEFAULTS, **environment(start, image, SOCKETS)}
    mounts = [Mount(str(places.sockets), SOCKETS), Mount(str(places.squall), SQUALL)]
    mounts += [Mount(str(places.trees[m.manifest]), m.target) for m in start.function.mounts]
    return ContainerSpec(
        id=start.container,
        workspace=start.workspace,
        uid_base=start.uid_base,
        argv=(image.python, f"{SQUALL}/squall/runner"),
        layers=tuple(image.layers),
        mounts=tuple(mounts),
        env={**env, **_driver_paths(env)} if gpus else env,
        cwd=image.workdir,
        resources=resources(start.function.resources),
        network="none" if start.function.block_network else "egress",
        gpus=tuple(gpu.minor for gpu in gpus),
    )


def _driver_paths(env: Mapping[str, str]) -> dict[str, str]:
    """The driver's files come after the image's own, which may be meant to win (cuda-compat)."""
    found = {}
    for name, folder in (("PATH", "bin"), ("LD_LIBRARY_PATH", "lib64")):
        found[name] = ":".join(filter(None, (env.get(name, ""), f"{DRIVER_FILES}/{folder}")))
    return found


def unisolated(
    start: StartContainer,
    image: BuiltImage,
    places: Places,
    home: Path,
    gpus: Sequence[Gpu] | None = None,
) -> ContainerSpec:
    """For the process driver, which can ask programs not to use other GPUs, no more. Raises SpecError.

    `gpus` is None on a node that has none.
    """
    env = {**DEFAULTS, "HOME": str(home), **environment(start, image, str(places.sockets))}
    if gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus)
    for mount in start.function.mounts:
        if not is_source(mount.target):
            raise SpecError(
                f"the process driver cannot show files at {mount.target}: add them with copy=True, "
                "or use a host with namespaces"
            )
    return ContainerSpec(
        id=start.container,
        workspace=start.workspace,
        uid_base=start.uid_base,
        argv=(image.python, str(places.squall / "squall" / "runner")),
        env=env,
        cwd=image.workdir if image.workdir.startswith(str(home.parent)) else str(home),
        resources=resources(start.function.resources),
        network="none" if start.function.block_network else "egress",
    )


def environment(start: StartContainer, image: BuiltImage, sockets: str) -> dict[str, str]:
    """The image's variables, those of secrets, the function's, and ours."""
    return {
        **image.env,
        **start.secrets,
        **start.function.env,
        "SQUALL_TASK_ID": start.container,
        "SQUALL_IS_REMOTE": "1",
        "SQUALL_IMAGE_ID": start.function.image,
        "SQUALL_ENVIRONMENT": start.environment,
        "SQUALL_SOCKET": f"{sockets}/agent.sock",
    }


def resources(request: ResourceRequest) -> Resources:
    return Resources(
        cpu_millis=request.cpu_millis,
        cpu_limit_millis=request.cpu_limit_millis,
        memory_mib=request.memory_mib,
        memory_limit_mib=request.memory_limit_mib,
    )


def is_source(target: str) -> bool:
    return target == SOURCE or target.startswith(SOURCE + "/")


def config(start: StartContainer, trees: Mapping[str, Path] | None) -> dict[str, Any]:
    """The header of a runner's CONFIG; with `trees`, source is found at the host's paths."""
    function = start.function
    batching = function.batching
    sources = [m for m in function.mounts if is_source(m.target)]
    return {
        "module": function.module,
        "qualname": function.qualname,
        "serialized": function.serialized is not None,
        "paths": [m.target if trees is None else str(trees[m.manifest]) for m in sources],
        "generator": function.is_generator,
        "name": function.name,
        "app": start.app,
        "function_id": start.function_id,
        "secrets": sorted(start.secrets),
        "cancellation": CANCELLATION,
        "limit": PAYLOAD_LIMIT,
        "max_inputs": function.concurrency.max_inputs,
        "batching": {_batched(function): [batching.max_batch_size, batching.wait]}
        if batching.max_batch_size
        else {},
        "class": None if function.class_ is None else _parameters(function.parameters or {}),
    }


def _batched(function: FunctionSpec) -> str:
    """The method whose inputs gather: a class has no other then."""
    return "" if function.class_ is None else next(iter(function.class_.methods))


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them."""
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in values.items()
    }
