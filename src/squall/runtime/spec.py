"""What a container is, said once: the values that cross from the agent to a runtime driver.

Plain data, JSON-able (the launcher reads it from a socket): no objects, no I/O.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Network = Literal["egress", "none"]

#: Defaults of DESIGN.md section 5.1.
DEFAULT_CPU_MILLIS = 125
DEFAULT_MEMORY_MIB = 128
DEFAULT_PIDS = 4096


@dataclass(frozen=True)
class Mount:
    """A directory or file of the host, bind-mounted into the container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Resources:
    """A request places, a limit caps; `None` caps at the node's total less a reserve.

    CPU in thousandths of a core, memory in MiB.
    """

    cpu_millis: int = DEFAULT_CPU_MILLIS
    cpu_limit_millis: int | None = None
    memory_mib: int = DEFAULT_MEMORY_MIB
    memory_limit_mib: int | None = None
    pids: int = DEFAULT_PIDS


@dataclass(frozen=True)
class ContainerSpec:
    """Everything that a driver needs to start one container.

    `layers` are host directories, the base first; they are owned by uid 0 and are shown to the container
    idmapped into its workspace's range. `upper` names a directory that receives the container's writes as
    a new layer (a build step); without it the writes go to a scratch directory that ends with the container.
    `uid_base` is the first host uid of the workspace's range of 65,536. `gpus` are the minor numbers of the
    NVIDIA devices that it gets; without any it sees none, and not the driver's files either.
    """

    id: str
    workspace: str
    uid_base: int
    argv: tuple[str, ...]
    layers: tuple[str, ...] = ()
    upper: str | None = None
    mounts: tuple[Mount, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/root"
    hostname: str = "squall"
    resources: Resources = field(default_factory=Resources)
    network: Network = "egress"
    gpus: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ContainerSpec:
        fields = dict(data)
        fields["argv"] = tuple(fields["argv"])
        fields["layers"] = tuple(fields["layers"])
        fields["mounts"] = tuple(Mount(**m) for m in fields["mounts"])
        fields["resources"] = Resources(**fields["resources"])
        fields["gpus"] = tuple(fields.get("gpus", ()))
        return cls(**fields)


@dataclass(frozen=True)
class Command:
    """A program that is to join a running container.

    `env` is added to the container's own; an empty `cwd` is that of its program. `terminal` has rows and
    columns; without it the program gets pipes.
    """

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    terminal: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Command:
        terminal = data["terminal"]
        size = None if terminal is None else (terminal[0], terminal[1])
        return cls(tuple(data["argv"]), data["env"], data["cwd"], size)


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far, memory now and at its peak in bytes; `None` where the host cannot tell."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None


@dataclass(frozen=True)
class ExitStatus:
    """How a container ended. Exactly one of `code` and `signal` is set.

    `oom` is the kernel's word (cgroup events), not a guess from SIGKILL; `by_us` says that the driver was
    asked to kill it. `pids_hit` says that the process limit was met at least once. `usage` is the final one.
    """

    code: int | None = None
    signal: int | None = None
    oom: bool = False
    by_us: bool = False
    pids_hit: bool = False
    usage: Usage = field(default_factory=Usage)
