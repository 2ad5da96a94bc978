"""The policy as a table of nftables. Pure.

Order matters: what a container may not reach is refused before what it may is allowed. The answer is a
refusal rather than silence, so that a program fails at once.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Before the host's own filters. (A packet must pass both: what these accept, those may still refuse.)
PRIORITY = -10

#: A chain that nothing uses, whose presence says that we turned forwarding on. It goes when the host
#: reboots, as forwarding does; so it cannot be out of date.
FORWARDING_WAS_OFF = "forwarding_was_off"

REFUSE = ("meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited")


@dataclass(frozen=True)
class Policy:
    """`links` is the prefix of our interfaces, `resolvers` what containers may ask for names wherever it is.

    `guarded` are the host's interfaces to the outside that had no forwarding before we turned it on: the host
    must not become a router for whoever is out there.
    """

    table: str
    links: str
    subnet: str
    refused: tuple[str, ...]
    resolvers: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    forwarding_was_off: bool = False


def ruleset(policy: Policy) -> str:
    """The text for `nft -f`: replaces our table in one transaction, whether it exists or not."""
    chains = [
        _chain("input", f"type filter hook input priority {PRIORITY}; policy accept;", _input(policy)),
        _chain("forward", f"type filter hook forward priority {PRIORITY}; policy accept;", _forward(policy)),
        _chain("postrouting", "type nat hook postrouting priority 100; policy accept;", _masquerade(policy)),
    ]
    if policy.forwarding_was_off:
        chains.append(_chain(FORWARDING_WAS_OFF, "", []))
    name = f"inet {policy.table}"
    return f"table {name}\ndelete table {name}\ntable {name} {{\n{''.join(chains)}}}\n"


def _input(policy: Policy) -> list[str]:
    """To the host itself, whatever address of it: for names only."""
    return [*_names(policy), *_refuse(f'iifname "{policy.links}*"')]


def _forward(policy: Policy) -> list[str]:
    ours = f'"{policy.links}*"'
    return [
        *_refuse(f"iifname {ours} oifname {ours}"),
        f"oifname {ours} ct state established,related accept",
        *_refuse(f"oifname {ours}"),
        f"iifname {ours} ip saddr != {policy.subnet} drop",
        *_refuse(f"iifname {ours} meta nfproto ipv6"),
        *_names(policy),
        # The host's own services again, where another table redirects them (published ports of Docker).
        *_refuse(f"iifname {ours} ct status dnat"),
        *_refuse(f"iifname {ours} ip daddr {_set(policy.refused)}"),
        f"iifname {ours} accept",
        *_guard(policy),
    ]


def _masquerade(policy: Policy) -> list[str]:
    return [f'iifname "{policy.links}*" ip saddr {policy.subnet} masquerade']


def _names(policy: Policy) -> list[str]:
    if not policy.resolvers:
        return []
    to = f'iifname "{policy.links}*" ip daddr {_set(policy.resolvers)}'
    return [f"{to} udp dport 53 accept", f"{to} tcp dport 53 accept"]


def _guard(policy: Policy) -> list[str]:
    """What comes in from outside and is neither an answer nor redirected on purpose is not passed on."""
    if not policy.guarded:
        return []
    names = _set(tuple(f'"{name}"' for name in policy.guarded))
    return [f"iifname {names} ct state new ct status & dnat == 0 drop"]


def _refuse(match: str) -> list[str]:
    return [f"{match} {verdict}" for verdict in REFUSE]


def _set(elements: tuple[str, ...]) -> str:
    return f"{{ {', '.join(elements)} }}"


def _chain(name: str, hook: str, rules: list[str]) -> str:
    lines = "".join(f"    {line}\n" for line in (hook, *rules) if line)
    return f"  chain {name} {{\n{lines}  }}\n"
