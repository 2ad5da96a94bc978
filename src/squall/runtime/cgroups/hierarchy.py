"""Which control groups this host lets us make, found out by making one.

Version 2 has one tree with all controllers; version 1 a tree for each controller; hybrid hosts have trees of
version 1 and, in `unified`, one of version 2, with the controllers that version 1 does not hold.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from squall.runtime.cgroups.limits import settings
from squall.runtime.spec import Resources

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from squall.runtime.cgroups.files import Files

#: `cpuacct` is a controller of its own in version 1 only; version 2 accounts for CPU in every group.
CONTROLLERS_V1 = frozenset({"cpu", "cpuacct", "memory", "pids"})
CONTROLLERS_V2 = frozenset({"cpu", "memory", "pids"})

#: Any total will do for a trial.
TRIAL_MEMORY_MIB = 4096

#: How often to look for processes that were forked while others of their group were moved.
EVACUATION_ROUNDS = 10


class Hierarchy(NamedTuple):
    """A tree of groups: `path` is our own group in it, below which each container has one."""

    version: Literal[1, 2]
    path: Path
    controllers: frozenset[str]


def find_hierarchies(files: Files, root: Path, parent: str) -> list[Hierarchy]:
    """The trees in which we may make groups. A tree that we may not use is left out, whatever the reason."""
    if files.exists(root / "cgroup.controllers"):
        found = [_claim_v2(files, root, parent, CONTROLLERS_V2)]
    else:
        v1 = [_claim_v1(files, tree, names, parent) for tree, names in _trees_v1(files, root).items()]
        taken = frozenset(c for h in v1 if h for c in h.controllers)
        unified = root / "unified"
        has_v2 = files.exists(unified / "cgroup.controllers")
        # Version 2 first: it can kill, so whoever joins the groups one after the other joins it first.
        found = [_claim_v2(files, unified, parent, CONTROLLERS_V2 - taken) if has_v2 else None, *v1]
    return [h for h in found if h]


def _trees_v1(files: Files, root: Path) -> dict[Path, frozenset[str]]:
    """From a tree to its controllers: they may share one (`cpu,cpuacct`), with links to it."""
    trees: dict[Path, frozenset[str]] = {}
    with suppress(OSError):
        for name in files.folders(root):
            wanted = CONTROLLERS_V1 & set(name.split(","))
            tree = files.resolve(root / name)
            if wanted and files.exists(tree / "tasks"):
                trees[tree] = trees.get(tree, frozenset()) | wanted
    return trees


def _claim_v1(files: Files, tree: Path, controllers: frozenset[str], parent: str) -> Hierarchy | None:
    try:
        _make(files, tree / parent)
        _try_out(files, tree / parent, 1, controllers)
    except OSError:
        return None
    return Hierarchy(1, tree / parent, controllers)


def _claim_v2(files: Files, tree: Path, parent: str, wanted: frozenset[str]) -> Hierarchy | None:
    try:
        base = _base_v2(files, tree, parent)
        controllers = _enable(files, base, wanted, f"{parent}-host")
        _make(files, base / parent)
        controllers = _enable(files, base / parent, controllers, None)
        _try_out(files, base / parent, 2, controllers)
    except OSError:
        return None
    return Hierarchy(2, base / parent, controllers)


def _base_v2(files: Files, tree: Path, parent: str) -> Path:
    """Where our group goes: below our own group when it was delegated to us, else at the top."""
    own = _own_group(files, tree)
    if own.name == f"{parent}-host":  # an earlier life of ours moved us there
        return own.parent
    return own if own != tree and files.is_delegated(own) else tree


def _own_group(files: Files, tree: Path) -> Path:
    for line in files.own_cgroup().splitlines():
        if line.startswith("0::/") and ".." not in line:
            own = tree / line[len("0::/") :]
            return own if files.exists(own) else tree
    return tree


def _enable(files: Files, group: Path, wanted: AbstractSet[str], leaf: str | None) -> frozenset[str]:
    """Hand controllers down to the children of a group; the ones that the kernel agreed to.

    A group that hands controllers down may not have processes of its own, except the real root of the tree,
    which alone has no `cgroup.type`. They move to a child, `leaf`.
    """
    available = wanted & set(files.read(group / "cgroup.controllers").split())
    missing = available - set(files.read(group / "cgroup.subtree_control").split())
    if missing and leaf and files.exists(group / "cgroup.type"):
        _evacuate(files, group, group / leaf)
    for controller in sorted(missing):
        with suppress(OSError):
            files.write(group / "cgroup.subtree_control", f"+{controller}")
    return frozenset(available & set(files.read(group / "cgroup.subtree_control").split()))


def _evacuate(files: Files, group: Path, leaf: Path) -> None:
    for _ in range(EVACUATION_ROUNDS):
        pids = files.read(group / "cgroup.procs").split()
        if not pids:
            return
        _make(files, leaf)
        for pid in pids:
            with suppress(ProcessLookupError):
                files.write(leaf / "cgroup.procs", pid)


def _make(files: Files, path: Path) -> None:
    with suppress(FileExistsError):
        files.mkdir(path)


def _try_out(files: Files, parent: Path, version: Literal[1, 2], controllers: AbstractSet[str]) -> None:
    """Make a group with limits and remove it: what a version or a mount option promises is not enough."""
    trial = parent / f"trial-{os.getpid()}"
    files.mkdir(trial)
    try:
        for setting in settings(version, controllers, Resources(cpu_limit_millis=1000), TRIAL_MEMORY_MIB):
            if setting.required:
                files.write(trial / setting.file, setting.value)
    finally:
        files.rmdir(trial)
