"""More VPNs, as Debian packages them: measured with ``PEERS=all``."""

from bench.peers import Peer

OTHERS: tuple[type[Peer], ...] = ()
