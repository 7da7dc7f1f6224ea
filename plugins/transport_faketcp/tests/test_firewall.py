"""Through a firewall that tracks connections strictly: nothing invalid, whatever is lost, and windows that reopen."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from ltunnel.testing.packets import ACK, PSH, SYN
from ltunnel_transport_faketcp.states import State

DATA = bytes(2000)


def set_scale(monkeypatch, scale: int) -> int:
    """Have both ends offer smaller windows, so that they matter; return the window's size."""
    for module in ("opening", "flow"):
        monkeypatch.setattr(f"ltunnel_transport_faketcp.{module}.SCALE", scale)
    return 65_535 << scale


def watch_windows(wall) -> list[str]:
    """Check, for what passes the tap, that the far end has allowed it and that nothing unseen is acknowledged."""
    faults: list[str] = []
    scale, allowed, seen = {}, {}, {}

    def look(packet, way):
        fields = wall.tap.seen[-1][2]
        other = "down" if way == "up" else "up"
        end = fields.seq + fields.length
        if fields.flags & SYN:
            scale[way] = (fields.option(3) or b"\0")[0]
            allowed.pop(way, None)
            seen[way] = end
        if way in allowed and (allowed[way] - end) % 2**32 > 2**31:
            faults.append(f"{wall.now}: {way}: sent beyond the window")
        if (end - seen.get(way, end)) % 2**32 < 2**31:
            seen[way] = end
        if fields.flags & ACK:
            shift = 0 if fields.flags & SYN else scale[way]
            if other in seen and (seen[other] - fields.ack) % 2**32 > 2**31:
                faults.append(f"{wall.now}: {way}: acknowledged what was never seen")
            limit = (fields.ack + (fields.window << shift)) % 2**32
            if other not in allowed or (limit - allowed[other]) % 2**32 < 2**31:
                allowed[other] = limit
        return [packet]

    wall.tap.look = look
    return faults


