"""The world itself: what it measures is there, and what is wrong with a program shows."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

import ltunnel_crypto_aesgcm
import ltunnel_transport_udp
from ltunnel.testing import Pings, Quality, SimNode, Transfer, World, packets
from ltunnel.testing.offload import VirtioHeader, offload
from ltunnel.testing.packets import ACK, PSH, UDP

MakeWorld = Callable[..., World]


def build(make_world: MakeWorld, **node: object) -> tuple[World, SimNode, SimNode]:
    world = make_world()
    hub = world.add_hub()
    machine = world.add_node("node", quality=Quality(delay=0.02), **node)
    world.start()
    assert world.run(5, until=world.all_up)
    return world, hub, machine


def test_ping_measures(make_world: MakeWorld):
    world, hub, node = build(make_world)
    assert world.ping(node, hub) == pytest.approx(0.04)
    hub.tun.answers = False
    before = world.now
    assert world.ping(node, hub, timeout=1.5) is None
    assert world.now - before == pytest.approx(1.5)


def test_run_stops_where_it_is_told_to(make_world: MakeWorld):
    world, _, _ = build(make_world)
    start = world.now
    assert not world.run(10)
    assert world.now == start + 10
    assert world.run(10, until=lambda: world.now > start + 12)
    assert start + 12 < world.now < start + 20


def test_pings_count_what_is_lost_and_repeated(make_world: MakeWorld):
    world, hub, node = build(make_world)
    stream = Pings(world, node, hub, interval=0.1, count=10)
    world.run(0.55)
    node.link.block()
    world.run(0.3)
    node.link.unblock()
    world.run(1)
    assert (stream.answered, stream.lost, stream.repeated) == (7, 3, 0)
    answer = next(packet for packet in node.tun.packets if packets.parse(packet).echo_ident == 1)
    node.tun.write([VirtioHeader().pack(), answer])
    assert stream.repeated == 1


def test_transfer_finds_what_is_wrong(make_world: MakeWorld):
    world, hub, node = build(make_world)
    for protocol in (packets.TCP, UDP):
        transfer = Transfer(node, hub, protocol=protocol)
        transfer.send(20_000)
        world.run(1)
        arrived = hub.tun.packets[-3]
        assert transfer.check() == 1.0
        assert transfer.repeats == 0
        hub.tun.packets.append(arrived)
        transfer.check()
        assert transfer.repeats > 0
        hub.tun.packets.append(arrived[:-1] + bytes([arrived[-1] ^ 1]))
        with pytest.raises(ValueError, match="checksum"):
            transfer.check()
        hub.tun.packets.pop()
        hub.tun.packets.append(forge(arrived))
        with pytest.raises(AssertionError, match=r"wrong bytes|not sent"):
            transfer.check()
        hub.tun.clear()
    transfer = Transfer(node, hub)
    transfer.send(5000)
    world.run(1)
    first = packets.parse(hub.tun.packets[0])
    hub.tun.packets[0] = packets.tcp(first.source, first.destination, first.sport, first.dport, first.payload,
                                     seq=first.seq, flags=ACK | PSH)  # fmt: skip
    with pytest.raises(AssertionError, match="flags"):
        transfer.check()


def forge(packet: bytes) -> bytes:
    """Another byte in the payload, and checksums that are right for it."""
    parsed = packets.parse(packet)
    payload = parsed.payload[:-1] + bytes([parsed.payload[-1] ^ 1])
    ends = (parsed.source, parsed.destination, parsed.sport, parsed.dport)
    if parsed.protocol == UDP:
        return packets.udp(*ends, payload)
    return packets.tcp(*ends, payload, seq=parsed.seq, flags=parsed.flags)


def test_packets_above_the_mtu_are_found(make_world: MakeWorld):
    world, hub, node = build(make_world)
    transfer = Transfer(node, hub)
    transfer.send(3000)
    world.run(1)
    hub.tun.mtu = 1000
    with pytest.raises(AssertionError, match="on a device of 1000"):
        transfer.check()


def test_machines_keep_what_the_program_stores(make_world: MakeWorld):
    world, hub, node = build(make_world)
    assert [binding.name for binding in hub.bindings] == ["node"]
    assert list(node.pins.values()) == [hub.settings.identity.public]
    node.kill()
    assert node.state == "stopped"
    node.tun.inject(packets.udp(node.inner(), hub.inner(), 1, 2, b"nobody reads this"))
    node.kill()
    assert node.tun.pending == 0
    node.start()
    assert world.run(5, until=world.all_up)
    assert len(node.happened("pins")) == 1, "the hub was known"
    with pytest.raises(AssertionError, match="runs already"):
        node.start()


def test_settings_reach_the_program(make_world: MakeWorld):
    world, hub, node = build(make_world, mtu=1300, keepalive=2.0, offload=False)
    assert hub.status()["peers"][0]["mtu"] == 1300
    assert node.settings.keepalive == 2.0
    before = node.link.up.sent
    world.run(20)
    assert node.link.up.sent - before >= 9, "keepalives"
    header, _ = offload(packets.udp(node.inner(), hub.inner(), 1, 2, b"x"))
    assert header.flags
    node.tun.inject(packets.udp(node.inner(), hub.inner(), 1, 2, b"x"))
    buffer = memoryview(bytearray(70_000))
    assert bytes(buffer[: node.tun.read(buffer, 0)])[:10] == bytes(10), "no offload: complete packets"


class StuckTransport(ltunnel_transport_udp.UdpTransport):
    """A timer that is always due."""

    def next_timeout(self) -> float | None:
        return 0.0


def test_a_timer_that_never_moves_on_is_reported():
    good = ltunnel_transport_udp.ltunnel_transport()
    stuck = replace(good, create=lambda options, ports, context: StuckTransport(ports[0]))
    world = World({"transport_udp": stuck}, ltunnel_crypto_aesgcm.ltunnel_cipher())
    world.add_hub()
    world.start()
    with pytest.raises(RuntimeError, match="never comes to rest"):
        world.run(1)


def test_nothing_but_the_core_is_needed():
    """Plugin authors need neither pytest nor hypothesis to import it, and no plugin comes along."""
    code = (
        "import sys, ltunnel.testing, ltunnel.testing.conformance;"
        "print([name for name in sys.modules if name.split('.')[0] in ('pytest', '_pytest', 'hypothesis')"
        " or name.startswith('ltunnel_')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
