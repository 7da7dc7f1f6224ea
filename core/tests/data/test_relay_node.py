"""Datagrams between two nodes through other nodes: whole batches, accounts, and what is not passed on."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.tests.data.pieces import inject, to_peer, unordered
from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.data.deliver import Delivery
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.wire.relay import RelayTrailer, node_name
from ltunnel.wire.types import FrameType, MessageType

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def along(ends, datagrams) -> list[list[bytes]]:
    """Let datagrams of the first go from one to the next; return what each has sent."""
    sent = [datagrams]
    for here, there in pairwise(ends):
        passed = there.take(here, sent[-1])
        sent.append([datagram for _, datagram in passed])
    return sent


def seal(end, to, *frames: bytes) -> list[bytes]:
    """Seal frames for a neighbour as they are."""
    return [to_peer(end, to).epoch.seal_frame(frame[-1], frame[:-1]) for frame in frames]


def relay(source: bytes, destination: bytes, *, ttl: int = 4, datagram: bytes = bytes(60)) -> bytes:
    return datagram + RelayTrailer(destination, source, ttl).pack()


@SETTINGS
@given(
    seed=st.integers(0, 2**32), count=st.integers(3, 4), gro=st.booleans(), prefixed=st.booleans(),
    records=st.booleans(), limit=st.sampled_from((64, 5)),
)  # fmt: skip
def test_everything_arrives(net, seed, count, gro, prefixed, records, limit):
    ends = net.line(count, prefixed=prefixed)
    for end in ends:
        end.port.gro, end.port.limit = gro, limit
        if records:
            net.use_records(end)
    datagrams, expected = inject(ends[0], random.Random(seed))
    along(ends, datagrams)
    assert unordered(ends[-1].tun.packets) == unordered(expected)
    for end in ends:
        assert end.stats.drops == {}
        assert all(peer.stats.drops == {} for peer in end.fib.names.values())
    assert to_peer(ends[1], ends[0]).stats.relayed_datagrams >= len(datagrams)


def test_a_batch_stays_a_batch_at_each_node(net):
    ends = net.line(4)
    ends[0].tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    sent = along(ends, [datagram for _, datagram in ends[0].pump()])
    assert [len(datagrams) for datagrams in sent] == [43, 43, 43, 0]
    stats = to_peer(ends[1], ends[0]).stats
    sizes = [len(datagram) - DATA_OVERHEAD - RELAY_TRAILER for datagram in sent[0]]
    assert (stats.relayed_datagrams, stats.relayed_bytes) == (43, sum(sizes))
    assert [end.port.calls for end in ends[:3]] == [1, 1, 1]
    assert len(ends[-1].tun.writes) == 1


def test_records_stay_records(net):
    ends = net.line(4)
    for end in ends:
        net.use_records(end)
    ends[0].tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    sent = along(ends, [datagram for _, datagram in ends[0].pump()])
    assert {datagram[0] for datagrams in sent for datagram in datagrams} == {MessageType.RECORD}
    assert sum(len(packet) - 40 for packet in ends[-1].tun.packets) == 55_000


def test_answers_go_back_the_same_way(net):
    ends = net.line(3)
    ends[-1].tun.inject(packets.udp("10.0.0.3", "10.0.0.2", 1, 2, b"back"))
    along(ends[::-1], [datagram for _, datagram in ends[-1].pump()])
    assert ends[0].tun.parsed()[0].payload == b"back"


def test_what_is_for_the_relaying_node_and_for_others_in_one_batch(net):
    first, middle, last = net.line(3)
    one = to_peer(first, middle).epoch
    inner = [to_peer(first, last).epoch.seal_frame(FrameType.PADDING, bytes(31)) for _ in range(3)]
    strange = relay(node_name(last.key), node_name(middle.key))
    onward = [relay(node_name(first.key), node_name(last.key), datagram=datagram) for datagram in inner]
    frames = [strange, onward[0], onward[1], strange, strange, onward[2], relay(node_name(first.key), b"nobody--")]
    for order in (frames, frames[1:], frames[::-1]):
        first.port.sent.clear()
        sent = middle.take(first, [one.seal_frame(FrameType.RELAY, frame[:-1]) for frame in order])
        assert len(sent) == 3
    assert to_peer(middle, first).stats.drops == {Drop.NO_ROUTE: 3}
    assert len(middle.control.datagrams) == 8, "the strange ones came in, and hold nothing"
    assert to_peer(middle, first).stats.relayed_datagrams == 9


def test_what_a_node_does_not_pass_on(net):
    first, middle, last = net.line(3)
    origin, here, there = to_peer(middle, first), node_name(first.key), node_name(last.key)
    cases = {
        Drop.NO_ROUTE: [relay(here, b"nobody--"), relay(b"stranger", there), relay(there, there), relay(there, here)],
        Drop.HOPS: [relay(here, there, ttl=1), relay(here, there, ttl=0), relay(node_name(middle.key), there)],
        Drop.MALFORMED: [b"\x05", relay(here, there)[-RELAY_TRAILER:]],
    }
    for reason, frames in cases.items():
        for pieces in ([frames], [[one] for one in frames]):
            origin.stats.drops.clear()
            for some in pieces:
                assert middle.take(first, seal(first, middle, *some)) == []
            assert origin.stats.drops == {reason: len(frames)}
    origin.stats.drops.clear()
    to_peer(middle, last).epoch = None
    assert middle.take(first, seal(first, middle, relay(here, there))) == []
    assert origin.stats.drops == {Drop.NO_SESSION: 1}
    middle.hops.next.clear()
    assert middle.take(first, seal(first, middle, relay(here, there))) == []
    assert origin.stats.drops == {Drop.NO_SESSION: 1, Drop.NO_ROUTE: 1}
    assert origin.stats.relayed_datagrams == 0


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("sizes", [(100,), (30_000,), (100, 100, 3000)], ids=str)
def test_a_mistake_on_what_was_relayed_costs_no_more_than_that(net, monkeypatch, records, sizes):
    """Whatever raises is counted further out; the datagrams after it are taken again."""
    plain, trip = Delivery.bundles, [True]

    def fail_once(self, *args):
        if trip:
            raise ValueError(trip.pop())
        plain(self, *args)

    monkeypatch.setattr(Delivery, "bundles", fail_once)
    ends = net.line(3)
    if records:
        for end in ends:
            net.use_records(end)
    far = ends[-1]
    ends[0].tun.inject(packets.udp("10.0.0.2", "10.0.0.3", 1, 2, bytes(100)))
    with pytest.raises(ValueError, match="True"):
        along(ends, [datagram for _, datagram in ends[0].pump()])
    far.port.arrived = []
    for size in sizes:
        ends[0].tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(size)), gso_size=1300)
    along(ends, [datagram for _, datagram in ends[0].pump()])
    assert sum(len(packet) - 40 for packet in far.tun.packets) == sum(sizes)


def test_nothing_is_relayed_over_a_path_that_is_relayed_itself(net):
    first, middle, last = net.line(3)
    here, there = node_name(first.key), node_name(last.key)
    to_peer(middle, last).path.transport = 1
    assert middle.take(first, seal(first, middle, relay(here, there))) == []
    assert to_peer(middle, first).stats.drops == {Drop.NO_ROUTE: 1}
    to_peer(first, middle).path.transport = 2
    assert first.router.link(node_name(middle.key) + there) is None
    assert not first.transports[2].send(node_name(middle.key) + there, memoryview(bytearray(2000)), 128, 500, 372, 0.0)


def test_a_node_without_a_mesh_passes_nothing_on(net):
    first, middle, last = net.line(3, ttl=0)
    assert middle.take(first, seal(first, middle, relay(node_name(first.key), node_name(last.key)))) == []
    assert to_peer(middle, first).stats.drops == {Drop.UNKNOWN_TYPE: 1}


@pytest.mark.parametrize("record", [False, True])
def test_a_relay_inside_a_relay_goes_nowhere(net, record):
    first, middle, last = net.line(3)
    if record:
        net.use_records(first)
        net.use_records(middle)
    inner = relay(node_name(first.key), node_name(last.key))
    epoch = to_peer(first, last).epoch
    datagrams = [epoch.seal_frame(FrameType.RELAY, inner[:-1]) for _ in range(2)]
    along([first, middle, last], seal(first, middle, *[
        relay(node_name(first.key), node_name(last.key), datagram=datagram) for datagram in datagrams
    ]))  # fmt: skip
    assert to_peer(last, first).stats.drops == {Drop.UNKNOWN_TYPE: 2}


@SETTINGS
@given(seed=st.integers(0, 2**32), gro=st.booleans())
def test_any_relay_frame_is_counted_or_passed_on(net, seed, gro):
    first, middle, last = net.line(3)
    middle.port.gro = last.port.gro = gro
    rng = random.Random(seed)
    names = [node_name(end.key) for end in (first, middle, last)] + [bytes(8)]
    frames = []
    for _ in range(rng.randrange(1, 70)):
        whole = relay(
            rng.choice(names), rng.choice(names), ttl=rng.choice((0, 1, 2, 8, 255)),
            datagram=rng.randbytes(rng.choice((0, 1, 28, 29, 90, 1400))),
        )  # fmt: skip
        frames.append(whole[rng.choice((0, 0, 0, len(whole) - 5)) :])
    own = [one for one in frames if len(one) > RELAY_TRAILER and one[-18:-10] == names[1]]
    sent = middle.take(first, seal(first, middle, *frames))
    origin = to_peer(middle, first)
    assert len(sent) + sum(origin.stats.drops.values()) == len(frames) - len(own)
    assert origin.stats.relayed_datagrams == len(sent)
    last.take(middle, [datagram for _, datagram in sent])
    assert middle.tun.writes == last.tun.writes == []
