from __future__ import annotations

import json

import pytest

from squall.runtime.network.config import LINK_LOCAL, NetworkConfig, NetworkError
from squall.runtime.network.firewall import blocking
from squall.runtime.network.pool import _without_overlaps
from squall.runtime.network.resolvers import NONE_USABLE, resolv_conf, usable
from squall.runtime.network.rules import FORWARDING_WAS_OFF, Policy, ruleset

POLICY = Policy("squall", "sq-", "198.19.0.0/16", (LINK_LOCAL, "198.19.0.0/16"), ("192.0.2.53",), ("eth0",))


def rules(policy: Policy, chain: str) -> list[str]:
    lines = ruleset(policy).splitlines()
    start = lines.index(f"  chain {chain} {{") + 1
    return [line.strip() for line in lines[start : lines.index("  }", start)]][1:]


def position(policy: Policy, text: str) -> int:
    return next(n for n, rule in enumerate(rules(policy, "forward")) if text in rule)


def test_table_is_replaced_in_one_transaction() -> None:
    assert ruleset(POLICY).startswith("table inet squall\ndelete table inet squall\ntable inet squall {\n")


def test_host_is_refused_but_for_names() -> None:
    assert rules(POLICY, "input") == [
        'iifname "sq-*" ip daddr { 192.0.2.53 } udp dport 53 accept',
        'iifname "sq-*" ip daddr { 192.0.2.53 } tcp dport 53 accept',
        'iifname "sq-*" meta l4proto tcp reject with tcp reset',
        'iifname "sq-*" reject with icmpx admin-prohibited',
    ]


@pytest.mark.parametrize(
    "refused", ['iifname "sq-*" oifname "sq-*"', "ip daddr { 169", "nfproto ipv6", "dnat reject"]
)
def test_refusals_come_before_the_permission(refused: str) -> None:
    assert position(POLICY, refused) < rules(POLICY, "forward").index('iifname "sq-*" accept')


def test_names_may_be_asked_even_in_refused_networks() -> None:
    assert position(POLICY, "dport 53 accept") < position(POLICY, "ip daddr { 169")


def test_containers_get_answers_only() -> None:
    forward = rules(POLICY, "forward")
    answers = forward.index('oifname "sq-*" ct state established,related accept')
    assert forward[answers + 2] == 'oifname "sq-*" reject with icmpx admin-prohibited'


def test_guard_names_the_uplinks() -> None:
    assert 'iifname { "eth0" } ct state new ct status & dnat == 0 drop' in rules(POLICY, "forward")


def test_mark_of_forwarding() -> None:
    assert FORWARDING_WAS_OFF not in ruleset(POLICY)
    marked = Policy("squall", "sq-", "198.19.0.0/16", (LINK_LOCAL,), forwarding_was_off=True)
    assert f"chain {FORWARDING_WAS_OFF} {{" in ruleset(marked)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subnet": "198.19.0.1/16"}, "no network"),
        ({"subnet": "fd00::/64"}, "IPv6"),
        ({"subnet": "198.19.0.0/31"}, "too small"),
        ({"subnet": "10.0.0.0/8"}, "too large"),
        ({"refuse": ("10.0.0.0/8", "private")}, "'private'"),
        ({"table": "x; flush ruleset"}, "no name"),
        ({"link_prefix": "much-too-long-a-prefix"}, "interface"),
        ({"link_prefix": 'a"*'}, "interface"),
    ],
)
def test_bad_configuration_is_one_line(fields: dict[str, str], message: str) -> None:
    with pytest.raises(NetworkError, match=message) as raised:
        NetworkConfig(**fields)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_configured_networks_are_refused_beside_the_defaults() -> None:
    config = NetworkConfig(refuse=("10.0.0.0/8", "fd00::/8"))
    assert config.refused == (LINK_LOCAL, "198.19.0.0/16", "10.0.0.0/8")


def test_addresses_leave_out_network_gateway_and_broadcast() -> None:
    config = NetworkConfig(subnet="198.19.0.0/29")
    assert [config.address(s) for s in config.slots] == [f"198.19.0.{n}" for n in (2, 3, 4, 5, 6)]
    assert config.gateway == "198.19.0.1"


def test_longest_link_name_fits() -> None:
    assert len(NetworkConfig(link_prefix="a" * 10).link(65535)) == 15


def test_overlapping_networks_become_one() -> None:
    assert _without_overlaps(("10.0.0.0/8", "10.1.0.0/16", LINK_LOCAL)) == ("10.0.0.0/8", LINK_LOCAL)


def test_chains_of_others_that_drop_are_found() -> None:
    hooked = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward"}
    chains = [
        {**hooked, "policy": "drop"},
        {**hooked, "policy": "accept", "table": "other"},
        {**hooked, "policy": "drop", "table": "squall"},
        {**hooked, "policy": "drop", "hook": "input"},
        {"family": "ip", "table": "filter", "name": "DOCKER"},
    ]
    listing = json.dumps({"nftables": [{"metainfo": {}}, *({"chain": c} for c in chains)]})
    assert blocking(listing, "squall") == ["ip filter FORWARD"]


def test_resolvers_on_loopback_and_ipv6_are_left_out() -> None:
    text = (
        "# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nnameserver 0.0.0.0\nnameserver\n"
    )
    assert usable(text) == ["192.0.2.1"]


def test_upstream_resolvers_stand_in_for_a_local_one(tmp_path: object) -> None:
    stub, upstream = f"{tmp_path}/stub", f"{tmp_path}/upstream"
    with open(stub, "w", encoding="utf-8") as file:
        file.write("nameserver 127.0.0.53\noptions edns0\n")
    with open(upstream, "w", encoding="utf-8") as file:
        file.write("nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch example.org\ndomain x\n")
    text = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch example.org\n"
    assert resolv_conf([stub, f"{tmp_path}/none", upstream]) == text
    assert resolv_conf([stub]) == NONE_USABLE
