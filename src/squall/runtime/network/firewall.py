"""The command of nftables, and the kernel's switch for forwarding. Both are the host's: we touch our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from squall.runtime.network.config import NetworkError
from squall.runtime.network.rules import FORWARDING_WAS_OFF

#: Where administrators' commands are, which the PATH of a service or a user may lack.
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
TIMEOUT_S = 30.0
IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"


def find_nft() -> str:
    """The path of `nft`. Raises `NetworkError`."""
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if nft is None:
        raise NetworkError("the command nft is missing: install the package nftables, or run without network")
    return nft


def load(text: str) -> None:
    """Put a ruleset in force, all of it or nothing. Raises `NetworkError`."""
    done = _nft("-f", "-", given=text)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NetworkError(f"the kernel refuses our firewall rules (nft: {reason}); is nf_tables available?")


def has_table(table: str) -> bool:
    return _nft("list", "table", "inet", table).returncode == 0


def delete_table(table: str) -> None:
    """Not being there is fine."""
    _nft("delete", "table", "inet", table)


def was_off(table: str) -> bool:
    """Whether we, or an earlier life of ours, have turned forwarding on."""
    return _nft("list", "chain", "inet", table, FORWARDING_WAS_OFF).returncode == 0


def blocking_chains(table: str) -> list[str]:
    """Chains of others that drop what is forwarded unless they know it."""
    done = _nft("-j", "list", "chains")
    return blocking(done.stdout, table) if done.returncode == 0 else []


def blocking(listing: str, table: str) -> list[str]:
    """Pure part of `blocking_chains`: reads the JSON of `nft -j list chains`."""
    chains = [item["chain"] for item in json.loads(listing)["nftables"] if "chain" in item]
    return [
        f"{c['family']} {c['table']} {c['name']}"
        for c in chains
        if c.get("hook") == "forward" and c.get("policy") == "drop" and c["table"] != table
    ]


def is_forwarding() -> bool:
    with open(IP_FORWARD, encoding="ascii") as file:
        return file.read().strip() == "1"


def set_forwarding(*, on: bool) -> None:
    with open(IP_FORWARD, "w", encoding="ascii") as file:
        file.write(str(int(on)))


def _nft(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find_nft(), *arguments], input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
