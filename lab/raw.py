"""RAW ports of the runtime inside hosts of a lab, and what they send and receive."""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2 import netns

from lab.host import Host
from ltunnel.plugin import Endpoint, HostRule, HostRuleKind, PortKind, PortSpec
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.raw import open_raw
from ltunnel.testing import packets
from ltunnel.testing.offload import offload

HUB, NODE = "192.0.2.1", "192.0.2.2"
HUB6, NODE6 = "2001:db8::1", "2001:db8::2"
PUSH = packets.ACK | packets.PSH
HEADROOM = 128
_ROOM = 140_000


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """Open devices and sockets inside a host; they stay there."""
    netns.pushns(host.namespace)
    try:
        yield
    finally:
        netns.popns()


@dataclass(frozen=True)
class Received:
    """What a port said of a packet, and the packet without what may follow it."""

    packet: bytes
    seg: int
    source: Endpoint

    @property
    def _tcp(self) -> bytes:
        return self.packet[40 if self.packet[0] >> 4 == 6 else (self.packet[0] & 15) * 4 :]

    @property
    def payload(self) -> bytes:
        """What stands behind the TCP header."""
        return self._tcp[(self._tcp[12] >> 4) * 4 :]

    @property
    def ports(self) -> tuple[int, int]:
        """Port numbers of source and destination."""
        return int.from_bytes(self._tcp[:2], "big"), int.from_bytes(self._tcp[2:4], "big")

    @property
    def flags(self) -> int:
        """TCP flags."""
        return self._tcp[13]


class RawPortOn:
    """A RAW port on a host, with the rules that go with it. What it does happens inside, as it does in a node."""

    def __init__(
        self, host: Host, address: str = "::", port: int = 0, *, device: str = "tun0", rules: bool = True, **extra: Any
    ) -> None:
        spec = PortSpec(kind=PortKind.RAW, host=address, port=port, dual_stack=address == "::", extra=extra)
        self.host = host
        self.complaints: list[str] = []
        with inside(host):
            self.changes = HostChanges(host.folder, device, self.complaints.append)
            try:
                self.port = open_raw(spec, self.changes)
                if rules:
                    self.changes.add_rules([_rule(number, address) for number in self.port.numbers])
            except BaseException:
                self.changes.close()
                raise
        self._buf = memoryview(bytearray(_ROOM))

    @property
    def number(self) -> int:
        """The first port number."""
        return self.port.numbers[0]

    def close(self) -> None:
        """Close the port and undo what it changed."""
        with inside(self.host):
            self.port.close()
            self.changes.close()

    def send(self, to: str, dport: int, payload: bytes, *, seg: int = 1400, source: str = "", **fields: Any) -> bool:
        """Send a TCP segment, a super-packet if `payload` is longer than `seg`."""
        with inside(self.host):
            own = source or self.source(to)
            packet = packets.tcp(own, to, fields.pop("sport", self.number), dport, payload, **fields)
            header, packet = offload(packet, seg)
            data = header.pack() + packet
            end = HEADROOM + len(data)
            self._buf[HEADROOM:end] = data
            return self.port.send(self._buf, HEADROOM, end, seg, (to,))

    def source(self, to: str) -> str:
        """Return the address that the port would send from."""
        route = self.port.route(to)
        if route is None:
            raise LookupError(f"{self.host.name} has no way to {to}")
        return str(ip_address(route[0]))

    def receive(self, patience: float = 2.0, pos: int = 0) -> Received | None:
        """Return the next packet, None if none comes; news of the network are taken, too."""
        buf = memoryview(bytearray(pos + _ROOM))
        deadline = time.monotonic() + patience
        with inside(self.host):
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([self.port], [], [], left)[0]:
                    continue
                try:
                    start, end, seg, source = self.port.recv(buf, pos)
                except BlockingIOError:
                    continue
                ip = start + 10
                v4 = buf[ip] >> 4 == 4
                length = int.from_bytes(buf[ip + 2 : ip + 4] if v4 else buf[ip + 4 : ip + 6], "big") + (0 if v4 else 40)
                if ip + length > end:
                    raise AssertionError(f"a packet of {length} bytes in {end - ip}")
                return Received(bytes(buf[ip : ip + length]), seg, source)
        return None

    def settle(self, patience: float = 0.3) -> None:
        """Take news of the network until there are none; a packet that comes is lost."""
        while self.receive(patience) is not None:
            pass


def _rule(port: int, host: str) -> HostRule:
    return HostRule(kind=HostRuleKind.DROP_RESETS, port=port, host=host)


def arrives(node: RawPortOn, hub: RawPortOn, to: str = HUB, patience: float = 1.0, **fields: Any) -> bool:
    """Send one packet, and say whether it comes."""
    payload = f"{time.monotonic()}".encode()
    if not node.send(to, 9000, payload, flags=PUSH, **fields):
        return False
    node.settle(0.05)
    got = hub.receive(patience)
    return got is not None and got.payload == payload
