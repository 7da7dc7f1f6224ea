"""Headers, byte by byte. The Linux ones were captured from a loopback device of Linux 6.18."""

from __future__ import annotations

import pytest

from ltunnel.testing.offload import VirtioHeader, complete
from ltunnel.testing.packets import ACK, PSH, SYN, parse
from ltunnel_transport_faketcp.opening import Agreed, Numbers, make_cookie, open_cookie, read_options, write_options
from ltunnel_transport_faketcp.segment import Head, ends, make_key, read, word

LOOPBACK = bytes((127, 0, 0, 1))
CLIENT, SERVER = 0xD706, 0x1E61
FIRST, SECOND = 0x3FC69782, 0x6188B5BE
CLIENT_CLOCK, SERVER_CLOCK = 0x5BBD2FCC, 0x28A92708
NO_OFFLOAD = "01000000000014001000"  # NEEDS_CSUM, checksum at 20 + 16

LINUX_SYN = (
    "4500003c62df40004006d9da7f0000017f000001d7061e613fc6978200000000a002ffd7fe300000"
    "0204ffd70402080a5bbd2fcc000000000103030a"
)
LINUX_SYN_ACK = (
    "4500003c0000400040063cba7f0000017f0000011e61d7066188b5be3fc69783a012ffcbfe300000"
    "0204ffd70402080a28a927085bbd2fcc0103030a"
)
LINUX_ACK = "4500003462e040004006d9e17f0000017f000001d7061e613fc697836188b5bf80100040fe2800000101080a5bbd2fcc28a92708"
LINUX_DATA = "4500009862e140004006d97c7f0000017f000001d7061e613fc697836188b5bf80180040fe8c00000101080a5bbd2fcc28a92708"


def headers(head: Head, size: int, seg: int, *args) -> str:
    buf = memoryview(bytearray(300))
    start = head.write(buf, 200, size, seg, *args)
    assert start == 200 - head.room
    assert not any(buf[:start])
    assert not any(buf[200:])
    return bytes(buf[start:200]).hex()


def syn(head: Head, *args) -> str:
    buf = memoryview(bytearray(300))
    start = head.write_syn(buf, 200, *args)
    return bytes(buf[start : 200 + len(args[-1])]).hex()


def test_a_syn_is_linuxs():
    head = Head(LOOPBACK, LOOPBACK, CLIENT, SERVER, timed=False, ident=0x62DF)
    options = write_options(0xFFD7, CLIENT_CLOCK)
    assert syn(head, FIRST, 0, word(SYN, 0xFFD7, 40), options) == NO_OFFLOAD + LINUX_SYN


def test_a_syn_ack_is_linuxs():
    head = Head(LOOPBACK, LOOPBACK, SERVER, CLIENT, timed=False)
    options = write_options(0xFFD7, SERVER_CLOCK, read_options(bytes.fromhex(LINUX_SYN)[40:]))
    found = syn(head, SECOND, FIRST + 1, word(SYN | ACK, 0xFFCB, 40), options)
    assert found == NO_OFFLOAD + LINUX_SYN_ACK


def test_an_ack_and_data_are_linuxs():
    head = Head(LOOPBACK, LOOPBACK, CLIENT, SERVER, timed=True, ident=0x62E0)
    numbers = (FIRST + 1, SECOND + 1)
    assert headers(head, 0, 0, *numbers, word(ACK, 64), CLIENT_CLOCK, SERVER_CLOCK) == NO_OFFLOAD + LINUX_ACK
    data = headers(head, 100, 100, *numbers, word(PSH | ACK, 64), CLIENT_CLOCK, SERVER_CLOCK)
    assert data == NO_OFFLOAD + LINUX_DATA


def test_a_super_packet():
    head = Head(bytes((192, 0, 2, 1)), bytes((198, 51, 100, 7)), 40000, 9000, timed=True, ident=0xFFFE)
    found = headers(head, 4000, 1438, 2**32 + 5, 2**40 + 7, word(PSH | ACK, 65_535), 1, 2)
    assert (
        found
        == (
            "01013400" + "9e05" + "14001000"  # NEEDS_CSUM, TCPV4, headers 52, segments 1438
            "45000fd4fffe40004006" + "3ee9" + "c0000201c6336407"
            "9c402328" + "00000005" + "00000007" + "8018ffff" + "fc02" + "0000" + "0101080a" + "00000001" + "00000002"
        )
    )
    assert head.ident == 1, "three segments, three numbers"


