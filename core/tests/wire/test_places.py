"""PLACE entries: what is written, what is refused."""

import pytest

from ltunnel.errors import WireError
from ltunnel.plugin import Carrier
from ltunnel.wire.frames import Welcome
from ltunnel.wire.places import PLACE_LIMIT, HubPlace


@pytest.mark.parametrize("place", [
    HubPlace(Carrier.UDP, ("192.0.2.1", 9000)), HubPlace(Carrier.TCP, ("2001:db8::1", 65_535)),
])  # fmt: skip
def test_round_trip(place: HubPlace):
    assert HubPlace.parse(place.pack()) == place
    welcome = Welcome(name="hub", mtu=1400, places=(place,) * PLACE_LIMIT)
    assert Welcome.parse(welcome.pack()) == welcome


@pytest.mark.parametrize("value", [
    "11 0000 c0000201", "11 2328 c00002", "11 2328 c000020101", "12 2328 c0000201",
    "11 2328 00000000000000000000ffffc0000201",
])  # fmt: skip
def test_what_is_no_place_is_refused(value: str):
    with pytest.raises(WireError):
        HubPlace.parse(bytes.fromhex(value))


def test_what_cannot_be_written_is_an_error():
    with pytest.raises(ValueError, match="port 0"):
        HubPlace(Carrier.UDP, ("192.0.2.1", 0)).pack()
    with pytest.raises(ValueError, match="entries of type 128"):
        Welcome(name="hub", mtu=1400, places=(HubPlace(Carrier.UDP, ("192.0.2.1", 9)),) * (PLACE_LIMIT + 1)).pack()


def test_a_reader_that_does_not_know_them_passes_over_them():
    """The entry's type has its high bit set, so that nodes without direct paths need not know it."""
    plain, more = (
        Welcome(name="hub", mtu=1400),
        Welcome(name="hub", mtu=1400, places=(HubPlace(Carrier.UDP, ("192.0.2.1", 9)),)),
    )
    extra = more.pack().removeprefix(plain.pack())
    assert extra[0] & 0x80
