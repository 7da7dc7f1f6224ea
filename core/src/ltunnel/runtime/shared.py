"""UDP ports that several transports of a hub ask for: each is opened once (see `ltunnel.node.sharing`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ltunnel.node.sharing import Accepts, Branch, SharedPort
from ltunnel.plugin import PortKind, PortSpec
from ltunnel.runtime.udp import UdpPort

_Place = tuple[str, int]


class UdpBranch(Branch):
    """A transport's part of a UDP socket."""

    def __init__(self, shared: SharedPort, accepts: Accepts | None, sock: UdpPort) -> None:
        super().__init__(shared, accepts)
        self.drops = sock.drops
        self.fileno = sock.fileno


class Sharing:
    """Which numbers are asked for by more than one transport, and the sockets of those that are open."""

    def __init__(self, asked: Iterable[Sequence[PortSpec]]) -> None:
        places = Counter(place for specs in asked for place in {_place(spec) for spec in specs if _is_fixed_udp(spec)})
        self._places = {place for place, transports in places.items() if transports > 1}
        self._open: dict[_Place, tuple[SharedPort, UdpPort]] = {}

    def open(self, spec: PortSpec, open_socket: Callable[[], UdpPort]) -> UdpPort | UdpBranch:
        """Open a UDP port; a branch of it where it is shared. Raises OSError as `open_socket` does."""
        place = _place(spec)
        if not _is_fixed_udp(spec) or place not in self._places:
            return open_socket()
        if place not in self._open:
            sock = open_socket()
            self._open[place] = SharedPort(sock, lambda: self._close(place)), sock
        shared, sock = self._open[place]
        branch = UdpBranch(shared, spec.accepts, sock)
        shared.add(branch)
        return branch

    def _close(self, place: _Place) -> None:
        _, sock = self._open.pop(place)
        sock.close()


def _place(spec: PortSpec) -> _Place:
    return spec.host, spec.port


def _is_fixed_udp(spec: PortSpec) -> bool:
    return spec.kind is PortKind.UDP and spec.port != 0
