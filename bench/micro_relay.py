"""µs that relaying costs, without system calls: what two nodes and the hub between them do for the same packets.

    .venv/bin/python -m bench.micro_relay [--mesh]

As `bench.micro`: three ends in one process, over ports that only remember. ``between`` is what the hub, or with
``--mesh`` a node in its place, takes to open, to look at and to seal again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_interface

from bench.micro import MTU, MemoryPort, MemoryTun, Silent, tcp_super, udp_packet
from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.data.deliver import Delivery
from ltunnel.data.inbound import Inbound
from ltunnel.data.local import Local
from ltunnel.data.outbound import Outbound
from ltunnel.data.refuse import Refusals
from ltunnel.data.relay import RelayReceiver, RelayTransport
from ltunnel.data.relay_hub import HubRouter, RelayForwarder
from ltunnel.data.relay_node import MeshRelays, MeshRouter
from ltunnel.data.reports import Reporter
from ltunnel.plugin import Transport
from ltunnel.session import Epoch, Fib, Hops, Path, Peer, Stats
from ltunnel.wire.relay import node_name
from ltunnel_crypto_aesgcm import AesGcm
from ltunnel_transport_udp import UdpTransport

RELAY, MESH = 1, 2
"""Indexes of the relay and the mesh among a node's transports."""
BETWEEN = 3


class Machine:
    """A hub (number 3, unless there is a mesh) or a node: TUN, port, both directions."""

    def __init__(self, number: int, *, mesh: bool) -> None:
        self.number = number
        self.mesh = mesh
        self.key = bytes((number,)) * 32
        self.tun, self.port = MemoryTun(), MemoryPort()
        self.transports: list[Transport] = [UdpTransport(self.port)]
        self.control, self.fib, stats = Silent(), Fib(), Stats()
        self.hub: Peer | None = None
        local = Local((ip_interface(f"10.0.0.{number}/24"),))
        refusals = Refusals(local, stats)
        is_hub = number == BETWEEN and not mesh
        self.outbound = Outbound(self.tun, self.fib, self.transports, local, refusals, stats, MTU)
        delivery = Delivery(self.tun, self.outbound, local, refusals, stats, hub=is_hub)
        parts = self.transports, self.control, delivery, Reporter(self.control.sessions), stats, None, None
        if is_hub:
            self.inbound = Inbound(*parts, RelayForwarder(HubRouter(self.fib.names, isolated=False), self.transports))
        else:
            name, inner = node_name(self.key), Inbound(*parts)
            self.transports.append(RelayTransport(name, lambda _: self.hub, self.transports))
            receiver = RelayReceiver(name, RELAY, inner, MESH)
            self.hops = Hops(ttl=3)
            router = MeshRouter(name, self.hops, self.fib.names, {RELAY, MESH})
            self.transports.append(RelayTransport(name, router.link, self.transports, 3))
            through = MeshRelays(name, self.hops, receiver, RelayForwarder(router, self.transports))
            self.inbound = Inbound(*parts, through if mesh else receiver, inner.records)

    def meet(self, other: Machine, *, relayed: bool = False) -> None:
        """Make the other a peer, directly or through the relay."""
        peer = Peer(other.key, is_hub=other.number == BETWEEN and not self.mesh)
        peer.hosts = frozenset((IPv4Address(f"10.0.0.{other.number}").packed,))
        peer.mtu = MTU - RELAY_TRAILER - DATA_OVERHEAD if relayed else MTU
        name = node_name(other.key)
        peer.path = Path(RELAY, name) if relayed else Path(0, ("192.0.2.1", 1))
        if self.mesh:
            via = next(iter(self.hops.links), b"")
            peer.path = Path(MESH, via + name) if relayed else peer.path
            if not relayed:
                self.hops.links[name] = self.hops.next[name] = peer
        self.hub = peer if peer.is_hub else self.hub
        epoch = peer.epoch = Epoch(
            peer, local_index=16 * other.number + self.number, remote_index=16 * self.number + other.number,
            sealer=AesGcm(bytes((self.number, other.number)) * 16),
            opener=AesGcm(bytes((other.number, self.number)) * 16), created=1e12, initiator=True,
        )  # fmt: skip
        epoch.confirmed = True
        self.control.sessions[epoch.local_index] = epoch
        self.fib.set(peer)

    def take(self, sender: Machine) -> float:
        """Take what another has sent; return how many seconds that took."""
        self.port.sent, sender.port.sent = sender.port.sent, self.port.sent
        begin = time.perf_counter()
        for _ in range(len(self.port.sent)):
            batch = self.port.sent.pop(0)
            source = OneBatch(batch)
            self.inbound.drain(0, source, 0.0)
        return time.perf_counter() - begin


class OneBatch(MemoryPort):
    """Brings one batch; what is sent meanwhile goes elsewhere."""

    def __init__(self, batch: tuple[bytes, int]) -> None:
        super().__init__()
        self.sent = [batch]


def measure(name: str, packets: Sequence[bytes], rounds: int, *, records: bool, mesh: bool) -> None:
    """Send packets from one node to the other; print what it took at each of the three."""
    one, other, between = (Machine(number, mesh=mesh) for number in (1, 2, BETWEEN))
    for node in (one, other):
        node.meet(between)
        between.meet(node)
    one.meet(other, relayed=True)
    other.meet(one, relayed=True)
    if records:
        for machine in (one, between):
            for peer in machine.fib.names.values():
                peer.quality.report(1, 1000, 1000, 0.0)
    one.tun.packets = packets
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        while one.outbound.pump(0.0):
            pass
        out = time.perf_counter() - begin
        passed = between.take(one)
        times.append((out, passed, other.take(between)))
    assert other.tun.written >= rounds * sum(len(packet) - 80 for packet in packets), "not all arrived"  # noqa: S101
    out, passed, taken = (min(column) * 1e6 for column in zip(*times, strict=True))
    name += ", record" if records else ""
    print(f"{name:34} out {out:7.1f} µs   between {passed:7.1f} µs   in {taken:7.1f} µs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--mesh", action="store_true", help="a node relays, not the hub")
    args = parser.parse_args()
    loads = {
        "super-packet of 59,312 B": [tcp_super(59_312)],
        "one ping": [udp_packet(64)],
        "64 x 100 B": [udp_packet(100)] * 64,
        "64 x 1300 B": [udp_packet(1300)] * 64,
    }
    for name, packets in loads.items():
        for records in (False, True):
            measure(name, packets, args.rounds, records=records, mesh=args.mesh)


if __name__ == "__main__":
    main()
