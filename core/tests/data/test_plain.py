"""What a TUN without offloads gets equals what a kernel makes of the super-packet."""

from __future__ import annotations

import pytest

from ltunnel.data.plain import complete
from ltunnel.testing import offload as oracle
from ltunnel.testing import packets


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", ["tcp", "udp", "echo"])
@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1000, 40_001])
def test_equals_the_oracle(version, kind, size):
    ends = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    body = bytes(i * 7 & 0xFF for i in range(size))
    if kind == "tcp":
        flags = packets.ACK | packets.PSH | packets.CWR | packets.FIN
        packet = packets.tcp(*ends, 1, 2, body, seq=0xFFFFFFF0, flags=flags, options=bytes(12), ident=65_530)
    elif kind == "udp":
        packet = packets.udp(*ends, 1, 2, body)
    else:
        packet = packets.echo(*ends, 1, 2, body)
    header, out = oracle.offload(packet, 100)
    pieces = [bytes(piece) for piece in complete((header.pack(), out[:30], memoryview(out)[30:]))]
    assert pieces == oracle.complete(header, out)
    for piece in pieces:
        packets.parse(piece)


def test_a_udp_checksum_of_zero_is_sent_as_ones():
    for filler in range(65_536):
        packet = packets.udp("10.0.0.1", "10.0.0.2", 1, 2, filler.to_bytes(2, "big"))
        if packet[26:28] == b"\xff\xff":
            break
    header, out = oracle.offload(packet)
    (piece,) = complete((header.pack(), out))
    assert bytes(piece) == packet
