"""Two or more ends of the data path with fixed keys, joined by a list of datagrams that a test may tamper with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from itertools import pairwise

import pytest

from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.receiver import ShardReceiver
from ltunnel.data.fec.sender import ShardSender
from ltunnel.data.fec.settings import FecSettings
from ltunnel.data.inbound import Inbound
from ltunnel.data.local import Local
from ltunnel.data.outbound import Outbound
from ltunnel.data.refuse import Refusals
from ltunnel.data.relay import RelayReceiver, RelayTransport
from ltunnel.data.relay_frames import Relays
from ltunnel.data.relay_hub import HubRouter, RelayForwarder
from ltunnel.data.relay_node import MeshRelays, MeshRouter
from ltunnel.data.reports import Reporter
from ltunnel.data.waiting import Waiting
from ltunnel.plugin import Transport
from ltunnel.session import Epoch, Fib, Hops, Path, Peer, Stats
from ltunnel.testing.tun import SimTun
from ltunnel.wire.relay import node_name
from ltunnel_crypto_aesgcm import AesGcm
from ltunnel_transport_udp import UdpTransport

NOW = 1000.0


class WirePort:
    """A port whose datagrams are a list: `sent` goes out, `arrived` comes in, joined as UDP_GRO joins if `gro`."""

    def __init__(self, local: tuple[str, int]) -> None:
        self.local = local
        self.sent: list[tuple[tuple[str, int], bytes]] = []
        self.arrived: list[tuple[tuple[str, int], bytes]] = []
        self.calls = 0
        self.gro = True
        self.full = False
        self.limit = 64

    def send(self, buf: memoryview, start: int, end: int, seg: int, to: tuple[str, int]) -> bool:
        assert start < end <= start + 64 * seg
        assert end - start <= 65_507
        if self.full:
            return False
        self.calls += 1
        self.sent += [(to, bytes(buf[at : min(at + seg, end)])) for at in range(start, end, seg)]
        return True

    def recv(self, buf: memoryview, pos: int) -> tuple[int, int, int, tuple[str, int]]:
        if not self.arrived:
            raise BlockingIOError
        source, first = self.arrived.pop(0)
        data = first
        count = 1
        while self.gro and self.arrived and count < self.limit and len(data) < 64_000:
            other, following = self.arrived[0]
            if other != source or len(following) > len(first):
                break
            data += following
            count += 1
            self.arrived.pop(0)
            if len(following) < len(first):
                break
        buf[pos : pos + len(data)] = data
        return pos, pos + len(data), len(first), source


class PrefixTransport(UdpTransport):
    """UDP with the length of each datagram in front of it."""

    def __init__(self, port: WirePort) -> None:
        super().__init__(port)
        self.prefix = 2

    def send(self, flow: object, buf: memoryview, start: int, end: int, seg: int, now: float) -> bool:
        for at in range(start, end, seg):
            buf[at : at + 2] = (min(seg, end - at) - 2).to_bytes(2, "big")
        return super().send(flow, buf, start, end, seg, now)

    def receive(self, port: WirePort, buf: memoryview, pos: int, now: float) -> tuple[object, int, int, int]:
        flow, start, end, seg = super().receive(port, buf, pos, now)
        for at in range(start, end, seg):
            assert int.from_bytes(buf[at : at + 2], "big") == min(seg, end - at) - 2
        return flow, start, end, seg


class WholeTransport(PrefixTransport):
    """One that takes large datagrams whole; `pieces` is what it was told of the path."""

    largest_slot = 65_400

    def __init__(self, port: WirePort) -> None:
        super().__init__(port)
        self.pieces: list[int] = []

    def send_whole(self, flow: object, buf: memoryview, start: int, end: int, piece: int, now: float) -> bool:
        assert piece < end - start <= self.largest_slot
        self.pieces.append(piece)
        return self.send(flow, buf, start, end, end - start, now)


class Recorder:
    """A control side that writes down what it is told."""

    def __init__(self) -> None:
        self.sessions: dict[int, Epoch] = {}
        self.datagrams: list[bytes] = []
        self.frames: list[tuple[int, bytes]] = []
        self.notices: list[tuple[object, bool]] = []

    def receive(self, transport: int, flow: object, data: bytes, now: float) -> None:
        self.datagrams.append(data)

    def receive_frame(
        self, epoch: Epoch, frame_type: int, body: bytes, transport: int, flow: object, size: int, now: float
    ) -> None:
        self.frames.append((frame_type, body))

    def notice(self, epoch: Epoch, transport: int, flow: object, size: int, newest: bool, now: float) -> None:
        self.notices.append((flow, newest))


class End:
    """One machine: TUN, port, data path."""

    def __init__(
        self,
        addresses: Sequence[str],
        endpoint: str,
        *,
        mtu: int,
        hub: bool,
        isolated: bool,
        uso: bool = True,
        prefixed: bool = False,
        whole: bool = False,
        fec: tuple[Codes, FecSettings] | None = None,
        tun: SimTun | None = None,
        hops: Hops | None = None,
        routes: Sequence[str] = (),
    ) -> None:
        self.addresses = addresses
        self.endpoint = (endpoint, 9000)
        self.tun = tun or SimTun(mtu=mtu, uso=uso, answers=False)
        self.port = WirePort(self.endpoint)
        self.transport = (WholeTransport if whole else PrefixTransport if prefixed else UdpTransport)(self.port)
        self.control = Recorder()
        self.fib = Fib()
        self.stats = Stats()
        self.mtu = mtu
        local = Local([ip_interface(address) for address in addresses], [ip_network(network) for network in routes])
        refusals = Refusals(local, self.stats)
        self.now = NOW
        self.sender = ShardSender(*fec) if fec else None
        self.transports: list[Transport] = [self.transport]
        self.waiting = Waiting()
        self.outbound = Outbound(
            self.tun, self.fib, self.transports, local, refusals, self.stats, mtu, self.sender, self.waiting
        )
        delivery = Delivery(self.tun, self.outbound, local, refusals, self.stats, hub=hub)
        self.reporter = Reporter(self.control.sessions)
        self.shards = ShardReceiver(fec[0], delivery, self.control.sessions) if fec else None
        parts = self.transports, self.control, delivery, self.reporter, self.stats, self.shards, self.sender
        self.hub: Peer | None = None
        if hub:
            router = HubRouter(self.fib.names, isolated=isolated)
            self.inbound = Inbound(*parts, RelayForwarder(router, self.transports))
        else:
            name, inner = node_name(self.key), Inbound(*parts)
            self.transports.append(RelayTransport(name, lambda _: self.hub, self.transports))
            relays: Relays = RelayReceiver(name, 1, inner, 2)
            if hops is not None:
                self.router = MeshRouter(name, hops, self.fib.names, {1, 2})
                self.transports.append(RelayTransport(name, self.router.link, self.transports, hops.ttl))
                self.forwarder = RelayForwarder(self.router, self.transports)
                relays = MeshRelays(name, hops, RelayReceiver(name, 1, inner, 2), self.forwarder)
            self.hops = hops
            self.inbound = Inbound(*parts, relays, inner.records)

    @property
    def key(self) -> bytes:
        """The static key that peers know it by."""
        return self.endpoint[0].encode().ljust(32)

    def pump(self) -> list[tuple[tuple[str, int], bytes]]:
        """Send all that the TUN has; return the datagrams."""
        while self.outbound.pump(self.now):
            pass
        sent, self.port.sent = self.port.sent, []
        return sent

    def close_groups(self) -> list[bytes]:
        """Let the deadlines of all groups come; return the datagrams."""
        assert self.sender is not None
        self.sender.handle_timeout(self.now + 1)
        sent, self.port.sent = self.port.sent, []
        return [datagram for _, datagram in sent]

    def take(self, source: End, datagrams: Sequence[bytes]) -> list[tuple[tuple[str, int], bytes]]:
        """Receive datagrams from another end; return what is sent in consequence."""
        self.port.arrived = [(source.endpoint, datagram) for datagram in datagrams]
        while self.inbound.drain(0, self.port, self.now):
            pass
        sent, self.port.sent = self.port.sent, []
        return sent

    def peer(self, far: End, number: int, *, is_hub: bool, networks: Sequence[str] = ()) -> Peer:
        """Make the far end a peer, with keys that follow from the two indices."""
        peer = Peer(far.key, far.endpoint[0], is_hub=is_hub)
        if is_hub:
            self.hub = peer
        peer.hosts = frozenset(ip_interface(address).ip.packed for address in far.addresses)
        peer.networks = tuple(ip_interface(network).network for network in networks)
        peer.path = Path(0, far.endpoint)
        peer.mtu = far.mtu
        self.fib.set(peer)
        return peer


def connect(left: End, right: End, index: int, *, right_is_hub: bool = False, left_is_hub: bool = False) -> None:
    """Give two ends a session with each other."""
    networks = [str(ip_interface(address).network) for address in left.addresses]
    to_right = left.peer(right, index, is_hub=right_is_hub, networks=networks if right_is_hub else ())
    to_left = right.peer(left, index, is_hub=left_is_hub)
    for end, peer, mine, yours in ((left, to_right, 1, 2), (right, to_left, 2, 1)):
        epoch = Epoch(
            peer, local_index=index * 4 + mine, remote_index=index * 4 + yours,
            sealer=AesGcm(bytes((index, mine)) * 16), opener=AesGcm(bytes((index, yours)) * 16),
            created=NOW, initiator=mine == 1,
        )  # fmt: skip
        epoch.confirmed = True
        peer.epoch = epoch
        end.control.sessions[epoch.local_index] = epoch


class Net:
    """Makers of small networks."""

    NOW = NOW
    End = End
    connect = staticmethod(connect)

    @staticmethod
    def pair(
        mtu: int = 1400,
        right_mtu: int | None = None,
        *,
        uso: bool = True,
        prefixed: bool = False,
        whole: bool = False,
        fec: tuple[Codes, FecSettings] | None = None,
        tun: SimTun | None = None,
        routes: Sequence[str] = (),
    ) -> tuple[End, End]:
        """Two nodes with a direct session; 10.0.0.1, fd00::1 and 10.0.0.2, fd00::2 with networks behind it."""
        left = End(
            ("10.0.0.1/24", "fd00::1/64"), "192.0.2.1", mtu=mtu, hub=False, isolated=False, prefixed=prefixed,
            whole=whole, fec=fec,
        )  # fmt: skip
        right = End(
            ("10.0.0.2/24", "fd00::2/64"),
            "192.0.2.2",
            mtu=right_mtu or mtu,
            hub=False,
            isolated=False,
            tun=tun,
            uso=uso,
            prefixed=prefixed,
            whole=whole,
            fec=fec,
            routes=routes,
        )
        connect(left, right, 1)
        return left, right

    @staticmethod
    def use_records(end: End) -> None:
        """Let an end believe that the ways to its peers lose nothing."""
        for peer in set(end.fib._hosts.values()):
            peer.quality.report(1, 1000, 1000, NOW)

    @staticmethod
    def star(routes: Sequence[str] = ()) -> tuple[End, End, End]:
        """A hub (10.0.0.1) with networks behind it, two nodes (10.0.0.2, 10.0.0.3) that send everything to the hub."""
        hub = End(("10.0.0.1/24", "fd00::1/64"), "192.0.2.1", mtu=1400, hub=True, isolated=False, routes=routes)
        nodes = []
        for number in (2, 3):
            addresses = (f"10.0.0.{number}/24", f"fd00::{number}/64")
            node = End(addresses, f"192.0.2.{number}", mtu=1400, hub=False, isolated=False)
            connect(node, hub, number, right_is_hub=True)
            nodes.append(node)
        return hub, nodes[0], nodes[1]

    @staticmethod
    def relayed(
        *,
        isolated: bool = False,
        mtu: int = 1400,
        prefixed: bool = False,
        whole: bool = False,
        fec: tuple[Codes, FecSettings] | None = None,
    ) -> tuple[End, End, End]:
        """A hub (10.0.0.1) and two nodes (10.0.0.2, 10.0.0.3) that have a session with each other through it."""
        hub = End(("10.0.0.1/24",), "192.0.2.1", mtu=mtu, hub=True, isolated=isolated, prefixed=prefixed, whole=whole)
        nodes = []
        for number in (2, 3):
            addresses = (f"10.0.0.{number}/24", f"fd00::{number}/64")
            node = End(
                addresses, f"192.0.2.{number}", mtu=mtu, hub=False, isolated=False, prefixed=prefixed, whole=whole,
                fec=fec,
            )  # fmt: skip
            connect(node, hub, number)
            assert node.hub is None
            node.hub = node.fib.lookup(ip_address("10.0.0.1").packed)
            assert node.hub is not None
            node.hub.is_hub = True
            nodes.append(node)
        connect(nodes[0], nodes[1], 4)
        for one, other in (nodes, nodes[::-1]):
            peer = one.fib.names[node_name(other.key)]
            peer.path = Path(1, node_name(other.key))
            peer.mtu = mtu - DATA_OVERHEAD - RELAY_TRAILER
        return hub, nodes[0], nodes[1]

    @staticmethod
    def line(count: int, *, ttl: int = 4, prefixed: bool = False, whole: bool = False) -> list[End]:
        """Nodes in a mesh, each with a direct path to the next; the first (.2) talks along them to the last (.3)."""
        numbers = [2, *range(10, 8 + count), 3]
        ends = [
            End(
                (f"10.0.0.{number}/24", f"fd00::{number}/64"), f"192.0.2.{number}", mtu=1400, hub=False, isolated=False,
                prefixed=prefixed, whole=whole, hops=Hops(ttl),
            )
            for number in numbers
        ]  # fmt: skip
        for index, (left, right) in enumerate(pairwise(ends), 1):
            connect(left, right, index)
        connect(ends[0], ends[-1], count + 1)
        for at, end in enumerate(ends):
            for other in ends:
                if node_name(other.key) not in end.fib.names and other is not end:
                    end.fib.names[node_name(other.key)] = Peer(other.key)
            assert end.hops is not None
            near = [end.fib.names[node_name(ends[to].key)] for to in (at - 1, at + 1) if 0 <= to < count]
            end.hops.links = {node_name(peer.key): peer for peer in near}
            for to, other in enumerate(ends):
                if to != at:
                    end.hops.next[node_name(other.key)] = near[0 if to < at else -1]
        for first, second, last in ((ends[0], ends[1], ends[-1]), (ends[-1], ends[-2], ends[0])):
            peer = first.fib.names[node_name(last.key)]
            peer.path = Path(2, node_name(second.key) + node_name(last.key))
            peer.mtu = 1400 - DATA_OVERHEAD - RELAY_TRAILER
        return ends


@pytest.fixture
def net() -> type[Net]:
    return Net


@pytest.fixture
def packed() -> Callable[[str], bytes]:
    return lambda address: ip_address(address).packed
