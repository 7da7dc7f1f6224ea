"""Two nodes that can only meet at the hub: what they send each other arrives, and the hub reads nothing of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

import ltunnel_fec_rs
from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.waiting import PATIENCE
from ltunnel.testing import Pings, PortSettings, Quality, SimNode, Transfer, World, packets
from ltunnel.testing.packets import TCP, UDP
from ltunnel.wire.relay import RelayTrailer, node_name
from ltunnel.wire.types import FrameType

MakeWorld = Callable[..., World]
RELAYED = DATA_OVERHEAD + RELAY_TRAILER
MARKER = b"=plaintext-marker="


def build(
    make_world: MakeWorld, *, up: bool = True, delay: float = 0.01, ports: PortSettings | None = None, **hub: object
) -> tuple[World, SimNode, SimNode, SimNode]:
    """A hub and two nodes behind NATs that keep everybody else out, connected, and introduced to each other."""
    world = make_world(trace=True)
    at_hub = world.add_hub(ports=ports, **hub)
    nodes = [
        world.add_node(name, behind=world.add_nat(f"{name}-nat"), quality=Quality(delay=delay), ports=ports)
        for name in ("a", "b")
    ]
    world.start()
    if up:
        assert world.run(10, until=world.all_up)
        world.run(0.5)
    return world, at_hub, *nodes


def spoil(*nodes: SimNode, **quality: float) -> None:
    for node in nodes:
        node.link.change(**quality)


def peer_of(node: SimNode, other: SimNode) -> dict[str, object]:
    """What a node says of another."""
    (peer,) = [peer for peer in node.status()["peers"] if peer["name"] == other.name]
    return peer


# ---------------------------------------------------------------- what arrives


def test_the_first_ping_is_answered(make_world: MakeWorld):
    """It waits while the session is made: two round trips more."""
    world, hub, a, b = build(make_world)
    rtt = world.ping(a, b)
    assert rtt == pytest.approx(0.12, abs=0.005)
    assert world.ping(a, b) == pytest.approx(0.04, abs=0.001)
    assert world.ping(b, a, version=6) == pytest.approx(0.04, abs=0.001)
    assert a.drops() == b.drops() == hub.drops() == {}
    assert (peer_of(a, b)["transport"], peer_of(a, b)["path"]) == ("relay", "hub")
    assert peer_of(hub, a)["relayed_datagrams"] > 0
    assert peer_of(hub, a)["rx_packets"] == 0


def test_what_comes_first_comes_in_order(make_world: MakeWorld):
    """Packets of all kinds that were sent before there was a session."""
    world, _, a, b = build(make_world)
    for number in range(20):
        a.tun.inject(packets.udp(a.inner(), b.inner(), 1, 2, bytes((number,)) * (50 * number)))
    transfer = Transfer(a, b)
    transfer.send(20_000, mss=1200)
    world.run(1)
    sent = [packet.payload[:1] for packet in b.tun.parsed() if packet.protocol == UDP]
    assert sent == [b""] + [bytes((number,)) for number in range(1, 20)]
    assert transfer.check() == 1.0
    assert a.drops() == {}


def test_a_node_that_does_not_answer_is_waited_for_so_long(make_world: MakeWorld):
    world, _, a, b = build(make_world)
    b.kill()
    for _ in range(100):
        a.tun.inject(packets.udp(a.inner(), b.inner(), 1, 2, bytes(100)))
    world.run(PATIENCE - 0.1)
    assert a.drops() == {"no session": 36}, "64 wait"
    world.run(0.2)
    assert a.drops() == {"no session": 100}
    assert world.ping(a, world.nodes[0]) is not None


@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_bulk_over_a_clean_path(make_world: MakeWorld, gro: bool, protocol: int):
    """As super-packets and, once the far node has reported that nothing is lost, as records."""
    world, hub, a, b = build(make_world, ports=PortSettings(gro=gro))
    assert world.meet(a, b)
    transfer = Transfer(a, b, protocol=protocol)
    for _ in range(120):
        transfer.send(60_000 if protocol == TCP else 30_000, mss=1300)
        world.run(0.02)
    assert peer_of(a, b)["records"]
    world.run(1)
    assert transfer.check() == 1.0
    assert transfer.repeats == 0
    assert hub.drops() == a.drops() == b.drops() == {}


@pytest.mark.parametrize("loss", [0.01, 0.1])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_bulk_over_a_bad_path(make_world: MakeWorld, loss: float, protocol: int):
    """Losses cost what is lost on both legs, and no more; nothing comes twice or changed."""
    world, _, a, b = build(make_world)
    assert world.meet(a, b)
    spoil(a, b, loss=loss, jitter=0.003, reorder=0.05, duplicate=0.05)
    transfer = Transfer(a, b, protocol=protocol)
    for _ in range(80):
        transfer.send(40_000, mss=1300)
        world.run(0.05)
    world.run(1)
    assert transfer.check() == pytest.approx((1 - loss) ** 2, abs=0.02)
    assert transfer.repeats == 0


def test_repair_is_end_to_end(make_world: MakeWorld):
    """What is lost on either leg is made good by the far node; the hub repairs nothing."""
    world, hub, a, b = build(make_world, up=False)
    made = ltunnel_fec_rs.ltunnel_fec()
    code = Codes("fec_rs", partial(made.create, made.options()), residual=made.residual)
    for node in (hub, a, b):
        node.kill()
        node.fec = code, FecSettings(mode=FecMode.FIXED, data=10, parity=6)
        node.start()
    assert world.run(10, until=world.all_up)
    assert world.meet(a, b)
    spoil(a, b, loss=0.05)
    transfer = Transfer(a, b, protocol=UDP)
    for _ in range(100):
        transfer.send(40_000, mss=1200)
        world.run(0.02)
    world.run(1)
    assert transfer.check() > 0.99  # 0.90 without
    fec = peer_of(b, a)["fec"]
    assert fec["recovered"] > 200
    assert all(peer["fec"]["recovered"] == 0 for peer in hub.status()["peers"])


def test_rekeying_goes_by_the_relay(make_world: MakeWorld):
    world, _, a, b = build(make_world)
    assert world.meet(a, b)
    pings = Pings(world, a, b, interval=0.1, count=2000)
    world.run(205)
    assert pings.lost == 0
    assert peer_of(a, b)["last_handshake"] < 130
    assert len(a.happened("neighbour-joined")) == 1


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("version", [4, 6])
def test_what_fits_goes_in_one_datagram_and_what_does_not_is_refused(make_world: MakeWorld, version: int):
    world, _, a, b = build(make_world)
    assert world.meet(a, b)
    assert peer_of(a, b)["mtu"] == 1400 - RELAYED
    header = 28 if version == 4 else 48
    largest = 1400 - RELAYED - header
    assert world.network.trace is not None
    world.network.trace.clear()
    a.tun.inject(packets.udp(a.inner(version), b.inner(version), 1, 2, bytes(largest)))
    world.run(1)
    assert [packet.payload for packet in b.tun.parsed()] == [bytes(largest)]
    assert max(entry.packet.size for entry in world.network.trace) == 1400 + 11 + DATA_OVERHEAD + 28
    a.tun.clear()
    a.tun.inject(packets.udp(a.inner(version), b.inner(version), 1, 2, bytes(largest + 1)))
    world.run(1)
    (error,) = a.tun.parsed()
    assert error.echo_sequence == 1400 - RELAYED, "next-hop MTU (RFC 1191, RFC 4443)"
    assert len(b.tun.packets) == 1


@pytest.mark.parametrize("leg", ["to the hub", "from the hub"])
def test_a_black_hole_on_either_leg_is_left(make_world: MakeWorld, leg: str):
    """Whoever sends too much hears nothing of it: the node finds out by probes of its own."""
    world, _, a, b = build(make_world)
    assert world.meet(a, b)
    link = a.link.up if leg == "to the hub" else b.link.down
    link.quality = Quality(delay=0.01, mtu=1300)

    def passes() -> bool:
        before = sum(map(len, b.tun.packets))
        Transfer(a, b).send(20_000, mss=1300)
        world.run(0.2)
        return sum(map(len, b.tun.packets)) - before >= 20_000

    assert not passes()
    start = world.now
    while not passes():
        assert world.now - start < 10
    size = peer_of(a, b)["mtu"]
    assert isinstance(size, int)
    assert 1000 < size <= 1300 - 20 - 8 - DATA_OVERHEAD - 11 - RELAYED


# ---------------------------------------------------------------- what the hub sees


def test_the_hub_reads_nothing(make_world: MakeWorld):
    """The marker is nowhere in what crosses the network, nor in any buffer of the hub's program."""
    world, hub, a, b = build(make_world)
    transfer = Transfer(a, b)
    for size in (10, 500, 1300):
        a.tun.inject(packets.udp(a.inner(), b.inner(), 1, 2, (MARKER * 100)[:size]))
    a.tun.inject(packets.tcp(a.inner(), b.inner(), 1, 2, MARKER * 3000), gso_size=1300)
    transfer.send(1000)
    world.run(1)
    assert b"".join(b.tun.packets).count(MARKER) > 2900
    assert world.network.trace is not None
    seen = [entry.packet.payload for entry in world.network.trace]
    assert len(seen) > 60
    assert not any(MARKER in payload for payload in seen)
    assert any(MARKER in buffer for buffer in buffers_of(b)), "what has been received can be found"
    assert sum(map(len, buffers_of(hub))) > 500_000
    assert not any(MARKER in buffer for buffer in buffers_of(hub))


