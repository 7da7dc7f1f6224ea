"""µs that the data path's own code costs, without system calls: one super-packet, one read's worth of small packets.

    .venv/bin/python bench/micro.py

Two ends in one process over a port that only remembers, so that figures compare between versions of the code on one
machine. AES-GCM is in them; its own share is printed first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_interface

from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.receiver import ShardReceiver
from ltunnel.data.fec.sender import ShardSender
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.inbound import Inbound
from ltunnel.data.local import Local
from ltunnel.data.outbound import Outbound
from ltunnel.data.refuse import Refusals
from ltunnel.data.reports import Reporter
from ltunnel.data.virtio import VNET
from ltunnel.plugin import Buffer, Endpoint
from ltunnel.session import Epoch, Fib, Path, Peer, Stats
from ltunnel_crypto_aesgcm import AesGcm
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity
from ltunnel_transport_udp import UdpTransport

MTU = 1400
FEC = {
    "rs 10+3": (Codes("fec_rs", ReedSolomon), FecSettings(mode=FecMode.FIXED, data=10, parity=3)),
    "rs 20+10": (Codes("fec_rs", ReedSolomon), FecSettings(mode=FecMode.FIXED, data=20, parity=10)),
    "xor 10+1": (Codes("fec_xor", XorParity), FecSettings(mode=FecMode.FIXED, data=10, parity=1)),
    "rs auto, clean": (Codes("fec_rs", ReedSolomon), FecSettings()),
}
"""What FEC is measured with."""


class MemoryPort:
    """Keeps the batches sent; gives them out again as received, coalesced as UDP_GRO would."""

    local = ("192.0.2.1", 1)

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int]] = []
        self.keep = True

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:  # noqa: ARG002
        """Remember a batch."""
        if self.keep:
            self.sent.append((bytes(buf[start:end]), seg))
        return True

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Give out the oldest batch."""
        if not self.sent:
            raise BlockingIOError
        data, seg = self.sent.pop(0)
        buf[pos : pos + len(data)] = data
        return pos, pos + len(data), seg, ("192.0.2.1", 1)


class MemoryTun:
    """Gives out the same packets again and again; swallows what is written."""

    uso = True

    def __init__(self) -> None:
        self.packets: Sequence[bytes] = ()
        self.at = 0
        self.written = 0

    def read(self, buf: Buffer, pos: int) -> int:
        """Give out the next packet of the round."""
        if self.at == len(self.packets):
            self.at = 0
            raise BlockingIOError
        packet = self.packets[self.at]
        self.at += 1
        buf[pos : pos + len(packet)] = packet
        return len(packet)

    def write(self, parts: Sequence[Buffer | bytes | bytearray]) -> bool:
        """Count."""
        self.written += sum(map(len, parts))
        return True


class Silent:
    """A control side that has nothing to say."""

    def __init__(self) -> None:
        self.sessions: dict[int, Epoch] = {}

    def receive(self, *_: object) -> None:
        """Ignore."""

    def receive_frame(self, *_: object) -> None:
        """Ignore."""

    def notice(self, *_: object) -> None:
        """Ignore."""


class End:
    """One end: TUN, port, both directions."""

    def __init__(self, number: int, fec: tuple[Codes, FecSettings] | None = None) -> None:
        self.tun, self.port = MemoryTun(), MemoryPort()
        transport = UdpTransport(self.port)
        peer = Peer(bytes((number,)) * 32)
        peer.mtu = MTU
        peer.hosts = frozenset((IPv4Address(f"10.0.0.{3 - number}").packed,))
        peer.path = Path(0, ("192.0.2.1", 1))
        self.epoch = Epoch(
            peer, local_index=number, remote_index=3 - number, sealer=AesGcm(bytes((number,)) * 32),
            opener=AesGcm(bytes((3 - number,)) * 32), created=1e12, initiator=True,
        )  # fmt: skip
        self.epoch.confirmed = True
        peer.epoch = self.epoch
        control, fib, stats = Silent(), Fib(), Stats()
        control.sessions[number] = self.epoch
        fib.set(peer)
        local = Local((ip_interface(f"10.0.0.{number}/24"),))
        refusals = Refusals(local, stats)
        sender = ShardSender(*fec) if fec else None
        self.outbound = Outbound(self.tun, fib, (transport,), local, refusals, stats, MTU, sender)
        delivery = Delivery(self.tun, self.outbound, local, refusals, stats, hub=False)
        receiver = ShardReceiver(fec[0], delivery, control.sessions) if fec else None
        self.inbound = Inbound((transport,), control, delivery, Reporter(control.sessions), stats, receiver, sender)


