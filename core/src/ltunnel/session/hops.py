"""Next hops of the mesh, as the data path sees them: control writes, the data path reads, as with the `Fib`."""

from ltunnel.session.peer import Peer


class Hops:
    """Names are those of RELAY frames (`ltunnel.wire.relay.node_name`)."""

    __slots__ = ("links", "next", "ttl")

    def __init__(self, ttl: int = 0) -> None:
        self.ttl = ttl
        """How many links a datagram may pass; 0 where nothing is relayed."""
        self.links: dict[bytes, Peer] = {}
        """Nodes to which there is a direct path."""
        self.next: dict[bytes, Peer] = {}
        """By destination: the neighbour over which it is reached."""
