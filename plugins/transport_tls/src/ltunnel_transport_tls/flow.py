"""What the transport knows of one far end, and how many strangers it deals with at a time."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address

from ltunnel.plugin import Address, Endpoint
from ltunnel_transport_tls.channel import Channel


class TlsFlow:
    """A far end: one that came in (`remote` is None), or one that is connected to, again and again.

    Compared by identity, so a flow that is gone never equals another.
    """

    __slots__ = (
        "channel", "connection", "deadline", "due", "failures", "heard", "is_closed", "partial", "remote", "retry_at",
        "sealed", "stranger", "text", "used",
    )  # fmt: skip

    def __init__(self, text: str, now: float, remote: Address | None = None) -> None:
        self.text = text
        self.remote = remote
        self.connection: Endpoint | None = None
        self.channel: Channel | None = None
        """None as long as nothing has come from a far end that came in."""
        self.partial = b""
        """The beginning of a datagram whose end has not arrived."""
        self.sealed = 0
        """Bytes sent on this connection."""
        self.stranger = False
        """Whether nobody has wanted to send anything to it yet, of those that came in."""
        self.deadline = now
        """When the handshake, or a stranger's time, is over."""
        self.retry_at: float | None = None
        self.failures = 0
        """Connections in a row on which nothing was received."""
        self.heard = now
        self.used = now
        self.due: float | None = None
        """When its timer fires."""
        self.is_closed = False


class Strangers:
    """Flows that came in and have not been answered: so many, and so many from one address, at a time.

    A new one is always let in; where there are too many, the one that has waited longest goes, of the same address or
    else of the address that has most.
    """

    def __init__(self, limit: int, limit_each: int) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._count = 0
        self._groups: dict[str, dict[TlsFlow, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, flow: TlsFlow) -> TlsFlow | None:
        """Add a flow; return the one that has to go for it, which is no longer counted."""
        flow.stranger = True
        name = site(flow.text)
        group = self._groups.setdefault(name, {})
        victim = None
        if len(group) >= self._limit_each:
            victim = next(iter(group))
        elif self._count >= self._limit:
            largest: dict[TlsFlow, None] = max(self._groups.values(), key=len)
            victim = next(iter(largest))
        if victim is not None:
            self.remove(victim)
        self._groups.setdefault(name, group)[flow] = None
        self._count += 1
        return victim

    def remove(self, flow: TlsFlow) -> None:
        """Stop counting a flow, if it was counted."""
        if not flow.stranger:
            return
        flow.stranger = False
        name = site(flow.text)
        group = self._groups[name]
        del group[flow]
        if not group:
            del self._groups[name]
        self._count -= 1


def site(text: str) -> str:
    """Return the part of ``192.0.2.7:40122`` that one owner has: an IPv4 address, or an IPv6 /64."""
    host = text.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return text
    if address.version == 4:
        return host
    return str(IPv6Network((int(address) >> 64 << 64, 64)))
