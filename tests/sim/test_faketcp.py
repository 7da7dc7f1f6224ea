"""Whole nodes over fake TCP: behind firewalls that let nothing else pass, behind NATs, over bad lines."""

from collections.abc import Callable
from dataclasses import replace

import pytest

import ltunnel_crypto_aesgcm
import ltunnel_transport_faketcp
from ltunnel.testing import Link, Packet, PortSettings, Quality, SimNode, StrictFirewall, Transfer, World
from ltunnel.testing.conntrack import TrackState

Build = Callable[..., tuple[World, StrictFirewall, SimNode, SimNode]]


@pytest.fixture
def build() -> Build:
    """Return a function that makes a hub, node `a` behind a strict firewall, node `b` behind a NAT; all are up."""

    def build(gro: bool = True, **options: str) -> tuple[World, StrictFirewall, SimNode, SimNode]:
        world = World(
            {"transport_faketcp": ltunnel_transport_faketcp.ltunnel_transport()},
            ltunnel_crypto_aesgcm.ltunnel_cipher(),
            seed=1,
            options={"transport_faketcp": options},
        )
        ports = PortSettings(gro=gro)
        world.add_hub(ports=ports)
        firewall = StrictFirewall(world.network, "firewall", blocked=frozenset())
        firewall.attach(world.internet, Quality(delay=0.005))
        a = world.add_node("a", behind=firewall, quality=Quality(delay=0.005), ports=ports)
        b = world.add_node("b", behind=world.add_nat("home"), quality=Quality(delay=0.01), ports=ports)
        world.start()
        assert world.run(5, until=world.all_up)
        assert world.meet(a, b)
        return world, firewall, a, b

    return build


def transfer(world: World, source: SimNode, destination: SimNode, packets: int = 40) -> float:
    """Send super-packets; return the share that arrived, every byte of it checked."""
    stream = Transfer(source, destination)
    for _ in range(packets):
        stream.send(48_000)
        world.run(0.005)
    world.run(1.0)
    return stream.check()


@pytest.mark.parametrize("gro", [True, False])
def test_records_are_one_datagram_and_arrive_though_their_segments_are_shuffled(
    build: Build, gro: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    send = ltunnel_transport_faketcp.FakeTcpTransport.send_whole

    def send_whole(transport: object, flow: object, buf: object, start: int, end: int, *rest: object) -> bool:
        sizes.append(end - start)
        return send(transport, flow, buf, start, end, *rest)

    monkeypatch.setattr(ltunnel_transport_faketcp.FakeTcpTransport, "send_whole", send_whole)
    world, firewall, a, b = build(gro)
    assert transfer(world, a, b) == 1, "rows at first, until the far ends report that nothing is lost"
    a.link.up.quality = a.link.down.quality = Quality(delay=0.005, jitter=0.0002)
    sizes.clear()
    assert transfer(world, a, b, 20) == 1
    assert len(sizes) >= 2 * 20, "from the node to the hub, and on"
    assert min(sizes) > 48_000
    assert not firewall.invalid


@pytest.mark.parametrize("gro", [True, False])
def test_every_byte_arrives(build: Build, gro: bool) -> None:
    world, firewall, a, b = build(gro)
    firewall.blocked = frozenset({17})
    assert transfer(world, a, b) == 1
    assert transfer(world, b, a) == 1
    assert transfer(world, world.nodes[0], a) == 1
    assert world.ping(a, b) == pytest.approx(0.04)
    assert not firewall.invalid
    assert firewall.in_state(TrackState.ESTABLISHED) == 1


def test_udp_that_looks_like_tcp(build: Build) -> None:
    world, _, a, b = build(framing="udp")
    assert transfer(world, a, b) == 1
    assert transfer(world, b, a) == 1


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_bad_lines(build: Build, loss: float) -> None:
    """What arrives is right, and as much as the line lets through: nothing is lost on top."""
    world, firewall, a, b = build()
    for link in (a.link, b.link):
        link.change(loss=loss, jitter=0.002, reorder=0.01, duplicate=0.01)
    arrived = transfer(world, a, b, 100)
    assert (1 - loss) ** 2 - 0.02 < arrived < 1
    assert not firewall.invalid


def test_pings_go_on_after_the_firewall_has_lost_its_state(build: Build) -> None:
    world, firewall, a, b = build()
    firewall.flush()
    start = world.now
    while world.ping(a, b, timeout=0.25) is None:
        assert world.now - start < 15
    assert world.now - start > 4
    assert len(a.happened("up")) <= 1, "the same session"


def test_a_clamped_mss_is_kept(build: Build) -> None:
    """Where a router on the way lowers the MSS, no segment is larger, though the core's datagrams are."""
    world, firewall, a, b = build()
    largest = 0
    clamp = firewall.receive

    def receive(packet: Packet, link: Link) -> None:
        nonlocal largest
        if packet.payload[9] & 2:
            packet = replace(packet, payload=packet.payload[:18] + (1300).to_bytes(2, "big") + packet.payload[20:])
        largest = max(largest, packet.size)
        clamp(packet, link)

    firewall.receive = receive  # type: ignore[method-assign]
    firewall.flush()
    assert world.run(20, until=lambda: firewall.in_state(TrackState.ESTABLISHED) == 1)
    largest = 0
    world.run(1.0)
    assert transfer(world, a, b) == 1
    assert transfer(world, b, a) == 1
    assert largest == 1340


def test_a_node_in_another_network_is_back_at_once(build: Build) -> None:
    """Its transport calls again from the new address before anything is lost, and the session goes on."""
    world, firewall, a, b = build()
    world.run(1.0)
    a.host.move(firewall, "198.51.100.201", quality=Quality(delay=0.005))
    start = world.now
    while world.ping(a, b, timeout=0.1) is None:
        assert world.now - start < 1.0
    assert not firewall.invalid
    assert len(a.happened("up")) <= 1, "the same session"


def test_at_the_end_firewalls_forget(build: Build) -> None:
    world, firewall, a, b = build()
    assert firewall.in_state(TrackState.ESTABLISHED) == 1
    a.stop()
    world.run(0.5)
    assert firewall.in_state(TrackState.ESTABLISHED) == 0
    assert not firewall.invalid
    assert world.ping(b, world.nodes[0]) is not None
