"""Packet builders, parser and offload, held against packets from elsewhere and against each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.testing import packets
from ltunnel.testing.offload import NEEDS_CHECKSUM, GsoType, VirtioHeader, complete, offload, refusal
from ltunnel.testing.packets import ACK, CWR, FIN, PSH, SYN, TCP, UDP, parse

FOUR = ("10.0.0.2", "10.0.0.3")
SIX = ("fd00::2", "fd00::3")


def test_checksum_of_rfc_1071():
    """The example of section 3: the sum is ddf2."""
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert packets.ones_sum(data) == 0xDDF2
    assert packets.checksum(data) == 0x220D
    assert packets.checksum(b"\x01") == packets.checksum(b"\x01\x00")


def test_ipv4_header_from_elsewhere():
    """A header whose checksum, b861, is worked out in many textbooks."""
    known = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    built = packets.ip("192.168.0.1", "192.168.0.199", UDP, bytes(95))
    assert built[:20] == known


def test_golden_packets():
    """Checksums added up by hand: 26db = ~(4500+001e+4000+4001+0a00+0002+0a00+0003), and so on."""
    header, message = "4500001e0000400040 01 26db 0a000002 0a000003", "0800 8f93 0001 0002 6869"
    assert packets.echo(*FOUR, 1, 2, b"hi") == bytes.fromhex(header + message)
    header = "60000000 0009 11 40 fd000000000000000000000000000002 fd000000000000000000000000000003"
    assert packets.udp(*SIX, 1, 2, b"x") == bytes.fromhex(header + "0001 0002 0009 8dd2 78")


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_round_trips(ends: tuple[str, str]):
    options = packets.mss_option(1360)
    parsed = parse(
        packets.tcp(*ends, 443, 50_000, b"data", seq=2**32 - 1, ack=7, flags=SYN | ACK, window=99, options=options)
    )
    assert (parsed.source, parsed.destination, parsed.protocol) == (*ends, TCP)
    assert (parsed.sport, parsed.dport, parsed.seq, parsed.ack) == (443, 50_000, 2**32 - 1, 7)
    assert (parsed.flags, parsed.window, parsed.options, parsed.payload) == (SYN | ACK, 99, options, b"data")
    parsed = parse(packets.udp(*ends, 1, 2, b"odd"))
    assert (parsed.sport, parsed.dport, parsed.payload) == (1, 2, b"odd")
    request = parse(packets.echo(*ends, 3, 4, b"ping"))
    assert request.is_echo_request
    assert not request.is_echo_reply
    assert (request.echo_ident, request.echo_sequence, request.payload) == (3, 4, b"ping")
    assert parse(packets.echo(*ends, 3, 4, reply=True)).is_echo_reply


def test_udp_never_sends_checksum_zero():
    for number in range(70_000):
        packet = packets.udp(*FOUR, number & 0xFFFF, number >> 16, b"")
        if packet[26:28] == b"\xff\xff":
            parse(packet)
            return
    raise AssertionError("no such packet found")


@pytest.mark.parametrize("packet", [
    packets.udp(*FOUR, 1, 2, b"abc"), packets.tcp(*FOUR, 1, 2, b"abc"), packets.echo(*FOUR, 1, 2, b"abc"),
    packets.udp(*SIX, 1, 2, b"abc"), packets.tcp(*SIX, 1, 2, b"abc"), packets.echo(*SIX, 1, 2, b"abc"),
])  # fmt: skip
def test_every_flipped_bit_is_found(packet: bytes):
    unchecked = {1, 2, 3, 7} if packet[0] >> 4 == 6 else set()  # traffic class, flow label and hop limit have no sum
    for at in set(range(len(packet))) - unchecked:
        for bit in range(8):
            if (packet[0] >> 4, at, bit) in ((6, 0, 0), (6, 0, 1), (6, 0, 2), (6, 0, 3)):
                continue  # the rest of the traffic class
            damaged = bytearray(packet)
            damaged[at] ^= 1 << bit
            if packet[0] >> 4 == 6 and at == 6:
                continue  # another protocol, perhaps one that is not looked into
            with pytest.raises(ValueError, match=r"wrong|not an IP"):
                parse(bytes(damaged))


def test_refusals():
    with pytest.raises(ValueError, match="not an IP packet"):
        parse(b"")
    with pytest.raises(ValueError, match="IPv4 length"):
        parse(packets.udp(*FOUR, 1, 2, b"abc") + b"\0")
    with pytest.raises(ValueError, match="family"):
        packets.udp(FOUR[0], SIX[0], 1, 2, b"")
    with pytest.raises(ValueError, match="do not fit"):
        packets.udp(*FOUR, 1, 2, bytes(65_530))


@given(
    ends=st.sampled_from([FOUR, SIX]),
    payload=st.binary(min_size=1, max_size=9000),
    mss=st.integers(100, 1460),
    seq=st.integers(0, 2**32 - 1),
    ident=st.integers(0, 65_535),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR]),
    options=st.sampled_from([b"", bytes(12)]),
)
def test_tcp_is_cut_right(ends, payload, mss, seq, ident, flags, options):
    whole = packets.tcp(*ends, 5, 6, payload, seq=seq, ack=9, flags=flags, options=options, ident=ident)
    header, out = offload(whole, mss)
    assert refusal(header, out) is None
    segments = [parse(segment) for segment in complete(header, out)]
    assert b"".join(segment.payload for segment in segments) == payload
    assert [len(segment.payload) for segment in segments[:-1]] == [mss] * (len(segments) - 1)
    assert len(segments) == -(-len(payload) // mss)
    for index, segment in enumerate(segments):
        assert segment.seq == (seq + index * mss) % 2**32
        assert (segment.ack, segment.options) == (9, options)
        if ends is FOUR:
            assert segment.ident == (ident + index) % 2**16
        expected = flags
        if index:
            expected &= ~CWR
        if index < len(segments) - 1:
            expected &= ~(FIN | PSH)
        assert segment.flags == expected


@given(ends=st.sampled_from([FOUR, SIX]), payload=st.binary(min_size=1, max_size=9000), size=st.integers(100, 1400))
def test_udp_is_cut_right(ends, payload, size):
    header, out = offload(packets.udp(*ends, 5, 6, payload), size)
    assert refusal(header, out) is None
    datagrams = [parse(datagram) for datagram in complete(header, out)]
    assert [datagram.payload for datagram in datagrams] == [payload[i : i + size] for i in range(0, len(payload), size)]


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_partial_checksums_are_finished(ends: tuple[str, str]):
    for packet in (packets.tcp(*ends, 5, 6, b"data"), packets.udp(*ends, 5, 6, b"data")):
        header, out = offload(packet)
        assert header.flags == NEEDS_CHECKSUM
        assert header.gso_type == GsoType.NONE
        assert out != packet
        assert complete(header, out) == [packet]
        assert complete(VirtioHeader(), packet) == [packet]
    ping = packets.echo(*ends, 1, 2)
    assert offload(ping) == (VirtioHeader(), ping)


def test_a_wrong_partial_checksum_shows():
    header, out = offload(packets.tcp(*FOUR, 5, 6, bytes(5000)), 1000)
    damaged = bytearray(out)
    damaged[36] ^= 1
    for segment in complete(header, bytes(damaged)):
        with pytest.raises(ValueError, match="checksum"):
            parse(segment)


def test_virtio_header_layout():
    """The layout of struct virtio_net_hdr, little-endian."""
    header = VirtioHeader(1, 4, 0x0102, 0x0304, 0x0506, 0x0708)
    assert header.pack().hex() == "01040201040306050807"
    assert VirtioHeader.unpack(header.pack() + b"packet") == header


@pytest.mark.parametrize(("change", "why"), [
    ({"flags": 2}, "flags"), ({"csum_start": 9000}, "beyond"), ({"hdr_len": 9000}, "hdr_len"),
    ({"gso_type": 4}, "gso_type"), ({"gso_type": 3}, "gso_type"), ({"gso_size": 0}, "gso_size"),
    ({"flags": 0}, "partial"), ({"csum_offset": 6}, "elsewhere"), ({"csum_start": 24}, "elsewhere"),
])  # fmt: skip
def test_what_a_device_refuses(change: dict[str, int], why: str):
    header, out = offload(packets.tcp(*FOUR, 5, 6, bytes(5000)), 1000)
    fields = {
        name: getattr(header, name)
        for name in ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
    }
    assert refusal(VirtioHeader(**fields), out) is None
    reason = refusal(VirtioHeader(**{**fields, **change}), out)
    assert reason is not None
    assert why in reason
    assert refusal(header, b"\x00" * 40) == "not an IP packet"
    assert refusal(header, b"") == "not an IP packet"
