"""Datagrams between two nodes through the hub: what arrives, what the hub sees, what it does not pass on."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.tests.data.pieces import inject, to_peer, unordered
from ltunnel.constants import HEADROOM, RELAY_TRAILER
from ltunnel.data.grid import Arena
from ltunnel.data.records import PartGrid, RecordSealer, part_size
from ltunnel.data.relay import RelayTransport
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.wire.relay import TTL, RelayTrailer, node_name
from ltunnel.wire.types import FrameType, MessageType

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HELLO = packets.udp("10.0.0.2", "10.0.0.3", 1, 2, b"hello")


def through(hub, one, other, datagrams) -> list[bytes]:
    """Let the hub relay datagrams from one node to the other, who takes them; return what the hub sent."""
    relayed = hub.take(one, datagrams)
    assert {to for to, _ in relayed} <= {other.endpoint}
    passed = [datagram for _, datagram in relayed]
    other.take(hub, passed)
    return passed


def frames_of(hub, node, datagrams) -> list[bytes]:
    """What the hub finds in datagrams of a node, frame type included."""
    (epoch,) = [epoch for epoch in hub.control.sessions.values() if epoch.peer.key == node.key]
    key = bytes((epoch.remote_index // 4, 1)) * 16
    return [AESGCM(key).decrypt(datagram[:12], datagram[12:], b"") for datagram in datagrams]


def frames_for(hub, node, datagrams) -> list[bytes]:
    """What the hub has sealed for a node, frame type included."""
    (epoch,) = [epoch for epoch in hub.control.sessions.values() if epoch.peer.key == node.key]
    key = bytes((epoch.local_index // 4, 2)) * 16
    return [AESGCM(key).decrypt(datagram[:12], datagram[12:], b"") for datagram in datagrams]


@SETTINGS
@given(
    seed=st.integers(0, 2**32), gro=st.booleans(), prefixed=st.booleans(), records=st.booleans(),
    whole=st.booleans(), offloads=st.booleans(), limit=st.sampled_from((64, 5)),
)  # fmt: skip
def test_everything_arrives(net, seed, gro, prefixed, records, whole, offloads, limit):
    hub, one, other = net.relayed(prefixed=prefixed, whole=whole)
    one.tun.offload = offloads
    if records:
        net.use_records(one)
        net.use_records(hub)
    for end in (hub, other):
        end.port.gro, end.port.limit = gro, limit
    datagrams, expected = inject(one, random.Random(seed))
    passed = through(hub, one, other, datagrams)
    assert records or len(passed) == len(datagrams)
    assert unordered(other.tun.packets) == unordered(expected)
    assert other.tun.refused == hub.tun.writes == []
    for end in (hub, one, other):
        assert end.stats.drops == {}
        assert all(peer.stats.drops == {} for peer in end.fib.names.values())


@SETTINGS
@given(seed=st.integers(0, 2**32), loss=st.sampled_from((0.0, 0.05, 0.5)), gro=st.booleans(), records=st.booleans())
def test_a_bad_path_loses_only_what_was_lost(net, seed, loss, gro, records):
    hub, one, other = net.relayed()
    if records:
        net.use_records(one)
    hub.port.gro = other.port.gro = gro
    rng = random.Random(seed)

    def spoil(datagrams: list[bytes]) -> list[bytes]:
        path = []
        for number, datagram in enumerate(datagrams):
            if rng.random() >= loss:
                path += [(number + rng.choice((0, 0, 0, rng.randrange(40))), datagram)] * rng.choice((1, 1, 1, 2))
        return [datagram for _, datagram in sorted(path, key=lambda entry: entry[0])]

    datagrams, expected = inject(one, rng)
    relayed = hub.take(one, spoil(datagrams))
    other.take(hub, spoil([datagram for _, datagram in relayed]))
    assert unordered(other.tun.packets) <= unordered(expected)
    assert hub.fib.names[node_name(one.key)].stats.drops.keys() <= {Drop.REPLAYED}
    assert to_peer(other, one).stats.drops == {}


def test_the_hub_sees_sealed_bytes_only(net):
    hub, one, other = net.relayed()
    marker = b"PLAINTEXT-MARKER" * 60
    one.tun.inject(packets.udp("10.0.0.2", "10.0.0.3", 1, 2, marker))
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, marker * 20), gso_size=1300)
    datagrams = [datagram for _, datagram in one.pump()]
    seen = b"".join(frames_of(hub, one, datagrams))
    passed = through(hub, one, other, datagrams)
    arenas = (hub.inbound.rx, hub.inbound._plain, hub.inbound._relays._sealer.arena, hub.inbound._relays._sealer._out)
    for place in (*datagrams, *passed, seen, *(bytes(arena.data) for arena in arenas)):
        assert marker[:16] not in place
    assert other.tun.packets[0].count(marker[:16]) == 60
    assert sum(len(packet) - 40 for packet in other.tun.packets[1:]) == 20 * len(marker)


def test_a_batch_stays_a_batch(net):
    hub, one, other = net.relayed()
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    datagrams = [datagram for _, datagram in one.pump()]
    assert one.port.calls == 1
    assert len(through(hub, one, other, datagrams)) == 43
    assert hub.port.calls == 1
    assert len(other.tun.writes) == 1


def test_no_batch_is_too_large_for_a_call(net):
    hub, one, other = net.relayed(prefixed=True)
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(65_000)), gso_size=1300)
    through(hub, one, other, [datagram for _, datagram in one.pump()])
    assert (one.port.calls, hub.port.calls) == (2, 2)
    assert sum(len(packet) - 40 for packet in other.tun.packets) == 65_000


def test_datagrams_of_the_greatest_length_are_not_larger_than_others_to_the_hub(net):
    _, one, _ = net.relayed()
    one.tun.inject(packets.udp("10.0.0.2", "10.0.0.3", 1, 2, bytes(1354 - 28)))
    one.tun.inject(packets.udp("10.0.0.2", "10.0.0.1", 1, 2, bytes(1400 - 28)))
    relayed, direct = (datagram for _, datagram in one.pump())
    assert len(relayed) == len(direct)


@pytest.mark.parametrize("number", [1, 20])
def test_names_are_the_hubs_to_write(net, number):
    """A node that lies about `source` is relayed under its own name all the same."""
    hub, one, other = net.relayed()
    victim = node_name(bytes(32))
    one.transports[1]._name = victim
    for _ in range(number):
        one.tun.inject(packets.udp("10.0.0.2", "10.0.0.3", 1, 2, bytes(1300)))
    datagrams = [datagram for _, datagram in one.pump()]
    assert RelayTrailer.parse(frames_of(hub, one, datagrams)[0]) == (node_name(other.key), victim, TTL)
    passed = [datagram for _, datagram in hub.take(one, datagrams)]
    for frame in frames_for(hub, other, passed):
        assert RelayTrailer.parse(frame) == (node_name(other.key), node_name(one.key), TTL - 1)
    other.take(hub, passed)
    assert other.tun.parsed()[0].payload == bytes(1300)


def send(one, *frames: bytes) -> list[bytes]:
    """Seal frames for the hub as they are."""
    return [one.hub.epoch.seal_frame(frame[-1], frame[:-1]) for frame in frames]


def frame(destination: bytes, ttl: int = TTL, datagram: bytes = bytes(60)) -> bytes:
    return datagram + RelayTrailer(destination, bytes(8), ttl).pack()


def test_what_the_hub_does_not_pass_on(net):
    hub, one, other = net.relayed()
    name, origin = node_name(other.key), hub.fib.names[node_name(one.key)]
    cases = {
        Drop.NO_ROUTE: [frame(b"nobody--"), frame(node_name(one.key))],
        Drop.HOPS: [frame(name, 1), frame(name, 0)],
        Drop.MALFORMED: [b"\x05", frame(name)[-RELAY_TRAILER:]],
    }
    for reason, frames in cases.items():
        origin.stats.drops.clear()
        assert hub.take(one, send(one, *frames)) == []
        assert origin.stats.drops == {reason: len(frames)}
    origin.stats.drops.clear()
    hub.fib.names[name].epoch = None
    assert hub.take(one, send(one, frame(name))) == []
    assert origin.stats.drops == {Drop.NO_SESSION: 1}
    hub.fib.remove(hub.fib.names[name])
    assert hub.take(one, send(one, frame(name))) == []
    assert origin.stats.drops == {Drop.NO_SESSION: 1, Drop.NO_ROUTE: 1}
    assert origin.stats.relayed_datagrams == 0


def test_an_isolating_hub_passes_nothing_on(net):
    hub, one, _ = net.relayed(isolated=True)
    one.tun.inject(HELLO)
    assert hub.take(one, [datagram for _, datagram in one.pump()]) == []
    assert hub.fib.names[node_name(one.key)].stats.drops == {Drop.ISOLATED: 1}


def test_an_address_that_has_not_proved_itself_gets_no_more_than_its_budget(net):
    hub, one, other = net.relayed()
    target = hub.fib.names[node_name(other.key)]
    target.path.budget = 300
    for _ in range(3):
        one.tun.inject(packets.udp("10.0.0.2", "10.0.0.3", 1, 2, bytes(100)))
        hub.port.sent.clear()
        hub.take(one, [datagram for _, datagram in one.pump()])
    assert target.stats.drops == {Drop.LIMITED: 2}


def test_frames_for_several_nodes_in_one_batch(net):
    hub, one, other = net.relayed()
    here, nowhere = node_name(other.key), b"nobody--"
    mixed = [frame(here), frame(nowhere), frame(here), frame(here), b"\x00" * 77 + b"\x00", frame(here)]
    sent = hub.take(one, send(one, *mixed, frame(here, datagram=bytes(30))))
    assert [to for to, _ in sent] == [other.endpoint] * 5
    origin = hub.fib.names[node_name(one.key)]
    assert origin.stats.drops == {Drop.NO_ROUTE: 1}
    assert (origin.stats.relayed_datagrams, origin.stats.relayed_bytes) == (5, 4 * 60 + 30)


def test_a_node_takes_relayed_datagrams_from_its_hub_only(net):
    hub, one, other = net.relayed()
    peer = to_peer(one, other)
    datagram = peer.epoch.seal_frame(FrameType.RELAY, frame(node_name(other.key))[:-1])
    other.take(one, [datagram])
    assert to_peer(other, one).stats.drops == {Drop.UNKNOWN_TYPE: 1}
    (epoch,) = [epoch for epoch in hub.control.sessions.values() if epoch.peer.key == other.key]
    stray = epoch.seal_frame(FrameType.RELAY, frame(node_name(one.key))[:-1])
    other.take(hub, [stray])
    assert other.hub.stats.drops == {Drop.NO_ROUTE: 1}


def test_a_relay_inside_a_relay_goes_nowhere(net):
    hub, one, other = net.relayed()
    inner = to_peer(one, other).epoch.seal_frame(FrameType.RELAY, frame(node_name(other.key))[:-1])
    through(hub, one, other, send(one, frame(node_name(other.key), datagram=inner)))
    assert to_peer(other, one).stats.drops == {Drop.UNKNOWN_TYPE: 1}


@SETTINGS
@given(seed=st.integers(0, 2**32), gro=st.booleans())
def test_any_relay_frame_is_counted_or_passed_on(net, seed, gro):
    hub, one, other = net.relayed()
    hub.port.gro = other.port.gro = gro
    rng = random.Random(seed)
    names = [node_name(other.key), node_name(one.key), bytes(8)]
    frames = []
    for _ in range(rng.randrange(1, 70)):
        whole = frame(
            rng.choice(names), rng.choice((0, 1, 2, 8, 255)), rng.randbytes(rng.choice((0, 1, 28, 29, 90, 1400)))
        )
        frames.append(whole[rng.choice((0, 0, 0, len(whole) - 5)) :])
    sent = hub.take(one, send(one, *frames))
    origin = hub.fib.names[node_name(one.key)]
    assert len(sent) + sum(origin.stats.drops.values()) == len(frames) == len(sent) + sum(origin.stats.drops.values())
    assert origin.stats.relayed_datagrams == len(sent)
    other.take(hub, [datagram for _, datagram in sent])
    assert other.tun.writes == []


def test_without_a_session_with_the_hub_nothing_is_sent(net):
    _, one, other = net.relayed()
    one.hub.epoch = None
    one.tun.inject(HELLO)
    assert one.pump() == []
    assert to_peer(one, other).stats.drops == {Drop.QUEUE_FULL: 1}


def test_the_transport_itself(net):
    _, one, other = net.relayed()
    relay = one.transports[1]
    assert isinstance(relay, RelayTransport)
    buffer = memoryview(bytearray(HEADROOM + 2000))
    nowhere = relay.connect(("192.0.2.1", 9000), net.NOW)
    assert not relay.send(nowhere, buffer, HEADROOM, HEADROOM + relay.prefix + 100, relay.prefix + 100, net.NOW)
    with pytest.raises(BlockingIOError):
        relay.receive(one.port, buffer, 0, net.NOW)
    assert relay.describe(node_name(other.key)) == f"relay to {node_name(other.key).hex()}"
    relay.close(node_name(other.key), net.NOW)
    assert relay.next_timeout() is None


def test_records_and_reports_go_by_the_relay(net):
    hub, one, other = net.relayed()
    net.use_records(one)
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    sent = [datagram for _, datagram in one.pump()]
    assert {datagram[0] for datagram in sent} == {MessageType.RECORD}
    passed = through(hub, one, other, sent)
    assert {datagram[0] for datagram in passed} == {MessageType.DATA}, "of that path nothing is known"
    assert {frame[0] for frame in frames_for(hub, other, passed)} == {MessageType.RECORD}
    net.use_records(hub)
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    passed = through(hub, one, other, [datagram for _, datagram in one.pump()])
    assert {datagram[0] for datagram in passed} == {MessageType.RECORD}
    assert sum(len(packet) - 40 for packet in other.tun.packets) == 110_000
    origin = hub.fib.names[node_name(one.key)]
    assert origin.stats.relayed_datagrams > 70
    assert origin.stats.drops == {}


def in_a_record(one, frame: bytes) -> list[bytes]:
    """Seal a frame for the hub as one record of two parts."""
    epoch, out = one.hub.epoch, Arena(HEADROOM + 70_000)
    size = part_size(len(frame) + 16, (len(frame) + 17) // 2)
    grid = PartGrid(out, size, 0)
    end = RecordSealer(out).seal(epoch, memoryview(bytearray(frame)), grid, size)
    return [bytes(out.view[at : min(at + grid.slot, end)]) for at in range(HEADROOM, end, grid.slot)]


def record(destination: bytes, *datagrams: bytes, size: int | None = None, ttl: int = TTL) -> bytes:
    """The RELAY frame of a record with datagrams of the size of the first."""
    trailer = RelayTrailer(destination, bytes(8), ttl).pack()
    return b"".join(datagrams) + (len(datagrams[0]) if size is None else size).to_bytes(2, "big") + trailer


def test_names_in_records_are_the_hubs_to_write(net):
    hub, one, other = net.relayed()
    frame = record(node_name(other.key), bytes(100), bytes(100), bytes(30))
    (first, second, third) = (datagram for _, datagram in hub.take(one, in_a_record(one, frame)))
    for datagram, size in ((first, 100), (second, 100), (third, 30)):
        (frame,) = frames_for(hub, other, [datagram])
        assert len(frame) == size + RELAY_TRAILER
        assert RelayTrailer.parse(frame) == (node_name(other.key), node_name(one.key), TTL - 1)


@pytest.mark.parametrize(
    ("frame", "reason", "count"),
    [
        (record(b"nobody--", bytes(50), bytes(50)), Drop.NO_ROUTE, 2),
        (record(b"nobody--", bytes(50), bytes(20)), Drop.NO_ROUTE, 2),
        (record(b"nobody--", bytes(50), size=0), Drop.MALFORMED, 1),
        (record(b"nobody--", bytes(65 * 20), size=20), Drop.MALFORMED, 1),
        (record(b"nobody--", bytes(50), size=51)[50:], Drop.MALFORMED, 1),
        (bytes(30) + b"\x05", Drop.MALFORMED, 1),
    ],
)
def test_records_that_go_nowhere(net, frame, reason, count):
    hub, one, _ = net.relayed()
    assert hub.take(one, in_a_record(one, frame)) == []
    assert hub.fib.names[node_name(one.key)].stats.drops == {reason: count}


@SETTINGS
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=80), claimed=st.integers(0, 70),
    ttl=st.sampled_from((0, 1, 2, 8)), clean=st.booleans(),
)  # fmt: skip
def test_any_record_is_counted_or_passed_on(net, sizes, claimed, ttl, clean):
    hub, one, other = net.relayed()
    if clean:
        net.use_records(hub)
    body = bytes(sum(sizes))
    frame = record(node_name(other.key), body, size=claimed, ttl=ttl)
    passed = hub.take(one, in_a_record(one, frame))
    origin = hub.fib.names[node_name(one.key)]
    assert bool(passed) != bool(origin.stats.drops)
    if passed:
        assert origin.stats.relayed_datagrams == -(-len(body) // claimed)
        assert origin.stats.relayed_bytes == len(body)
    other.take(hub, [datagram for _, datagram in passed])
    assert other.tun.writes == []
    if passed:
        assert sum(other.stats.drops.values()) + len(other.control.datagrams) == -(-len(body) // claimed)