def buffers_of(node: SimNode) -> list[bytes]:
    """All buffers of the data path of a node's program."""
    assert node.node is not None
    reached: list[object] = [node.node]
    found, buffers = {id(node.node)}, []
    while reached:
        for one in gc.get_referents(reached.pop()):
            if isinstance(one, bytes | bytearray):
                buffers.append(bytes(one))
            elif id(one) not in found and (
                type(one).__module__.startswith("ltunnel.data") or isinstance(one, list | tuple | dict | memoryview)
            ):
                found.add(id(one))
                reached.append(one)
    return buffers


def seal(node: SimNode, frame: bytes) -> None:
    """Send a frame, its type included, to the hub, with the node's own keys."""
    assert node.node is not None
    hub = node.node.control.hub
    assert hub is not None
    assert hub.epoch is not None
    assert hub.path is not None
    datagram = hub.epoch.seal_frame(frame[-1], frame[:-1])
    node.node.control.outbox.append((hub.path.transport, hub.path.flow, datagram))
    node.node.handle_timeout(node.world.now)


def name(node: SimNode) -> bytes:
    return node_name(node.settings.identity.public)


def test_an_isolating_hub_relays_nothing(make_world: MakeWorld):
    world, hub, a, b = build(make_world, client_isolation=True)
    received = b.link.down.sent
    seal(a, bytes(100) + RelayTrailer(name(b), name(a), 8).pack())
    world.run(0.1)
    assert hub.drops() == {"isolated": 1}
    assert b.link.down.sent == received


