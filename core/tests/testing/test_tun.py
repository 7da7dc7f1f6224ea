"""The TUN device in memory."""

import pytest

from ltunnel.testing import SimTun, packets
from ltunnel.testing.offload import GsoType, VirtioHeader, offload
from ltunnel.testing.packets import parse

HERE, THERE = "10.0.0.2", "10.0.0.3"


def read_all(tun: SimTun) -> list[tuple[VirtioHeader, bytes]]:
    buffer = bytearray(70_000)
    out = []
    while tun.pending:
        length = tun.read(memoryview(buffer), 100)
        data = bytes(buffer[100 : 100 + length])
        out.append((VirtioHeader.unpack(data), data[10:]))
    with pytest.raises(BlockingIOError):
        tun.read(memoryview(buffer), 0)
    return out


def test_offload_brings_super_packets():
    tun = SimTun(mtu=1400, offload=True)
    whole = packets.tcp(HERE, THERE, 1, 2, bytes(range(250)) * 40)
    tun.inject(whole, gso_size=1360)
    tun.inject(packets.udp(HERE, THERE, 1, 2, b"x"))
    tun.inject(packets.echo(HERE, THERE, 1, 2))
    (big, data), (small, _), (ping, _) = read_all(tun)
    assert (big.gso_type, big.gso_size, big.hdr_len, big.csum_start, big.csum_offset) == (
        GsoType.TCP4,
        1360,
        40,
        20,
        16,
    )
    assert len(data) == len(whole)
    assert (small.flags, small.csum_start, small.csum_offset) == (1, 20, 6)
    assert ping == VirtioHeader()


def test_without_offload_plain_packets_come():
    tun = SimTun(mtu=1400, offload=False)
    tun.inject(packets.tcp(HERE, THERE, 1, 2, bytes(10_000), seq=5), gso_size=1360)
    got = read_all(tun)
    assert {header for header, _ in got} == {VirtioHeader()}
    assert [parse(packet).seq for _, packet in got] == [5 + 1360 * i for i in range(8)]


def test_the_mtu_holds():
    tun = SimTun(mtu=1400)
    tun.inject(packets.udp(HERE, THERE, 1, 2, bytes(1372)))
    with pytest.raises(ValueError, match="1401 bytes on a device with MTU 1400"):
        tun.inject(packets.udp(HERE, THERE, 1, 2, bytes(1373)))
    with pytest.raises(ValueError, match="1401 bytes"):
        tun.inject(packets.tcp(HERE, THERE, 1, 2, bytes(10_000)), gso_size=1361)


@pytest.mark.parametrize("offloads", [True, False])
def test_writes(offloads: bool):
    tun = SimTun(offload=offloads)
    header, packet = offload(packets.tcp(THERE, HERE, 2, 1, bytes(3000)), 1000)
    assert tun.write([header.pack(), packet[:20], memoryview(packet)[20:]])
    assert tun.writes == [(header, packet)]
    assert [len(parsed.payload) for parsed in tun.parsed()] == [1000] * 3
    assert not tun.write([b"short"])
    assert not tun.write([VirtioHeader(gso_type=9, gso_size=5, flags=1).pack(), packet])
    assert len(tun.refused) == 2
    tun.clear()
    assert not tun.packets


def test_wrong_packets_are_found_when_looked_at():
    tun = SimTun()
    assert tun.write([VirtioHeader().pack(), packets.udp(THERE, HERE, 2, 1, b"x")[:-1] + b"y"])
    with pytest.raises(ValueError, match="checksum"):
        tun.parsed()


def test_echo_is_answered():
    tun = SimTun(addresses=(HERE, "fd00::2"))
    for source, here in ((THERE, HERE), ("fd00::3", "fd00::2")):
        tun.write([VirtioHeader().pack(), packets.echo(source, here, 7, 8, b"data")])
        ((_, answer),) = read_all(tun)
        reply = parse(answer)
        assert reply.is_echo_reply
        assert (reply.source, reply.destination) == (here, source)
        assert (reply.echo_ident, reply.echo_sequence, reply.payload) == (7, 8, b"data")
    tun.write([VirtioHeader().pack(), packets.echo(THERE, "10.0.0.77", 7, 8)])
    tun.write([VirtioHeader().pack(), packets.echo(THERE, HERE, 7, 8, reply=True)])
    tun.answers = False
    tun.write([VirtioHeader().pack(), packets.echo(THERE, HERE, 7, 8)])
    assert tun.pending == 0


def test_raw_reads():
    tun = SimTun()
    tun.inject_raw(b"anything")
    buffer = bytearray(100)
    assert tun.read(memoryview(buffer), 3) == 8
    assert buffer[3:11] == b"anything"
