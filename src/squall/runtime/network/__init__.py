"""How containers reach the world, and what they may not reach: pooled network namespaces with routed egress.

Each container has a network namespace with `eth0`, one end of a pair whose other end is an interface of the
host. There is no bridge: the host routes, masquerades, and refuses by an nftables table of our own.
"""

from __future__ import annotations

from squall.runtime.network.config import NetworkConfig, NetworkError
from squall.runtime.network.pool import Lease, NetworkPool
from squall.runtime.network.resolvers import resolv_conf

__all__ = ["Lease", "NetworkConfig", "NetworkError", "NetworkPool", "resolv_conf"]
