"""100,000 packets that nobody would send: no exception, nothing kept, and the connection lives on."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random

import pytest

from ltunnel.testing.offload import VirtioHeader
from ltunnel.testing.segments import to_ip

PACKETS = 50_000


class ScriptedPort:
    """Stands in for a raw port and gives out what it is told to, however broken."""

    def __init__(self, port) -> None:
        self._port = port
        self.packet: bytes | None = None

    def __getattr__(self, name):
        return getattr(self._port, name)

    def recv(self, buf, pos):
        if self.packet is None:
            return self._port.recv(buf, pos)
        data = VirtioHeader().pack() + self.packet
        self.packet = None
        buf[pos : pos + len(data)] = data
        source = data[22:26] if data[10] >> 4 == 4 else data[18:34]
        return pos, pos + len(data), 0, (str(ip_address(source)) if len(source) in (4, 16) else "::",)


def mutate(random: Random, packet: bytes) -> bytes:
    data = bytearray(packet)
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        kind = random.randrange(5)
        at = random.randrange(min(len(data), 80))
        if kind == 0:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at] = random.randrange(256)
        elif kind == 2:
            data[at : at + 4] = random.getrandbits(32).to_bytes(4, "big")
        elif kind == 3:
            del data[random.randrange(1, len(data) + 1) :]
        else:
            data += random.randbytes(random.randrange(40))
    where = slice(16, 20) if packet[0] >> 4 == 4 else slice(24, 40)
    port = slice(where.stop + 2, where.stop + 4)
    for kept in (where, port):  # a port delivers only what is for its host and number
        data[kept] = packet[kept][: max(0, len(data) - kept.start)]
    if random.random() < 0.5:  # with the length right, more is looked at
        if data[0] >> 4 == 4 and len(data) >= 20:
            data[2:4] = len(data).to_bytes(2, "big")
        elif len(data) >= 40:
            data[4:6] = (len(data) - 40).to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("ipv6", [False, True])
def test_mutated_packets(make_wall, ipv6):
    wall = make_wall(ipv6=ipv6)
    captured = {"up": [], "down": []}

    def look(packet, way):
        captured[way].append(to_ip(packet))
        return [packet]

    wall.tap.look = look
    flow, back = wall.open_flow()
    random = Random(ipv6)
    for size in (1, 30, 500, 1400):
        wall.node.send(flow, [random.randbytes(size)] * 3, wall.now)
        wall.hub.send(back, [random.randbytes(size)] * 3, wall.now)
        wall.run(0.1)
    assert min(map(len, captured.values())) > 12
    ends = []
    for end, way in ((wall.hub, "up"), (wall.node, "down")):
        port = ScriptedPort(end.ports[0])
        end.transport._port_recv = end.transport._next = port.recv
        ends.append((end, port, captured[way]))
    wall.network.record = lambda *_: None
    buf = memoryview(bytearray(140_000))
    for i in range(PACKETS // 2):
        for end, port, packets in ends:
            port.packet = mutate(random, random.choice(packets)) or b"\0"
            there, start, stop, seg = end.transport.receive(end.ports[0], buf, 128, wall.now)
            assert 128 <= start <= stop <= len(buf)
            if start < stop:
                assert seg > 2
                assert there is not None
            while end.transport._ready:
                end.transport.receive(end.ports[0], buf, 128, wall.now)
        if i % 500 == 0:
            wall.run(0.02)
    assert len(wall.hub.transport._flows) <= 2
    assert len(wall.node.transport._flows) == 1
    start = wall.now
    wall.hub.inbox.clear()
    while (b"alive") not in wall.hub.datagrams and wall.now < start + 20:
        wall.node.send(flow, [b"alive"], wall.now)
        wall.run(0.1)
    new = wall.hub.inbox[-1][0]
    wall.hub.send(new, [b"and well"], wall.now)
    wall.run(0.1)
    assert wall.node.inbox[-1] == (flow, b"and well")
    assert wall.now - start < 8.0
