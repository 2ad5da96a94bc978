"""Checks what the agent asks before root acts on it. The agent is trusted more than a tenant, not blindly."""

from __future__ import annotations

import os
import re
from typing import Any

from squall.runtime.launcher.workspaces import RANGE
from squall.runtime.spec import Command, ContainerSpec, Mount, Resources

#: Container ids name cgroups and directories.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
#: The name of a build's upper; it is part of mount options.
UPPER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

#: A release of Debian or Ubuntu; it becomes part of a command line.
SUITE = re.compile(r"[a-z][a-z0-9-]{0,31}")

MAX_LAYERS = 256
MAX_MOUNTS = 128
MAX_GPUS, MAX_MINOR = 64, 255
MAX_TERMINAL = 0xFFFF

#: Where the container's own file systems go; nothing may be mounted at or below them.
RESERVED = ("/proc", "/sys", "/dev")


class SpecError(Exception):
    """A container spec that is not acceptable; the message is one line for a user."""


def parse_spec(data: object, uid_first: int, uid_last: int) -> ContainerSpec:
    """The spec in a request, checked. Raises `SpecError`."""
    try:
        spec = ContainerSpec.from_json(_object(data, "spec"))
    except (TypeError, KeyError, ValueError) as error:
        raise SpecError(f"the container spec is malformed: {error}") from None
    _check_names(spec)
    if not (uid_first <= spec.uid_base <= uid_last and (spec.uid_base - uid_first) % RANGE == 0):
        raise SpecError(f"uid_base {spec.uid_base} is no workspace range of this node")
    _check_program(spec)
    _absolute(spec.cwd, "cwd")
    _check_tree(spec)
    _check_resources(spec.resources)
    _check_gpus(spec.gpus)
    return spec


def parse_command(data: object) -> Command:
    """The command in a request, checked. Raises `SpecError`."""
    try:
        command = Command.from_json(_object(data, "command"))
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise SpecError(f"the command is malformed: {error}") from None
    _check_program(command)
    if command.cwd:
        _absolute(command.cwd, "cwd")
    for size in command.terminal or ():
        _number(size, "the size of the terminal", least=0)
        if size > MAX_TERMINAL:
            raise SpecError(f"a terminal has at most {MAX_TERMINAL} rows and columns")
    return command


def checked_path(data: object) -> str:
    """An absolute path in its plain form that has a name, as text that the kernel takes."""
    path = _plain(data, "path")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SpecError("path is no text that a file could be named by") from None
    if not path.startswith("/") or path == "/" or os.path.normpath(path) != path or path.startswith("//"):
        raise SpecError(f"path {path[:200]!r} is not absolute and plain")
    return path


def checked_suite(data: object) -> str:
    return _match(SUITE, data, "release")


def checked_id(data: object) -> str:
    return _match(ID, data, "container id")


def _check_names(spec: ContainerSpec) -> None:
    _match(ID, spec.id, "container id")
    _match(WORKSPACE, spec.workspace, "workspace")
    _match(HOSTNAME, spec.hostname, "hostname")
    if spec.network not in ("egress", "none"):
        raise SpecError(f"network is {spec.network!r}; it must be 'egress' or 'none'")
    _number(spec.uid_base, "uid_base", least=1)


def _check_program(program: ContainerSpec | Command) -> None:
    if not program.argv:
        raise SpecError("argv is empty; name a program")
    for text in (*program.argv, *_object(program.env, "env").keys(), *program.env.values()):
        _plain(text, "argv and env")
    if any("=" in key or not key for key in program.env):
        raise SpecError("a name in env is empty or has '='")


def _check_tree(spec: ContainerSpec) -> None:
    if len(spec.layers) > MAX_LAYERS or len(spec.mounts) > MAX_MOUNTS:
        raise SpecError(f"more than {MAX_LAYERS} layers or {MAX_MOUNTS} mounts; merge some")
    for layer in spec.layers:
        _absolute(layer, "layer")
    if spec.upper is not None:
        _absolute(spec.upper, "upper")
        _match(UPPER_NAME, spec.upper.rstrip("/").rpartition("/")[2], "name of the upper directory")
    for mount in spec.mounts:
        _check_mount(mount)


def _check_mount(mount: Mount) -> None:
    _absolute(mount.source, "mount source")
    _absolute(mount.target, "mount target")
    if not isinstance(mount.read_only, bool):
        raise SpecError("read_only of a mount is no boolean")
    parts = [p for p in mount.target.split("/") if p]
    if not parts or ".." in parts or "." in parts:
        raise SpecError(f"mount target {mount.target!r} is not a plain path below /")
    if "/" + parts[0] in RESERVED:
        raise SpecError(f"mount target {mount.target!r} is inside a file system of the container's own")


def _check_resources(resources: Resources) -> None:
    _number(resources.cpu_millis, "cpu_millis", least=1)
    _number(resources.memory_mib, "memory_mib", least=1)
    _number(resources.pids, "pids", least=1)
    for limit in (resources.cpu_limit_millis, resources.memory_limit_mib):
        if limit is not None:
            _number(limit, "limit", least=1)


def _check_gpus(gpus: tuple[int, ...]) -> None:
    for minor in gpus:
        _number(minor, "a GPU's minor number", least=0)
    if len(gpus) > MAX_GPUS or len(set(gpus)) != len(gpus) or any(minor > MAX_MINOR for minor in gpus):
        raise SpecError(f"gpus must be at most {MAX_GPUS} different minor numbers up to {MAX_MINOR}")


def _object(data: object, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SpecError(f"{what} is no object")
    return data


def _plain(text: object, what: str) -> str:
    if not isinstance(text, str) or "\0" in text:
        raise SpecError(f"{what} must be text without NUL bytes")
    return text


def _absolute(path: object, what: str) -> None:
    if not _plain(path, what).startswith("/"):
        raise SpecError(f"{what} {path!r} is not absolute")


def _match(pattern: re.Pattern[str], text: object, what: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise SpecError(f"{what} {text!r} is not acceptable; it must match {pattern.pattern}")
    return text


def _number(value: object, what: str, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or value > 1 << 40:
        raise SpecError(f"{what} is {value!r}; it must be a whole number of at least {least}")
