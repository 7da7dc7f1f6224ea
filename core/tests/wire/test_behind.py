"""Networks behind machines in WELCOME and PEERS: they fit beside all else, and earlier versions read past them."""

from ipaddress import ip_interface, ip_network

import pytest

from ltunnel.errors import WireError
from ltunnel.plugin import Carrier
from ltunnel.wire import frames, tlv
from ltunnel.wire.fields import NETWORK_LIMIT, Field
from ltunnel.wire.frames import PeerEntry, Peers, Welcome
from ltunnel.wire.places import HubPlace

KEY = bytes(range(32))
LAN = ip_network("192.168.7.0/24")
MOST = tuple(ip_network(f"2001:db8:{number}::/48") for number in range(NETWORK_LIMIT))


def without(table: tlv.Fields) -> tlv.Fields:
    """What an earlier version reads."""
    return {kind: bounds for kind, bounds in table.items() if kind is not Field.BEHIND}


def test_at_its_largest_it_fits() -> None:
    """A hub has one network for each of its addresses."""
    addresses = tuple(ip_interface(f"2001:db8:{number}::1/48") for number in range(8))
    welcome = Welcome(
        name="x" * 63, mtu=65535, addresses=addresses, networks=tuple(address.network for address in addresses),
        hub_addresses=addresses, places=(HubPlace(Carrier.UDP, ("2001:db8::1", 9000)),) * 4, behind=MOST,
    )  # fmt: skip
    assert Welcome.parse(welcome.pack()) == welcome
    peers = Peers((PeerEntry(KEY, "x" * 63, addresses, 65535, MOST),))
    assert Peers.parse(peers.pack()) == peers


def test_an_earlier_version_reads_past_it() -> None:
    with_it = Welcome(name="hub", mtu=1400, behind=(LAN,)).pack()
    bare = Welcome(name="hub", mtu=1400).pack()
    assert tlv.decode(with_it, without(frames._WELCOME)) == tlv.decode(bare, without(frames._WELCOME))
    (entry,) = tlv.decode(Peers((PeerEntry(KEY, "a", behind=(LAN,)),)).pack(), frames._PEERS)[Field.PEER]
    assert tlv.decode(entry, without(frames._PEER))[Field.NAME] == [b"a"]


@pytest.mark.parametrize(
    "value",
    [b"", b"\x18\xc0\xa8\x07", b"\x21\xc0\xa8\x07\x00", b"\x18\xc0\xa8\x07\x01", b"\x81" + bytes(16), bytes(18)],
)
def test_what_is_no_network_spoils_the_frame(value: bytes) -> None:
    entry = bytes((Field.BEHIND,)) + len(value).to_bytes(2, "big") + value
    with pytest.raises(WireError):
        Welcome.parse(Welcome(name="hub", mtu=1400).pack() + entry)
    peer = tlv.encode([(Field.KEY, KEY), (Field.NAME, b"a")], frames._PEER) + entry
    with pytest.raises(WireError):
        Peers.parse(bytes((Field.PEER,)) + len(peer).to_bytes(2, "big") + peer)


def test_one_too_many_spoils_the_frame() -> None:
    many = tlv.encode([(Field.NAME, b"hub"), (Field.MTU, b"\x05\x78"), (Field.FLAGS, b"\0")], frames._WELCOME)
    entry = bytes((Field.BEHIND, 0, 5)) + tlv.write_network(LAN)
    assert Welcome.parse(many + NETWORK_LIMIT * entry).behind == NETWORK_LIMIT * (LAN,)
    with pytest.raises(WireError):
        Welcome.parse(many + (NETWORK_LIMIT + 1) * entry)
