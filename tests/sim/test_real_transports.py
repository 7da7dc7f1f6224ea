"""The first-party transports together: the same session over UDP, fake TCP and TLS in turn."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest

import ltunnel_crypto_aesgcm
import ltunnel_transport_faketcp
import ltunnel_transport_tls
import ltunnel_transport_udp
from ltunnel.testing import Fate, Link, Packet, Quality, Router, SimNode, Transfer, World
from ltunnel_transport_tls.certificate import make_pair

UDP, FAKETCP, TLS = "transport_udp", "transport_faketcp", "transport_tls"
HTTPS = 443
DESCRIPTORS = {
    UDP: ltunnel_transport_udp.ltunnel_transport(),
    FAKETCP: ltunnel_transport_faketcp.ltunnel_transport(),
    TLS: ltunnel_transport_tls.ltunnel_transport(),
}
WIRE = {UDP: (17, 9000), FAKETCP: (6, 9000), TLS: (6, HTTPS)}
Build = Callable[..., tuple[World, SimNode, SimNode, "Filter"]]


class Filter(Router):
    """A router that drops what belongs to some of the transports."""

    shut: frozenset[str] = frozenset()

    def receive(self, packet: Packet, link: Link) -> None:
        """Forward, or not."""
        ports = packet.source[1], packet.destination[1]
        if any(WIRE[name][0] == packet.protocol and WIRE[name][1] in ports for name in self.shut):
            self.drop(packet, Fate.FILTERED)
        else:
            super().receive(packet, link)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that makes a hub and a node behind a filter, connected, with transports in an order."""
    pair = make_pair(["203.0.113.1"], now=datetime.now(UTC), days=30)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    key.chmod(0o600)
    options = {TLS: {"port": HTTPS, "cert": str(certificate), "key": str(key), "pin": pair.pin}}

    def build(*order: str, shut: tuple[str, ...] = ()) -> tuple[World, SimNode, SimNode, Filter]:
        transports = {name: DESCRIPTORS[name] for name in order}
        world = World(transports, ltunnel_crypto_aesgcm.ltunnel_cipher(), options=options)
        hub = world.add_hub()
        wall = Filter(world.network, "wall")
        wall.attach(world.internet, Quality(delay=0.02))
        wall.shut = frozenset(shut)
        node = world.add_node("node", behind=wall)
        world.start()
        assert world.run(5, until=world.all_up)
        return world, hub, node, wall

    return build


def used(*machines: SimNode) -> set[str]:
    """Return what machines use with their (first) peer."""
    return {machine.status()["peers"][0]["transport"] for machine in machines}


@pytest.mark.parametrize("order", list(permutations(WIRE)), ids="-".join)
def test_the_first_one_is_taken(build: Build, order: tuple[str, ...]):
    """Also where it takes three round trips to open."""
    world, hub, node, _ = build(*order)
    assert used(hub, node) == {order[0]}
    world.run(60)
    assert not node.happened("transport-changed")


def test_a_transfer_over_one_after_the_other(build: Build):
    """What is in use is blocked, again and again; the session stays, and whatever arrives is right."""
    world, hub, node, wall = build(UDP, FAKETCP, TLS)
    assert node.node is not None
    assert node.node.control.hub is not None
    epoch = node.node.control.hub.epoch
    streams = [Transfer(node, hub), Transfer(hub, node, port=5002, seed=2)]

    def run(seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            for stream in streams:
                stream.send(20_000)
            world.run(0.1)

    run(2)
    for shut, expected in (((UDP,), FAKETCP), ((UDP, FAKETCP), TLS), ((), UDP)):
        wall.shut = frozenset(shut)
        run(10 if shut else 75)
        assert used(hub, node) == {expected}
    assert node.node.control.hub.epoch is epoch
    for stream in streams:
        assert stream.check() >= (97 - 2 * 4.5) / 97
        assert stream.repeats == 0
    assert len(hub.happened("node-joined")) == 1
    assert [event.fields["to"] for _, event in node.happened("transport-changed")] == [FAKETCP, TLS, UDP]


def test_each_is_named_where_it_goes(build: Build):
    """TLS has a port of its own."""
    _, _, node, _ = build(TLS, UDP)
    ways = node.status()["peers"][0]["candidates"]
    assert [(way["transport"], way["address"]) for way in ways] == [
        (TLS, f"203.0.113.1:{HTTPS}"),
        (UDP, "203.0.113.1:9000"),
    ]


@pytest.mark.parametrize("only", WIRE)
def test_a_hub_that_is_killed_and_restarted(build: Build, only: str):
    """Whatever its far end has forgotten, a node finds the hub again, by the one transport that passes."""
    world, hub, node, _ = build(UDP, FAKETCP, TLS, shut=tuple(WIRE.keys() - {only}))
    assert used(hub, node) == {only}
    world.run(10)
    hub.kill()
    world.run(3)
    hub.start()
    assert world.run(15, until=lambda: len(hub.happened("node-joined")) == 2)
    world.run(0.5)
    assert world.ping(node, hub) is not None
    assert used(hub, node) == {only}
