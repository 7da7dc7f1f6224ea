"""µs that relaying costs, without system calls: what two nodes and the hub between them do for the same packets.

    .venv/bin/python -m bench.micro_relay

As `bench.micro`: three ends in one process, over ports that only remember. ``hub`` is what the hub takes to open, to
look at and to seal again.
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
from ltunnel.data.reports import Reporter
from ltunnel.plugin import Transport
from ltunnel.session import Epoch, Fib, Path, Peer, Stats
from ltunnel.wire.relay import node_name
from ltunnel_crypto_aesgcm import AesGcm
from ltunnel_transport_udp import UdpTransport

RELAY = 1
"""Index of the relay among a node's transports."""


class Machine:
    """A hub (number 3) or a node: TUN, port, both directions."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key = bytes((number,)) * 32
        self.tun, self.port = MemoryTun(), MemoryPort()
        self.transports: list[Transport] = [UdpTransport(self.port)]
        self.control, self.fib, stats = Silent(), Fib(), Stats()
        self.hub: Peer | None = None
        local = Local((ip_interface(f"10.0.0.{number}/24"),))
        refusals = Refusals(local, stats)
        is_hub = number == 3
        self.outbound = Outbound(self.tun, self.fib, self.transports, local, refusals, stats, MTU)
        delivery = Delivery(self.tun, self.outbound, local, refusals, stats, hub=is_hub)
        parts = self.transports, self.control, delivery, Reporter(self.control.sessions), stats, None, None
        if is_hub:
            self.inbound = Inbound(*parts, RelayForwarder(HubRouter(self.fib.names, isolated=False), self.transports))
        else:
            name, inner = node_name(self.key), Inbound(*parts)
            self.transports.append(RelayTransport(name, lambda _: self.hub, self.transports))
            self.inbound = Inbound(*parts, RelayReceiver(name, RELAY, inner), inner.records)

    def meet(self, other: Machine, *, relayed: bool = False) -> None:
        """Make the other a peer, directly or through the relay."""
        peer = Peer(other.key, is_hub=other.number == 3)
        peer.hosts = frozenset((IPv4Address(f"10.0.0.{other.number}").packed,))
        peer.mtu = MTU - RELAY_TRAILER - DATA_OVERHEAD if relayed else MTU
        peer.path = Path(RELAY, node_name(other.key)) if relayed else Path(0, ("192.0.2.1", 1))
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


def measure(name: str, packets: Sequence[bytes], rounds: int, *, records: bool = False) -> None:
    """Send packets from one node to the other; print what it took at each of the three."""
    one, other, hub = Machine(1), Machine(2), Machine(3)
    for node in (one, other):
        node.meet(hub)
        hub.meet(node)
    one.meet(other, relayed=True)
    other.meet(one, relayed=True)
    if records:
        for machine in (one, hub):
            for peer in machine.fib.names.values():
                peer.quality.report(1, 1000, 1000, 0.0)
    one.tun.packets = packets
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        while one.outbound.pump(0.0):
            pass
        out = time.perf_counter() - begin
        passed = hub.take(one)
        times.append((out, passed, other.take(hub)))
    assert other.tun.written >= rounds * sum(len(packet) - 80 for packet in packets), "not all arrived"  # noqa: S101
    out, passed, taken = (min(column) * 1e6 for column in zip(*times, strict=True))
    name += ", record" if records else ""
    print(f"{name:34} out {out:7.1f} µs   hub {passed:7.1f} µs   in {taken:7.1f} µs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds: int = parser.parse_args().rounds
    loads = {
        "super-packet of 59,312 B": [tcp_super(59_312)],
        "one ping": [udp_packet(64)],
        "64 x 100 B": [udp_packet(100)] * 64,
        "64 x 1300 B": [udp_packet(1300)] * 64,
    }
    for name, packets in loads.items():
        for records in (False, True):
            measure(name, packets, rounds, records=records)


if __name__ == "__main__":
    main()