@pytest.mark.parametrize(("loss", "scale"), [(0.01, 10), (0.05, 10), (0.05, 1)])
def test_ten_thousand_batches_and_nothing_invalid(make_wall, monkeypatch, loss, scale):
    """Loss on both sides of the firewall, both ways, with delay that varies, and now and then nothing at all passes."""
    set_scale(monkeypatch, scale)
    wall = make_wall(seed=f"{loss}/{scale}")
    faults = watch_windows(wall)
    flow, back = wall.open_flow()
    for link in (wall.near, wall.far):
        link.change(loss=loss, jitter=0.003)
    random = Random(7)
    accepted = 0
    for i in range(10_000):
        batch = [DATA[: random.choice((60, 600, 1400))]] * random.choice((1, 1, 2, 3, 10))
        end, way = (wall.node, flow) if random.random() < 0.6 else (wall.hub, back)
        accepted += end.send(way, batch, wall.now)
        if i % 4 == 0:
            wall.run(random.choice((0.0, 0.0005, 0.01)))
        if i % 2500 == 1200:
            wall.far.block(("up", "down", "both")[i // 2500 % 3])
            wall.run(0.7)
            wall.far.unblock("both")
    wall.run(2.0)
    assert not wall.wall.invalid
    assert not faults
    assert wall.established == 1
    assert (flow.state, back.state) == (State.OPEN, State.OPEN)
    assert accepted > 9_900 if scale == 10 else accepted > 5_000
    arrived = len(wall.hub.inbox) + len(wall.node.inbox)
    assert arrived > 20_000 * (0.9 if scale == 10 else 0.4)
    for end in (wall.node, wall.hub):
        counts = end.transport.counts
        assert (counts.malformed, counts.strays, counts.implausible, counts.hints) == (0, 0, 0, 0)


@pytest.mark.parametrize("way", ["up", "down", "both"])
@pytest.mark.parametrize("pause", [0.35, 0.6, 0.85])
def test_a_window_that_is_full_opens_again(make_wall, monkeypatch, way, pause):
    """All data lost, or all acknowledgements, until the window is full: once packets pass again, data does too."""
    window = set_scale(monkeypatch, 2)
    wall = make_wall()
    faults = watch_windows(wall)
    flow, _ = wall.open_flow()
    wall.far.block(way)
    sent = 0
    while wall.node.send(flow, [DATA[:1000]] * 40, wall.now):
        sent += 40
        wall.run(0.002)
        assert sent * 1002 <= window
    assert sent * 1002 > window - 65_536
    until = wall.now + pause
    while wall.now < until:
        assert not wall.node.send(flow, [DATA[:1000]], wall.now) or way == "down"
        wall.run(0.01)
    wall.hub.inbox.clear()
    wall.far.unblock(way)
    start = wall.now
    while not wall.node.send(flow, [DATA[:1000]], wall.now) or not wall.hub.inbox:
        wall.run(0.01)
        assert wall.now - start < 0.2
    assert not wall.wall.invalid
    assert not faults
    assert flow.state is not State.OPENING, "the same connection"


def test_what_does_not_fit_the_window_is_dropped_and_the_rest_sent(make_wall, monkeypatch):
    set_scale(monkeypatch, 0)
    wall = make_wall()
    flow, _ = wall.open_flow()
    assert wall.node.send(flow, [DATA[:1000]] * 40, wall.now)
    assert not wall.node.send(flow, [DATA[:1000]] * 40, wall.now)
    wall.run(0.2)
    assert len(wall.hub.inbox) == 65
    assert wall.node.transport.counts.window_full == 1


def test_acknowledgements_come_in_time(make_wall):
    """Within a millisecond after 30 kB, within 40 for less, if nothing else says it; none for acknowledgements."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    wall.tap.seen.clear()
    for _ in range(100):
        wall.node.send(flow, [DATA[:1000]] * 2, wall.now)
        wall.run(0.0002)
    wall.run(1.0)
    acks = [(when, fields) for when, way, fields in wall.tap.seen if way == "down"]
    total = sum(len(fields.data) for *_, fields in wall.tap.seen)
    assert len(acks) <= total / 25_000
    gaps = [(b.ack - a.ack) % 2**32 for (_, a), (_, b) in pairwise(acks)]
    assert max(gaps) <= 30_000 + 2 * 10_020, "10 kB a millisecond"
    wall.tap.seen.clear()
    wall.node.send(flow, [b"little"], wall.now)
    wall.run(1.0)
    (sent, _, data), (answered, _, ack) = wall.tap.seen
    assert answered - sent < 0.1
    assert (data.flags, ack.flags, ack.ack) == (PSH | ACK, ACK, (data.seq + data.length) % 2**32)


@pytest.mark.parametrize(("rows", "pause"), [(1, 0.01), (40, 0.0005)])
def test_data_acknowledges_too(make_wall, rows, pause):
    """Where both ends send, no empty segments are needed."""
    wall = make_wall()
    flow, back = wall.open_flow()
    wall.tap.seen.clear()
    for _ in range(200):
        wall.node.send(flow, [DATA[:1000]] * rows, wall.now)
        wall.hub.send(back, [b"pong"], wall.now)
        wall.run(pause)
    assert sum(1 for *_, fields in wall.tap.seen if not fields.data) <= 8


def test_small_windows_are_acknowledged_at_once(make_wall, monkeypatch):
    """Where no more than 64 kB may be under way, a millisecond would be too long."""
    set_scale(monkeypatch, 0)
    wall = make_wall(delay=0.0001)
    flow, _ = wall.open_flow()
    wall.tap.seen.clear()
    wall.node.send(flow, [DATA[:1000]] * 40, wall.now)
    wall.run(0.0009)
    assert [fields.flags for fields in wall.tap.of("down")] == [ACK]


def test_idle_connections_are_kept(make_wall):
    """A keepalive after 20 s: one byte that was sent before, and its acknowledgement. It is nobody's data."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    wall.tap.seen.clear()
    for _ in range(10):
        flow.used = wall.now
        wall.run(10.0)
    probes = [fields for fields in wall.tap.of("up") if fields.data]
    assert 4 <= len(probes) <= 5
    assert {fields.data for fields in probes} == {b"\0"}
    assert {fields.seq for fields in probes} == {flow.sent - 1 & 0xFFFFFFFF}
    assert {fields.ack for fields in wall.tap.of("down")} == {flow.sent & 0xFFFFFFFF}
    assert not wall.hub.inbox
    assert not wall.wall.invalid


def test_a_forged_number_does_not_last(make_wall):
    """Somebody makes the hub acknowledge far too much: invalid for the firewall, and over within a few seconds."""
    wall = make_wall()
    flow, back = wall.open_flow()
    forged = wall.template(down=False)
    packet = type(forged)(forged.source, forged.destination, forge(flow.sent + 30_000_000, back.sent))
    wall.lab.internet.receive(packet, wall.far)
    wall.run(0.1)
    assert back.received > flow.sent
    for _ in range(30):
        wall.node.send(flow, [b"on"], wall.now)
        wall.hub.send(back, [b"and on"], wall.now)
        wall.run(0.1)
    wall.node.inbox.clear()
    wall.wall.invalid.clear()
    wall.hub.send(back, [b"again"], wall.now)
    wall.run(0.1)
    assert wall.node.datagrams == [b"again"]
    assert not wall.wall.invalid
    assert flow.state is State.OPEN


def forge(seq: int, ack: int) -> bytes:
    numbers = (seq & 0xFFFFFFFF).to_bytes(4, "big") + (ack & 0xFFFFFFFF).to_bytes(4, "big")
    return numbers + bytes((0x50, ACK)) + bytes(6) + b"forged"
