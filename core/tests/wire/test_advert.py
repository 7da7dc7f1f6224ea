"""ADVERT: round trip, bounds, and what a hostile or a newer neighbour may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.errors import WireError
from ltunnel.wire import tlv
from ltunnel.wire.advert import HOPS_LIMIT, INFINITY, ROUTE_LIMIT, VERSION, WANT_LIMIT, Advert, Route, Want
from ltunnel.wire.fields import Field
from ltunnel.wire.frames import parse_frame
from ltunnel.wire.types import FrameType

NAMES = st.binary(min_size=8, max_size=8)
NUMBERS = st.integers(0, 0xFFFF)
ROUTES = st.one_of(
    st.builds(Route, NAMES, NUMBERS, st.just(0), st.just(0)),
    st.builds(Route, NAMES, NUMBERS, st.integers(1, INFINITY), st.integers(1, HOPS_LIMIT)),
)
WANTS = st.builds(Want, NAMES, NUMBERS, st.integers(1, HOPS_LIMIT))
ADVERTS = st.builds(
    Advert,
    hold=st.integers(0, 0xFFFF_FFFF).map(lambda milliseconds: milliseconds / 1000),
    routes=st.lists(ROUTES, max_size=ROUTE_LIMIT).map(tuple),
    wants=st.lists(WANTS, max_size=WANT_LIMIT).map(tuple),
    all=st.booleans(),
)
GOOD = Advert(hold=1.0, routes=(Route(b"nameless", 1, 5, 1),), wants=(Want(b"nameless", 1, 2),))


@given(ADVERTS)
def test_adverts_round_trip(advert: Advert) -> None:
    body = advert.pack()
    assert len(body) <= tlv.MAX_BODY
    assert parse_frame(FrameType.ADVERT, body) == advert


@given(ADVERTS, st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=3), st.integers(0, 1400))
def test_any_change_gives_an_advert_or_a_wire_error(
    advert: Advert, changes: list[tuple[int, int]], length: int
) -> None:  # fmt: skip
    body = bytearray(advert.pack())
    for position, value in changes:
        body[position % len(body)] = value
    for changed in (bytes(body), bytes(body[:length])):
        try:
            parsed = Advert.parse(changed)
        except WireError:
            continue
        assert all((route.metric == 0) == (route.hops == 0) and route.hops <= HOPS_LIMIT for route in parsed.routes)


def test_the_largest_fits() -> None:
    route, want = Route(b"nameless", 0xFFFF, INFINITY, 16), Want(b"nameless", 0xFFFF, 16)
    largest = Advert(hold=1e9, routes=(route,) * ROUTE_LIMIT, wants=(want,) * WANT_LIMIT, all=True)
    assert len(largest.pack()) <= tlv.MAX_BODY
    assert Advert.parse(largest.pack()).hold == 0xFFFF_FFFF / 1000, "a longer time is cut"


@pytest.mark.parametrize(
    "advert",
    [
        Advert(hold=1.0, routes=GOOD.routes * (ROUTE_LIMIT + 1)),
        Advert(hold=1.0, wants=GOOD.wants * (WANT_LIMIT + 1)),
        Advert(hold=1.0, routes=(Route(b"short", 1, 5, 1),)),
        Advert(hold=1.0, wants=(Want(b"too long!", 1, 5),)),
    ],
    ids=["routes", "wants", "short", "long"],
)
def test_what_a_reader_would_refuse_is_not_sent(advert: Advert) -> None:
    with pytest.raises(ValueError, match=r".+"):
        advert.pack()


@pytest.mark.parametrize(
    "route",
    [Route(b"nameless", 1, 0, 1), Route(b"nameless", 1, 5, 0), Route(b"nameless", 1, 5, HOPS_LIMIT + 1)],
    ids=["near and far", "far and near", "too far"],
)
def test_routes_that_contradict_themselves_are_refused(route: Route) -> None:
    with pytest.raises(WireError, match="ROUTE"):
        Advert.parse(Advert(hold=1.0, routes=(route,)).pack())


@pytest.mark.parametrize("hops", [0, HOPS_LIMIT + 1])
def test_requests_that_go_nowhere_or_too_far_are_refused(hops: int) -> None:
    with pytest.raises(WireError, match="WANT"):
        Advert.parse(Advert(hold=1.0, wants=(Want(b"nameless", 1, hops),)).pack())


def test_a_newer_version_may_say_more_or_say_that_it_is_another() -> None:
    body = GOOD.pack()
    assert Advert.parse(body + bytes((0x80, 0, 1, 7))) == GOOD
    other = bytes((Field.CODE, 0, 1, VERSION + 1)) + body[4:]
    with pytest.raises(WireError, match="version 2"):
        Advert.parse(other)
