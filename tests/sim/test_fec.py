"""FEC over whole nodes: it follows the losses, survives a rekeying, and can be changed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

import ltunnel_fec_rs
import ltunnel_fec_xor
from ltunnel.constants import REKEY_AFTER_TIME
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.testing import Pings, PortSettings, SimNode, World, packets

MakeWorld = Callable[..., World]

RATE = 400
"""Datagrams a second."""


def codes(plugin: str = "rs") -> Codes:
    module = ltunnel_fec_rs if plugin == "rs" else ltunnel_fec_xor
    made = module.ltunnel_fec()
    return Codes(f"fec_{plugin}", partial(made.create, made.options()), residual=made.residual)


def build(make_world: MakeWorld, **settings: object) -> tuple[World, SimNode, SimNode]:
    world = make_world()
    hub, node = world.add_hub(), world.add_node("a", ports=PortSettings(gro=False))
    for each in (hub, node):
        each.fec = codes(), FecSettings(**settings)
    world.start()
    assert world.run(10, until=world.all_up)
    return world, hub, node


class Stream:
    """Datagrams from the node to the hub at a steady rate, each different."""

    def __init__(self, world: World, node: SimNode, hub: SimNode) -> None:
        self.world, self.node, self.hub, self.sent = world, node, hub, 0
        self.seen = len(hub.tun.packets)

    def run(self, seconds: float) -> None:
        start = self.world.now
        for i in range(int(seconds * RATE)):
            packet = packets.udp(self.node.inner(), self.hub.inner(), 5, 6, self.sent.to_bytes(4, "big") + bytes(1000))
            self.world.network.at(start + i / RATE, partial(self.node.tun.inject, packet))
            self.sent += 1
        self.world.run(seconds)

    def arrived(self) -> list[bytes]:
        return [packets.parse(packet).payload[:4] for packet in self.hub.tun.packets[self.seen :]]


def fec_of(node: SimNode) -> dict[str, object]:
    return node.status()["peers"][0]["fec"]


def test_auto_follows_the_losses(make_world: MakeWorld) -> None:
    world, hub, node = build(make_world)
    stream = Stream(world, node, hub)
    stream.run(10)
    assert fec_of(node)["data_sent"] == fec_of(node)["parity_sent"] == 0

    node.link.change("up", loss=0.05)
    stream.run(2)
    assert fec_of(node)["parity_sent"] > 0
    stream.run(8)
    assert "lost; " in fec_of(node)["why"]
    before, lost = stream.sent, len(set(stream.arrived()))
    stream.run(20)
    world.run(1)
    lost = (stream.sent - before) - (len(set(stream.arrived())) - lost)
    assert lost <= 0.003 * (stream.sent - before), f"{lost} of {stream.sent - before}"

    node.link.change("up", loss=0.0)
    stream.run(29)
    sent = fec_of(node)["parity_sent"]
    stream.run(5)
    assert fec_of(node)["parity_sent"] == sent
    assert fec_of(node)["why"] == "no loss to repair"
    assert len(stream.arrived()) == len(set(stream.arrived()))


def test_on_a_clean_path_records_have_parity_until_the_first_loss(make_world: MakeWorld) -> None:
    world, hub, node = build(make_world, mode=FecMode.FIXED)
    serial = 0

    def run(seconds: float) -> tuple[int, int]:
        """Send a super-packet every 10 ms: (bytes of payload sent, arrived)."""
        nonlocal serial
        start, before = world.now, len(hub.tun.packets)
        for i in range(int(seconds * 100)):
            body = serial.to_bytes(4, "big") * 14_600
            packet = packets.tcp(node.inner(), hub.inner(), 5, 6, body, seq=serial * len(body) & 0xFFFFFFFF)
            world.network.at(start + i / 100, partial(node.tun.inject, packet, gso_size=1340))
            serial += 1
        world.run(seconds)
        arrived = sum(len(packets.parse(packet).payload) for packet in hub.tun.packets[before:])
        return int(seconds * 100) * 58_400, arrived

    sent, arrived = run(2)
    assert sent == arrived
    assert node.status()["peers"][0]["records"] is True
    datagrams = fec_of(node)["data_sent"]
    sent, arrived = run(1)
    assert sent == arrived
    assert fec_of(node)["data_sent"] - datagrams == 100 * 42, "parts; rows would be 44"
    assert fec_of(node)["parity_sent"] >= 100 * 15
    assert fec_of(hub)["recovered"] == 0

    node.link.change("up", loss=0.03)
    sent, arrived = run(1)
    assert arrived >= 0.99 * sent, "half a second of records, in which one lost part in 800 stays lost"
    assert node.status()["peers"][0]["records"] is False
    assert fec_of(hub)["recovered"] > 80
    sent, arrived = run(3)
    assert arrived >= 0.998 * sent
    world.run(1)
    fec = fec_of(hub)
    assert fec["lost_before"] / fec["data_received"] == pytest.approx(0.03 * 4 / 7, rel=0.2)


@pytest.mark.parametrize("mode", [FecMode.FIXED, FecMode.SPREAD, FecMode.LATENCY])
def test_a_rekeying_loses_and_repeats_nothing(make_world: MakeWorld, mode: FecMode) -> None:
    world, hub, node = build(make_world, mode=mode)
    stream = Stream(world, node, hub)
    stream.run(1)
    before = set(node.node.control.sessions)
    world.run(REKEY_AFTER_TIME - 5)
    stream.run(10)
    world.run(1)
    assert set(node.node.control.sessions) - before, "no new keys"
    arrived = stream.arrived()
    assert len(arrived) == len(set(arrived)) == stream.sent


def test_pings_in_latency_mode_need_no_waiting(make_world: MakeWorld) -> None:
    world, hub, node = build(make_world, mode=FecMode.LATENCY)
    node.link.change(loss=0.1)
    pings = Pings(world, node, hub, interval=0.02, count=3000)
    world.run(61)
    assert pings.lost <= 0.006 * pings.count  # 0.2 % in theory
    assert pings.repeated == 0


def test_parameters_change_while_it_runs(make_world: MakeWorld) -> None:
    world, hub, node = build(make_world, mode=FecMode.OFF)
    stream = Stream(world, node, hub)
    for change, pair in (
        ({"data": 20, "parity": 10}, (20, 10)),
        ({"parity": 1}, (20, 1)),
        ({"mode": "spread"}, (20, 1)),
    ):
        node.node.fec.change(world.now, **change)
        node.link.change("up", loss=0.02)
        stream.run(3)
        assert (fec_of(node)["data"], fec_of(node)["parity"]) == pair
    assert fec_of(node)["why"] == "spread by ltunnel ctl fec"
    node.node.fec.settle(node.node.fec.sender.settings, world.now)
    assert fec_of(node)["why"] == "spread by configuration"
    node.node.fec.change(world.now, parity=0)
    sent = fec_of(node)["parity_sent"]
    stream.run(1)
    assert (fec_of(node)["parity_sent"], node.node.fec.status()["mode"]) == (sent, "off")
    world.run(1)
    assert len(stream.arrived()) == len(set(stream.arrived()))
    assert fec_of(hub)["recovered"] > 0
    assert fec_of(hub)["refused"] == 0
    for wrong in ({"mode": "best"}, {"data": 0}, {"data": 250, "parity": 10}, {"parity": -1}):
        with pytest.raises(ValueError, match=r"^(mode|data and parity): "):
            node.node.fec.change(world.now, **wrong)


def test_the_largest_packet_fits_with_its_shard(make_world: MakeWorld) -> None:
    world, hub, node = build(make_world, mode=FecMode.FIXED)
    for link in (hub.link, node.link):
        link.change(mtu=1400 + 28 + 28 + 11 + 10)
    for size in (1400 - 28, 1399 - 28):
        assert world.ping(node, hub, size=size) is not None
    link.change(mtu=1400 + 28 + 28 + 11 + 9)
    assert world.ping(node, hub, size=1400 - 28) is None
    assert world.ping(node, hub, size=1399 - 28) is not None


def test_through_the_hub_repair_is_end_to_end(make_world: MakeWorld) -> None:
    world = make_world()
    hub, a, b = world.add_hub(), world.add_node("a"), world.add_node("b")
    for each in (hub, a, b):
        each.fec = codes("xor"), FecSettings(mode=FecMode.FIXED, data=4, parity=2)
    world.start()
    assert world.run(10, until=world.all_up)
    assert world.meet(a, b)
    for each in (a, b):
        each.link.change(loss=0.05)
    pings = Pings(world, a, b, interval=0.005, count=4000)
    world.run(22)
    assert pings.repeated == 0
    assert pings.lost <= 0.03 * 4000  # 18 % without


@pytest.mark.parametrize("mode", [FecMode.AUTO, FecMode.FIXED, FecMode.LATENCY])
def test_nothing_is_sent_over_a_transport_that_repairs_losses_itself(make_world: MakeWorld, mode: FecMode) -> None:
    world = make_world()
    world.transports = {name: replace(descriptor, reliable=True) for name, descriptor in world.transports.items()}
    hub, node = world.add_hub(), world.add_node("a", ports=PortSettings(gro=False))
    for each in (hub, node):
        each.fec = codes(), FecSettings(mode=mode)
    world.start()
    assert world.run(10, until=world.all_up)
    node.link.change("up", loss=0.1)
    stream = Stream(world, node, hub)
    stream.run(10)
    fec = fec_of(node)
    assert (fec["data_sent"], fec["parity_sent"], fec["parity"]) == (0, 0, 0)
    assert fec["why"] == "the transport repairs losses itself"