def test_ipv6():
    own, far = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
    head = Head(own, far, 40000, 9000, timed=True, label=0xABCDE)
    found = headers(head, 3000, 1400, 1, 2, word(PSH | ACK, 65_535), 3, 4)
    assert (
        found
        == (
            "01044800" + "7805" + "28001000"  # NEEDS_CSUM, TCPV6, headers 72, segments 1400
            "600abcde0bd80640" + own.hex() + far.hex() + "9c402328"
            "00000001" + "00000002" + "8018ffff" + "6753" + "0000" + "0101080a" + "00000003" + "00000004"
        )
    )


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("size", [0, 1, 3, 1000, 1438, 3000, 65_463])
@pytest.mark.parametrize("ends_of", [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:ffff::2")])
def test_checksums_come_out_right(timed, size, ends_of):
    """Cut and completed as a kernel would, every segment parses, and says what it should."""
    from ipaddress import ip_address

    own, far = (ip_address(address).packed for address in ends_of)
    for ident in (0, 0x1234, 0xFFFF):
        head = Head(own, far, 40000, 9000, timed=timed, ident=ident)
        buf = memoryview(bytearray(202 + size))
        payload = bytes(i * 7 & 0xFF for i in range(size))
        control = word(PSH | ACK, 65_535, 32 if timed else 20)
        start = head.write(buf, 200, size, 1438, 2**32 - 1000, 77, control, 2**32 + 1, 9, 0xABCD)
        assert buf[200:202] == b"\xab\xcd"
        buf[200 : 200 + size] = payload
        packet = bytes(buf[start : 200 + size])
        pieces = [parse(piece) for piece in complete(VirtioHeader.unpack(packet), packet[10:])]
        assert b"".join(piece.payload for piece in pieces) == payload
        assert {(piece.source, piece.destination) for piece in pieces} == {ends_of}
        assert [piece.seq for piece in pieces] == [(2**32 - 1000 + i * 1438) % 2**32 for i in range(len(pieces))]
        assert {piece.ttl for piece in pieces} == {64}
        if len(own) == 4:
            assert [piece.ident for piece in pieces] == [ident + i & 0xFFFF for i in range(len(pieces))]
            assert packet[16] == 0x40, "don't fragment"
        assert pieces[-1].flags == PSH | ACK
        assert {piece.flags for piece in pieces[:-1]} <= {ACK}


def test_reading_what_was_written():
    own, far = bytes((192, 0, 2, 1)), bytes((198, 51, 100, 7))
    head = Head(own, far, 40000, 9000, timed=True)
    buf = memoryview(bytearray(500))
    start = head.write(buf, 200, 50, 50, 123, 456, word(PSH | ACK, 789), 11, 12)
    key, seq, ack, flags, window, data, end, clock, echo = read(buf, start + 10, 250)
    assert ends(key) == (own, far, 40000, 9000), "as it arrives at the far end"
    assert key == make_key(own, far, 40000, 9000)
    assert (seq, ack, flags, window, data, end, clock, echo) == (123, 456, PSH | ACK, 789, 200, 250, 11, 12)
    assert read(buf, start + 10, 249) is None, "shorter than it says"
    assert read(buf, start + 10, 300)[6] == 250, "padding is not payload"
    for flags, whole in ((b"\x00\x00", True), (b"\x20\x00", False), (b"\x00\x07", False), (b"\x40\x00", True)):
        buf[start + 16 : start + 18] = flags
        assert (read(buf, start + 10, 250) is not None) is whole, "fragments are nothing to us"


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        (Agreed(1460, 7, True, 5), "020405b40402080a000000090000000501" + "03030a"),
        (Agreed(1460, 7, False, 5), "020405b40101080a000000090000000501" + "03030a"),
        (Agreed(1460, None, True, None), "020405b401010402"),
        (Agreed(1460, 7, False, None), "020405b4" + "0103030a"),
        (Agreed(1460), "020405b4"),
        (Agreed(), ""),
    ],
)
def test_answers_offer_only_what_was_offered(offered, answer):
    assert write_options(1460, 9, offered).hex() == answer


@pytest.mark.parametrize("mss", [0, 100, 536, 1220, 1400, 1459, 1460, 9000, 65_495])
@pytest.mark.parametrize("scale", [None, 0, 7, 10, 14])
@pytest.mark.parametrize("sack", [True, False])
def test_cookies_remember(mss, scale, sack):
    own = Numbers(seq=2**32 - 3, clock=2**32 - 40, ident=0, label=0)
    for now in (0.0, 0.03, 0.1, 1e6):
        cookie, told = make_cookie(own, Agreed(mss, scale, sack, 5), now)
        agreed = open_cookie(own, (cookie + 1) % 2**32, told, 6)
        assert agreed is not None
        assert (agreed.scale, agreed.sack, agreed.clock) == (scale, sack, 6)
        assert agreed.mss <= mss
        assert agreed.mss >= min(mss, 1460) * 0.8 or mss < 536
        clock_now = (own.clock + int(now * 1000)) % 2**32
        assert (clock_now - told) % 2**32 < 128, "not ahead of the clock, and not far behind"
        assert open_cookie(own, (cookie + 1) % 2**32, None, -1) == Agreed(mss=agreed.mss)
    for wrong in (-1, 16, 17, 2**31):
        assert open_cookie(own, (own.seq + 1 + wrong) % 2**32, 0, 0) is None


def test_damaged_options_count_as_not_sent():
    assert read_options(bytes.fromhex("020405b4" + "0303")) == Agreed(mss=1460)
    assert read_options(bytes.fromhex("0303ff" + "00" + "020405b4")) == Agreed(scale=14), "nothing after the end"
    assert read_options(bytes.fromhex("fe00020405b4")) == Agreed(), "no length, no next one"
    assert read_options(b"\x02") == Agreed()
    assert read_options(bytes.fromhex("020305" + "01")) == Agreed()