def test_destinations_that_there_are_not(make_world: MakeWorld):
    world, hub, a, b = build(make_world)
    for destination in (b"nobody--", name(a), name(hub)):
        seal(a, bytes(100) + RelayTrailer(destination, name(a), 8).pack())
    world.run(0.1)
    assert peer_of(hub, a)["drops"] == {"no route": 3}
    b.stop()
    world.run(0.1)
    seal(a, bytes(100) + RelayTrailer(name(b), name(a), 8).pack())
    world.run(0.1)
    assert peer_of(hub, a)["drops"] == {"no route": 4}


def test_frames_of_all_kinds_and_sizes(make_world: MakeWorld):
    """A key holder relays what he likes: everything is counted somewhere, and the tunnel goes on."""
    world, hub, a, b = build(make_world)
    assert world.meet(a, b)
    random = Random("relayed nonsense")
    genuine = bytes(random.randbytes(60))
    before = sum(b.drops().values()), sum(hub.drops().values())
    for i in range(3000):
        datagram = random.choice((
            random.randbytes(random.randrange(1400)),
            bytes((random.randrange(8),)) + random.randbytes(random.choice((0, 1, 11, 27, 28, 55, 140, 1000))),
            bytes((random.randrange(1, 6), *genuine)),
        ))  # fmt: skip
        destination, ttl = random.choice((name(b), name(b), b"nobody--")), random.choice((0, 1, 2, 8, 8, 8, 255))
        whole = datagram + RelayTrailer(destination, bytes(8), ttl).pack()
        if random.random() < 0.1:
            whole = whole[-random.randrange(1, RELAY_TRAILER + 1) :]
        seal(a, whole)
        if i % 20 == 0:
            world.run(0.01)
    world.run(1)
    assert sum(hub.drops().values()) - before[1] > 700
    assert sum(b.drops().values()) - before[0] > 1000
    assert world.ping(a, b) is not None
    assert world.ping(b, world.nodes[0]) is not None
    assert len(b.happened("neighbour-joined")) == 1


def test_padding_between_relayed_frames(make_world: MakeWorld):
    """Frames of several kinds in datagrams of one size, as they come in one batch."""
    world, hub, a, b = build(make_world)
    assert world.meet(a, b)
    relayed = peer_of(hub, a)["relayed_datagrams"]
    frames = [bytes(80) + RelayTrailer(name(b), bytes(8), 8).pack(), bytes(97) + bytes((FrameType.PADDING,))] * 6
    for frame in frames:
        seal(a, frame)
    world.run(0.1)
    assert peer_of(hub, a)["relayed_datagrams"] - relayed == 6
    assert hub.drops() == {}
