from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.errors import WireError
from ltunnel.wire import tlv
from ltunnel.wire.tlv import Bounds

FIELDS = {1: Bounds(1, 1, 2, 4), 2: Bounds(0, 3, 0, 1000), 0x83: Bounds(0, 1, 1, 1)}


def test_entries() -> None:
    data = tlv.encode([(2, b""), (1, b"abc"), (2, b"x"), (0x83, b"y")], FIELDS)
    assert data.hex(" ") == "02 00 00 01 00 03 61 62 63 02 00 01 78 83 00 01 79"
    assert tlv.decode(data, FIELDS) == {1: [b"abc"], 2: [b"", b"x"], 0x83: [b"y"]}


@given(st.binary(max_size=1400))
def test_any_bytes_give_entries_or_a_wire_error(data: bytes) -> None:
    try:
        values = tlv.decode(data, FIELDS)
    except WireError:
        return
    assert len(values[1]) == 1


@given(st.lists(st.tuples(st.sampled_from([1, 2, 0x83]), st.binary(max_size=5)), max_size=6))
def test_what_is_written_is_read(entries: list[tuple[int, bytes]]) -> None:
    try:
        data = tlv.encode(entries, FIELDS)
    except ValueError:
        return
    assert tlv.decode(data, FIELDS) == {kind: [v for k, v in entries if k == kind] for kind in FIELDS}


def test_unknown_entries() -> None:
    known = bytes.fromhex("010002 0000".replace(" ", ""))
    assert tlv.decode(known + bytes.fromhex("ff0003616263"), FIELDS)[1] == [b"\0\0"]
    with pytest.raises(WireError, match="unknown entry of type 127"):
        tlv.decode(known + bytes.fromhex("7f0003616263"), FIELDS)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("", "0 entries of type 1"),
        ("0100020000 0100020000", "2 entries of type 1"),
        ("01000100", "type 1 with 1 bytes"),
        ("010005" + "00" * 5, "type 1 with 5 bytes"),
        ("0100020000 020000 020000 020000 020000", "4 entries of type 2"),
        ("01", "cut short"),
        ("0100", "cut short"),
        ("01000200", "cut short"),
        ("0100020000 ff0001", "cut short"),
    ],
)
def test_bounds(data: str, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        tlv.decode(bytes.fromhex(data), FIELDS)


def test_total_length() -> None:
    entries = [(1, b"abc"), (2, bytes(1000)), (2, bytes(140))]
    assert len(tlv.encode(entries, FIELDS)) == tlv.MAX_BODY
    with pytest.raises(ValueError, match="1153 bytes of entries, more than 1152"):
        tlv.encode([(1, b"abcd"), *entries[1:]], FIELDS)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("10.0.0.2/24", "180a000002"),
        ("0.0.0.0/0", "0000000000"),
        ("fd00::1/64", "40fd000000000000000000000000000001"),
    ],
)
def test_interfaces(text: str, wire: str) -> None:
    assert tlv.write_interface(ip_interface(text)).hex() == wire
    assert tlv.read_interface(bytes.fromhex(wire)) == ip_interface(text)


@pytest.mark.parametrize(
    ("text", "wire"),
    [("10.1.0.0/16", "100a010000"), ("0.0.0.0/0", "0000000000"), ("2001:db8::/32", "2020010db8" + "00" * 12)],
)
def test_networks(text: str, wire: str) -> None:
    assert tlv.write_network(ip_network(text)).hex() == wire
    assert tlv.read_network(bytes.fromhex(wire)) == ip_network(text)


@pytest.mark.parametrize("wire", ["", "20", "210a000000", "180a0000", "81" + "00" * 16, "20" + "00" * 15])
def test_what_is_no_address(wire: str) -> None:
    for read in (tlv.read_interface, tlv.read_network):
        with pytest.raises(WireError, match="not an address"):
            read(bytes.fromhex(wire))


def test_networks_have_no_host_bits() -> None:
    with pytest.raises(WireError, match="host bits"):
        tlv.read_network(bytes.fromhex("180a000001"))


def test_text_is_utf8() -> None:
    with pytest.raises(WireError, match="UTF-8"):
        tlv.read_text(b"\xff")
