"""A UDP port of a simulated host, as a transport sees the runtime's."""

from __future__ import annotations

from ltunnel.constants import MAX_DATAGRAM, MAX_ROWS
from ltunnel.plugin import Buffer, Endpoint, PortKind, PortSpec
from ltunnel.testing.datagrams import SimEndpoint, canonical, version_of
from ltunnel.testing.host import Host
from ltunnel.testing.inbox import Inbox

_MAPPED = "::ffff:"
_RECEIVE_ROOM = 65_536


class SimUdpPort(Inbox):
    """`ltunnel.plugin.Port` over a simulated host.

    With `gro`, `recv` joins waiting datagrams of one source as UDP_GRO does: equal lengths, the last may be shorter, at
    most `gro_limit` of them. Without, it returns them one by one. What does not fit `buffer` bytes is lost, as with
    SO_RCVBUF. What a kernel would refuse as a mistake of the caller (too many or too large datagrams) is a ValueError.
    """

    def __init__(
        self, host: Host, spec: PortSpec, *, gro: bool = False, gro_limit: int = MAX_ROWS, buffer: int = 4 << 20
    ) -> None:
        if spec.kind is not PortKind.UDP:
            raise ValueError(f"the simulator has UDP ports, not {spec.kind.value} ports")
        super().__init__(host, buffer)
        self.gro = gro
        self.gro_limit = gro_limit
        self.sent = 0
        """Datagrams that left."""
        self.refused = 0
        """Datagrams for which there was no way out."""
        self._hops = 0
        self._version = version_of(spec.host)
        self._dual = spec.dual_stack and self._version == 6
        address = canonical(spec.host)
        is_wildcard = address in ("0.0.0.0", "::")  # noqa: S104 (of a simulated host)
        self._source = None if is_wildcard else address
        self._number = host.bind(self, None if is_wildcard and self._dual else address, spec.port)
        self.local: Endpoint = self._endpoint((address, self._number))

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send ``buf[start:end]`` as datagrams of `seg` bytes, the last may be shorter."""
        if not 0 <= start <= end <= len(buf) or (start < end and seg <= 0):
            raise ValueError(f"not a range of datagrams: start {start}, end {end}, seg {seg}, buffer {len(buf)}")
        if end - start > MAX_DATAGRAM:
            raise ValueError(f"{end - start} bytes in one call, the kernel takes {MAX_DATAGRAM}")
        if end - start > seg * MAX_ROWS:
            raise ValueError(f"{-(-(end - start) // seg)} datagrams in one call, the kernel takes {MAX_ROWS}")
        destination = self._destination(to)
        if destination is None:
            self.refused += 1
            return False
        complete = True
        for at in range(start, max(end, start + 1), max(seg, 1)):
            payload = bytes(buf[at : min(at + seg, end)])
            if self.host.send((self._source, self._number), destination, payload, hops=self._hops):
                self.sent += 1
            else:
                self.refused += 1
                complete = False
        return complete

    def limit_hops(self, hops: int) -> None:
        """Let what is sent from now on pass so many routers at most; 0: as many as usual."""
        self._hops = hops

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive into ``buf[pos:]``: (start, end, seg, from)."""
        if len(buf) - pos < _RECEIVE_ROOM:
            raise ValueError(f"only {len(buf) - pos} bytes of room at {pos}, a port may need {_RECEIVE_ROOM}")
        if not self._queue:
            raise BlockingIOError
        first = self._take()
        size = len(first.payload)
        parts = [first.payload]
        if self.gro and size:
            total = size
            while self._queue and len(parts) < self.gro_limit:
                following = self._queue[0]
                length = len(following.payload)
                if following.source != first.source or not 0 < length <= size or total + length > MAX_DATAGRAM:
                    break
                parts.append(self._take().payload)
                total += length
                if length < size:
                    break
        data = b"".join(parts)
        buf[pos : pos + len(data)] = data
        return pos, pos + len(data), size, self._endpoint(first.source)

    def _endpoint(self, address: SimEndpoint) -> Endpoint:
        """Write an address as `socket` does for this family."""
        host, number = address
        if self._version == 4:
            return (host, number)
        return (host if version_of(host) == 6 else _MAPPED + host, number, 0, 0)

    def _destination(self, to: Endpoint) -> SimEndpoint | None:
        """Read an endpoint; None when this port cannot send there. ValueError when it is no numeric address."""
        host, number = str(to[0]).partition("%")[0], int(to[1])
        if host.lower().startswith(_MAPPED) and "." in host:
            if not self._dual:
                return None
            return (canonical(host[len(_MAPPED) :]), number)
        if version_of(host) != self._version or not 0 < number < 65_536:
            return None
        return (canonical(host), number)
