"""Real namespaces, routes and rules, on a host and an internet that the test makes of namespaces."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from squall.runtime.capabilities import CONTAINER_CAPS, set_caps
from squall.runtime.linux import processes
from squall.runtime.network import Lease, NetworkConfig, NetworkError, NetworkPool, firewall, resolvers
from squall.runtime.network import netlink as n
from squall.runtime.network.links import inside
from squall.runtime.network.netlink import Rtnetlink
from tests.runtime import fakenet
from tests.runtime.fakenet import HOST, INTERNET, METADATA, PRIVATE, ask, container_netns, on_fake_host

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = NetworkConfig(
    subnet="198.19.7.0/24", refuse=("10.8.0.0/16",), table="squall_test", link_prefix="sqt-"
)


def _lacking() -> str | None:
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{firewall.SBIN}") is None:
        return "needs the command nft (package nftables)"
    try:
        on_fake_host(lambda: firewall.load("table inet squall_test {}\n"))
        on_fake_host(lambda: os.close(container_netns()))
    except AssertionError as error:
        return f"the host refuses network namespaces or nftables: {str(error).splitlines()[-1]}"
    return None


LACKING = _lacking()
pytestmark = [pytest.mark.root, pytest.mark.skipif(LACKING is not None, reason=LACKING or "")]


def fake_host(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test on a fake host with an internet."""

    def with_internet() -> None:
        fakenet.internet()
        test()

    @functools.wraps(test)
    def run() -> None:
        on_fake_host(with_internet)

    return run


def started(config: NetworkConfig = CONFIG) -> NetworkPool:
    pool = NetworkPool(config)
    pool.clean_stale()
    pool.setup()
    return pool


def lease(pool: NetworkPool, workspace: str = "ws-1") -> Lease:
    return pool.acquire(workspace, container_netns)


def links() -> set[str]:
    with Rtnetlink() as host:
        return {link.name for link in host.links()}


def eventually(holds: Callable[[], bool]) -> None:
    """The kernel removes interfaces with their namespace, later."""
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("it did not come true")


@fake_host
def test_container_reaches_the_internet_as_the_host() -> None:
    assert ask(lease(started()).fd, INTERNET) == HOST


@fake_host
def test_private_networks_are_open_unless_configured() -> None:
    open_to_it = started()
    assert ask(lease(open_to_it).fd, PRIVATE) == HOST
    open_to_it.teardown()
    refusing = started(replace(CONFIG, refuse=("10.0.0.0/8",)))
    assert ask(lease(refusing).fd, PRIVATE) == "ConnectionRefusedError"


@fake_host
def test_hosts_own_addresses_are_refused() -> None:
    fakenet.serve()
    with Rtnetlink() as host:
        host.add_address(1, "192.0.2.77")
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert ask(own, "192.0.2.77") == "192.0.2.77"  # it does serve
    container = lease(started()).fd
    assert [ask(container, a) for a in (HOST, "192.0.2.77")] == ["ConnectionRefusedError"] * 2
    assert ask(container, "127.0.0.1") == "ConnectionRefusedError"  # the container's own loopback


@fake_host
def test_metadata_service_is_refused() -> None:
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert ask(own, METADATA) == HOST  # the host may
    assert ask(lease(started()).fd, METADATA) == "ConnectionRefusedError"


@fake_host
def test_other_containers_are_refused() -> None:
    pool = started()
    one, other, foreign = lease(pool), lease(pool), lease(pool, "ws-2")
    for target in (other, foreign):
        with inside(target.fd):
            fakenet.serve()
        assert ask(target.fd, target.address) == target.address
        assert ask(one.fd, target.address) == "ConnectionRefusedError"


@fake_host
def test_containers_of_another_launcher_are_refused() -> None:
    other = lease(started(NetworkConfig(subnet=CONFIG.subnet, table="other", link_prefix="oth-")))
    with inside(other.fd):
        fakenet.serve()
    one = lease(started())
    assert one.address != other.address
    assert ask(one.fd, other.address) == "ConnectionRefusedError"


@fake_host
def test_nobody_outside_reaches_a_container() -> None:
    container = lease(started())
    with inside(container.fd):
        fakenet.serve()
    outside = fakenet.new_netns()
    fakenet.join("lan0", "192.0.2.1", outside, "192.0.2.2")
    with inside(outside), Rtnetlink() as there:
        there.add_route(socket.if_nametoindex("eth0"), "198.19.0.0", 16, "192.0.2.1")
    assert ask(outside, container.address) == "ConnectionRefusedError"


@fake_host
def test_host_does_not_become_a_router_for_the_outside() -> None:
    started()
    behind = fakenet.new_netns()
    fakenet.join("lan0", "192.0.2.1", behind, "192.0.2.2")
    with inside(behind):
        with Rtnetlink() as there:
            there.add_route(socket.if_nametoindex("eth0"), "0.0.0.0", 0, "192.0.2.1")
        fakenet.serve()
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("192.0.2.2", 9))
    sender = _internets_socket()
    sender.sendto(b"hello", ("192.0.2.2", 9))
    # Delivery is synchronous on veth: what has not arrived when the next thing arrives was dropped.
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"from the host", ("192.0.2.2", 9))
    assert listener.recv(100) == b"from the host"
    assert ask(behind, INTERNET) == "192.0.2.2"  # those behind the host may go out as before


def _internets_socket() -> socket.socket:
    with inside(fakenet.INTERNETS[-1]):
        with Rtnetlink() as there:
            there.add_route(socket.if_nametoindex("eth0"), "192.0.2.0", 24, HOST)
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@fake_host
def test_container_has_no_ipv6_but_loopback() -> None:
    with inside(lease(started()).fd):
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            socket.create_connection(server.getsockname()[:2]).close()
        with open("/proc/self/net/if_inet6", encoding="ascii") as file:
            assert [line.split()[-1] for line in file] == ["lo"]