def tcp_super(size: int) -> bytes:
    """Make a TCP super-packet from 10.0.0.1 to 10.0.0.2 with `size` bytes of payload, timestamps on."""
    header = bytearray(52)
    header[0], header[9] = 0x45, 6
    header[2:4] = (52 + size).to_bytes(2, "big")
    header[12:20] = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    header[32] = 0x80
    return VNET.pack(1, 1, 52, MTU - 52, 20, 16) + bytes(header) + bytes(size)


def udp_packet(size: int) -> bytes:
    """Make a UDP datagram from 10.0.0.1 to 10.0.0.2 with `size` bytes of payload."""
    header = bytearray(28)
    header[0], header[9] = 0x45, 17
    header[2:4] = (28 + size).to_bytes(2, "big")
    header[12:20] = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    header[24:26] = (8 + size).to_bytes(2, "big")
    return VNET.pack(1, 0, 0, 0, 20, 6) + bytes(header) + bytes(size)


def best(run: Callable[[], object], rounds: int) -> float:
    """Shortest of `rounds` times of a call, µs."""
    shortest = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest * 1e6


def measure(name: str, packets: Sequence[bytes], rounds: int, *, records: bool = False, fec: str = "") -> None:
    """Send `packets` through one end and take the result in at the other; print what each took."""
    sender, receiver = End(1, FEC.get(fec)), End(2, FEC.get(fec))
    if fec:
        name += f", {fec}"
    if records:
        name += ", record"
        sender.epoch.peer.quality.report(1, 1000, 1000, 0.0)
    sender.tun.packets = packets
    while sender.outbound.pump(0.0):
        pass
    out, taken = [], []
    for _ in range(rounds):
        sender.port.sent.clear()
        begin = time.perf_counter()
        while sender.outbound.pump(0.0):
            pass
        out.append(time.perf_counter() - begin)
        receiver.port.sent = sender.port.sent[:]
        begin = time.perf_counter()
        while receiver.inbound.drain(0, receiver.port, 0.0):
            pass
        taken.append(time.perf_counter() - begin)
    assert receiver.tun.written, "nothing arrived"  # noqa: S101
    print(f"{name:42} out {min(out) * 1e6:7.1f} µs   in {min(taken) * 1e6:7.1f} µs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds: int = parser.parse_args().rounds
    cipher, source, target = AesGcm(bytes(32)), [memoryview(bytes(1408))] * 44, [memoryview(bytearray(1424))] * 44
    nonces = [memoryview(bytes(12))] * 44
    print(f"{'AES-GCM, 44 x 1408 B':42} out {best(lambda: cipher.seal(nonces, source, target), rounds):7.1f} µs")
    measure("super-packet of 59,312 B", [tcp_super(59_312)], rounds)
    measure("one ping", [udp_packet(64)], rounds)
    measure("64 x 100 B", [udp_packet(100)] * 64, rounds)
    measure("64 x 1300 B", [udp_packet(1300)] * 64, rounds)
    measure("super-packet of 59,312 B", [tcp_super(59_312)], rounds, records=True)
    measure("64 x 100 B", [udp_packet(100)] * 64, rounds, records=True)
    measure("64 x 1300 B", [udp_packet(1300)] * 64, rounds, records=True)
    for fec in FEC:
        measure("super-packet of 59,312 B", [tcp_super(59_312)], rounds, fec=fec)
        measure("64 x 1300 B", [udp_packet(1300)] * 64, rounds, fec=fec)
    for fec in ("rs 10+3", "xor 10+1"):
        measure("super-packet of 59,312 B", [tcp_super(59_312)], rounds, records=True, fec=fec)
        measure("64 x 1300 B", [udp_packet(1300)] * 64, rounds, records=True, fec=fec)


if __name__ == "__main__":
    main()
