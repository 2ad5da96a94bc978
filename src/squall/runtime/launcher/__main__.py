"""`python -m squall.runtime.launcher`: set the host up, clear what an earlier life left, then serve.

It prints `ready`, or one line that says why it cannot, and serves until it is told to close (or SIGTERM).
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import sys
from typing import TYPE_CHECKING

from squall.runtime import seccomp
from squall.runtime.cgroups import CgroupError, Cgroups
from squall.runtime.launcher import agents, cleanup, config, trees
from squall.runtime.launcher.container import Host
from squall.runtime.launcher.gpus import Gpus
from squall.runtime.launcher.keeper import SOCKET, Keeper
from squall.runtime.launcher.server import Server
from squall.runtime.launcher.sources import SourceError, Sources
from squall.runtime.launcher.sweeper import Sweeper
from squall.runtime.linux import mounts, processes
from squall.runtime.network import NetworkError, NetworkPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.runtime.launcher.config import Config
    from squall.runtime.launcher.keeper import Kept

#: The launcher's own directories in its state directory.
DIRECTORIES = ("zones", "scratch", "points", "empty", "bases")


class StartError(Exception):
    """The launcher cannot run here; the message is one line for a user."""


def main() -> int:
    given = config.parse(sys.argv[1:])
    try:
        _ = given.network
    except NetworkError as error:
        print(f"error: {error}", flush=True)
        return 2
    try:
        _serve(given)
    except (StartError, SourceError, CgroupError, NetworkError, ValueError) as error:
        print(f"error: {error}", flush=True)
        return 1
    except OSError as error:
        print(f"error: the launcher cannot start: {error}", flush=True)
        return 1
    return 0


def _serve(given: Config) -> None:
    if os.geteuid() != 0:
        raise StartError("the launcher needs root; start the node as root, or use the process driver")
    program_filter = seccomp.container_filter()
    lock = _own_state(given)
    processes.unshare(processes.NEWNS)
    mounts.set_propagation(mounts.MS_SLAVE)  # the host's later mounts and unmounts reach us, ours nobody
    _allow_many_descriptors()
    listener = agents.listen(given.socket, given.owner_uid)
    host = _make_host(given)
    kept = host.keeper.take_all()
    try:
        _clear(given, host, kept)
        host.network, host.network_reason = _network(given, kept)
        server = Server(given, host, listener, program_filter)
        server.revive(kept)
    except BaseException:
        if host.cgroups is not None:
            host.cgroups.close()
        given.socket.unlink(missing_ok=True)
        raise
    gc.collect()
    gc.freeze()  # forks share what is here now
    print("ready", flush=True)
    _detach_output()
    server.run()
    host.gpus.close()
    _give_up_state(given)
    os.close(lock)


def _own_state(given: Config) -> int:
    """The state directory, private to root and to one launcher. Returns the lock's descriptor."""
    given.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(given.state, 0, 0)
    given.state.chmod(0o700)
    lock = os.open(given.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(
            f"another launcher works in {given.state}; stop it or name another directory"
        ) from None
    for name in DIRECTORIES:
        (given.state / name).mkdir(mode=0o700, exist_ok=True)
    (given.state / "empty").chmod(0o755)
    return lock


def _give_up_state(given: Config) -> None:
    for name in DIRECTORIES:
        directory = given.state / name
        if name == "points":
            for point in directory.iterdir():
                point.rmdir()
        if not any(directory.iterdir()):
            directory.rmdir()


def _allow_many_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _make_host(given: Config) -> Host:
    sources = Sources(list(given.readable), list(given.writable))
    points, empty = given.state / "points", given.state / "empty"
    return Host(
        trees=trees.Trees(sources, points, empty, config.forced_fallbacks()),
        sources=sources,
        sweeper=Sweeper(),
        scratch=given.state / "scratch",
        cgroups=Cgroups.detect(f"squall-{given.key}"),
        network=None,
        network_reason="it was turned off",
        memory_mib=given.memory_mib,
        keeper=Keeper(given.state / SOCKET),
        gpus=Gpus(given.host_root, points / "gpus"),
    )


def _clear(given: Config, host: Host, kept: dict[str, Kept]) -> None:
    """Remove what an earlier launcher left, but what is kept of it."""
    zones = {f"{entry.value['uid_base']}.json" for name, entry in kept.items() if name.startswith("zone ")}
    running = {entry.value["spec"]["id"] for entry in _containers(kept) if entry.value["final"] is None}
    cleanup.kill_zones(given.state / "zones", zones)
    cleanup.sweep(given.state / "scratch", host.sweeper, running)
    cleanup.sweep(given.state / "bases", host.sweeper)
    if host.cgroups is not None:
        host.cgroups.remove_stale(running)


def _network(given: Config, kept: dict[str, Kept]) -> tuple[NetworkPool | None, str]:
    """The pool, or why there is none: containers without network still work then."""
    pool = NetworkPool(given.network)
    pool.clean_stale({lease["link"] for entry in _containers(kept) if (lease := entry.value["lease"])})
    if given.no_network:
        return None, "it was turned off"
    try:
        pool.setup()
    except NetworkError as error:
        return None, str(error)
    return pool, ""


def _containers(kept: dict[str, Kept]) -> Iterator[Kept]:
    return (entry for name, entry in kept.items() if name.startswith("container "))


def _detach_output() -> None:
    """Let go of the starter's pipe."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