@fake_host
def test_without_a_lease_there_is_only_loopback() -> None:
    started()
    assert ask(container_netns(), INTERNET) == "OSError"


@fake_host
def test_resolvers_may_be_asked_wherever_they_are() -> None:
    text = f"nameserver {METADATA}\n"
    resolvers.resolv_conf = lambda *_: text  # in this test's process only
    with inside(fakenet.INTERNETS[-1]):
        fakenet.serve(53)
    container = lease(started()).fd
    assert ask(container, METADATA, 53) == HOST
    assert ask(container, METADATA) == "ConnectionRefusedError"


@fake_host
def test_network_is_reused_for_its_workspace_only() -> None:
    pool = started()
    first = lease(pool)
    pool.release(first)
    foreign = lease(pool, "ws-2")
    assert foreign.address != first.address
    again = pool.acquire("ws-1", lambda: pytest.fail("there is one in the pool"))
    assert again == first
    assert ask(again.fd, INTERNET) == HOST


@fake_host
def test_pool_is_bounded() -> None:
    pool = started(replace(CONFIG, pool_size=2))
    leases = [lease(pool, f"ws-{n}") for n in range(3)]
    for each in leases:
        pool.release(each)
        pool.release(each)  # twice is fine
    eventually(lambda: {n for n in links() if n.startswith("sqt-")} == {x.link for x in leases[1:]})


@fake_host
def test_addresses_run_out_with_a_message_and_come_back() -> None:
    pool = started(replace(CONFIG, subnet="198.19.7.0/29", pool_size=0))
    leases = [lease(pool) for _ in range(5)]
    assert len({x.address for x in leases}) == 5
    with pytest.raises(NetworkError, match="in use"):
        lease(pool)
    pool.release(leases[3])
    eventually(lambda: leases[3].link not in links())
    assert lease(pool).address == leases[3].address


@fake_host
def test_teardown_leaves_nothing() -> None:
    before = links()
    pool = started()
    pool.release(lease(pool))
    lease(pool, "ws-2")
    assert firewall.is_forwarding()
    pool.teardown()
    assert links() == before
    assert not firewall.has_table("squall_test")
    assert not firewall.is_forwarding()


@fake_host
def test_forwarding_that_was_on_stays_on() -> None:
    firewall.set_forwarding(on=True)
    started().teardown()
    assert firewall.is_forwarding()


@fake_host
def test_forwarding_stays_on_for_a_bridge_that_came_later() -> None:
    pool = started()
    _add_bridge()
    pool.teardown()
    assert firewall.is_forwarding()


def _add_bridge() -> None:
    info = n._text(n._IFLA_IFNAME, "br0") + n._nested(n._IFLA_LINKINFO, n._text(n._INFO_KIND, "bridge"))
    with Rtnetlink() as host:
        host._change(n._NEWLINK, n._LINK.pack(0, 0, 0, 0, 0) + info, n._CREATE)


@fake_host
def test_stale_network_of_a_dead_life_is_removed_and_nothing_else() -> None:
    foreign = fakenet.new_netns()
    fakenet.join("sqt-99", "192.0.2.1", foreign, "192.0.2.2")  # our name, but not our mark
    before = links()
    dead = started()
    lease(dead)
    reborn = NetworkPool(CONFIG)
    reborn.clean_stale()
    assert links() == before
    assert not firewall.has_table("squall_test")
    assert not firewall.is_forwarding()
    reborn.setup()
    assert ask(lease(reborn).fd, INTERNET) == HOST


@fake_host
def test_running_containers_keep_their_network_through_a_restart() -> None:
    old = lease(started())
    reborn = NetworkPool(CONFIG)
    reborn.clean_stale(keep={old.link})
    reborn.setup()
    assert ask(old.fd, INTERNET) == HOST
    assert ask(old.fd, METADATA) == "ConnectionRefusedError"
    assert lease(reborn).address != old.address
    reborn.teardown()
    assert not firewall.is_forwarding()


@fake_host
def test_range_in_use_is_an_error_before_anything_is_changed() -> None:
    fakenet.join("vpn0", "198.19.7.77", fakenet.new_netns(), "198.19.7.78")
    with pytest.raises(NetworkError, match=r"198\.19\.7\.\d+/32 on .*another range"):
        started()
    assert not firewall.has_table("squall_test")


@fake_host
def test_firewall_that_drops_what_is_forwarded_is_told() -> None:
    firewall.load(
        "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }\n"
    )
    assert "ip filter FORWARD" in " ".join(started().losses)


@fake_host
def test_failing_namespace_leaves_nothing() -> None:
    pool = started()
    before = links()
    with pytest.raises(NetworkError, match="cannot make a network"):
        pool.acquire("ws-1", lambda: os.open("/dev/null", os.O_RDONLY))
    assert links() == before


@fake_host
def test_missing_nft_is_one_line_with_the_remedy() -> None:
    os.environ["PATH"] = "/nonexistent"
    firewall.SBIN = "/nonexistent"
    with pytest.raises(NetworkError, match="install the package nftables"):
        started()


@fake_host
def test_rules_that_the_kernel_refuses_are_one_line() -> None:
    with pytest.raises(NetworkError, match="refuses our firewall rules") as raised:
        firewall.load("table inet {")
    assert "\n" not in str(raised.value)


@fake_host
def test_root_of_a_container_cannot_change_its_network() -> None:
    pid = os.fork()
    if pid == 0:
        processes.unshare(processes.NEWUSER | processes.NEWNET)
        set_caps(CONTAINER_CAPS)
        try:
            with Rtnetlink() as own:
                own.add_address(1, METADATA)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
