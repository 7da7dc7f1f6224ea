"""Forwarding table: packed inner destination address -> peer. Exact hosts first, then the longest prefix.

Peers that are routed to are also found by the name that RELAY frames have for them.

Answers are cached per destination, so that the data path pays one dict lookup. `None` in the cache is an answer too.
"""

from ltunnel.session.peer import Peer
from ltunnel.wire.relay import node_name

_CACHE_LIMIT = 65_536


class Fib:
    """Who is behind an inner address."""

    __slots__ = ("_hosts", "_networks", "cache", "names")

    def __init__(self) -> None:
        self._hosts: dict[bytes, Peer] = {}
        self._networks: list[tuple[int, int, int, Peer]] = []  # width, prefix length, prefix as a number, peer
        self.cache: dict[bytes, Peer | None] = {}
        """Read-only for the data path: ``cache.get(dst)`` first, `lookup` on a miss."""
        self.names: dict[bytes, Peer] = {}
        """By `ltunnel.wire.relay.node_name`; read-only for the data path."""

    def set(self, peer: Peer) -> None:
        """Route to `peer` whatever it owns now (`hosts`, `networks`), and nothing that it owned before."""
        self.remove(peer)
        self.names[node_name(peer.key)] = peer
        for host in peer.hosts:
            self._hosts[host] = peer
        for network in peer.networks:
            width = network.max_prefixlen
            prefix = int(network.network_address) >> (width - network.prefixlen)
            self._networks.append((width, network.prefixlen, prefix, peer))
        self._networks.sort(key=lambda entry: -entry[1])

    def remove(self, peer: Peer) -> None:
        """Forget a peer."""
        self._hosts = {host: owner for host, owner in self._hosts.items() if owner is not peer}
        self._networks = [entry for entry in self._networks if entry[3] is not peer]
        self.names.pop(node_name(peer.key), None)
        self.cache.clear()

    def lookup(self, destination: bytes) -> Peer | None:
        """Return the peer for a packed address (4 or 16 bytes), or None."""
        peer = self._hosts.get(destination)
        if peer is None:
            width = 8 * len(destination)
            number = int.from_bytes(destination, "big")
            for entry_width, length, prefix, owner in self._networks:
                if entry_width == width and number >> (width - length) == prefix:
                    peer = owner
                    break
        if len(self.cache) >= _CACHE_LIMIT:  # an address scan must not cost memory
            self.cache.clear()
        self.cache[destination] = peer
        return peer
