"""What every way out has in common: whether a peer's keys may be used, and handing over what they have sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ltunnel.constants import BUNDLE_ENTRY, DATA_OVERHEAD, HEADROOM, REJECT_AFTER_PACKETS
from ltunnel.data.grid import Arena
from ltunnel.plugin import StreamTransport, Transport
from ltunnel.session import Drop, Epoch, Peer


def usable_epoch(peer: Peer, count: int, now: float) -> Epoch | None:
    """Return the epoch to seal `count` datagrams with, or None when there is none that may be used, or no path."""
    epoch = peer.epoch
    if epoch is None or not epoch.usable(now) or epoch.counter + count > REJECT_AFTER_PACKETS or peer.path is None:
        return None
    return epoch


def send_sealed(transports: Sequence[Transport], peer: Peer, out: Arena, end: int, size: int, now: float) -> bool:
    """Hand a sealed batch, slots of `size` bytes in ``HEADROOM:end`` of `out`, to the transport of the peer's path.

    A `size` of 0: it is one large slot (`StreamTransport`). False when it did not leave; that is counted, too.
    """
    path = peer.path
    assert path is not None  # noqa: S101  # usable_epoch has looked
    count = -(-(end - HEADROOM) // size) if size else 1
    if path.budget is not None:  # an address that has not proved itself
        if path.budget < end - HEADROOM:
            peer.stats.drop(Drop.LIMITED, count)
            return False
        path.budget -= end - HEADROOM
    transport = transports[path.transport]
    if size:
        sent = transport.send(path.flow, out.view, HEADROOM, end, size, now)
    else:
        piece = transport.prefix + peer.mtu + BUNDLE_ENTRY + DATA_OVERHEAD
        sent = cast(StreamTransport, transport).send_whole(path.flow, out.view, HEADROOM, end, piece, now)
    if not sent:
        peer.stats.drop(Drop.QUEUE_FULL, count)
    peer.last_tx = now
    if peer.unanswered_since is None:
        peer.unanswered_since = now
    return sent
