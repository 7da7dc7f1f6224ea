"""Hubs and nodes, whole, that talk over TLS in a simulated internet."""

import pytest

from ltunnel.testing import Firewall, PortSettings, Quality, Transfer, World
from ltunnel.testing.datagrams import UDP
from ltunnel_crypto_aesgcm import ltunnel_cipher
from ltunnel_transport_tls import ltunnel_transport


@pytest.fixture
def world(files):
    return World(
        {"transport_tls": ltunnel_transport()},
        ltunnel_cipher(),
        seed=1,
        options={"transport_tls": files.hub | files.node},
    )


def test_nodes_meet_through_the_hub(world):
    world.add_hub()
    firewall = Firewall(world.network, "firewall", blocked=frozenset({UDP}), stateful=True)
    firewall.attach(world.internet)
    a = world.add_node("a", behind=firewall, addresses=("192.0.2.10",), quality=Quality(delay=0.02))
    b = world.add_node("b", behind=world.add_nat("home"), quality=Quality(delay=0.01, loss=0.02))
    world.start()
    assert world.run(5, until=world.all_up)
    world.meet(a, b)
    assert world.ping(a, b) is not None
    assert world.ping(b, a, version=6) is not None


def test_a_slow_line_loses_instead_of_queueing(world):
    """Eight times what the line carries is offered: most is lost at once, and a ping does not wait behind it."""
    hub = world.add_hub()
    a = world.add_node("a", quality=Quality(delay=0.01, rate=4_000_000, queue=40_000), ports=PortSettings(queue=25_000))
    world.start()
    assert world.run(5, until=world.all_up)
    transfer = Transfer(a, hub)
    for _ in range(100):
        transfer.send(40_000)
        world.run(0.01)
    rtt = world.ping(a, hub, timeout=5.0)
    world.run(3.0)
    ((port,),) = a.ports.values()
    assert port.longest_queue <= 25_000
    assert rtt is not None
    assert rtt < 1.0
    assert 0.05 < transfer.check() < 0.3
    assert a.drops()["queue full"] > 100


def test_a_hub_that_starts_again(world):
    hub = world.add_hub()
    a = world.add_node("a")
    world.start()
    assert world.run(5, until=world.all_up)
    hub.restart()
    world.run(20)
    assert world.ping(a, hub) is not None


def test_a_node_says_why_it_does_not_trust_its_hub(files):
    """In the log once a minute, however often it tries; in the status with numbers."""
    options = {"transport_tls": files.hub | {"pin": "ab" * 32}}
    world = World({"transport_tls": ltunnel_transport()}, ltunnel_cipher(), seed=1, options=options)
    hub, node = world.add_hub(), world.add_node("a")
    world.start()
    world.run(50)
    reason = "the server's certificate has none of the pinned fingerprints"
    notices = [event for _, event in node.events if event.name == "transport-notice"]
    assert [event.text for event in notices] == [f"transport_tls: TLS connection to 203.0.113.1:9000: {reason}"]
    (counted,) = node.status()["transports"]
    assert counted["drops"][reason] == counted["tallies"]["connections"] > 3
    (there,) = hub.status()["transports"]
    assert there["tallies"]["connections"] == counted["tallies"]["connections"]
