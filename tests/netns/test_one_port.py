"""One hub, one port number: nodes with real TCP segments, with UDP that looks like TCP, and with plain UDP."""

from itertools import permutations

import pytest

from lab import Lab, Tunnel, traffic
from lab.network import HUB_OUTER, KEY, Network
from lab.tunnel import config_file

pytestmark = pytest.mark.netns

FRAMED = {"framing": "udp"}
KINDS = {
    "node0": {"transport": ["transport_udp"]},
    "node1": {"transport": ["transport_faketcp"]},
    "node2": {"transport": ["transport_faketcp"], "transport_faketcp": FRAMED},
}
HUB = {"transport": ["transport_udp", "transport_faketcp", "transport_faketcp:udp"], "transport_faketcp:udp": FRAMED}
SEEN_AS = {"node0": "transport_udp", "node1": "transport_faketcp", "node2": "transport_faketcp:udp"}


@pytest.fixture
def network(lab: Lab) -> Network:
    host = lab.host("hub", ipv6=True)
    lab.attach(host, f"{HUB_OUTER}/24")
    args = ["-c", config_file(lab.folder / "hub.json", HUB)]
    network = Network(lab, Tunnel.hub(host, f"{Network.hub_inner}/24", f"{Network.hub_inner6}/64", key=KEY, args=args))
    assert network.hub.wait_up()["warnings"] == []
    for name, content in KINDS.items():
        network.add_node(args=["-c", config_file(lab.folder / f"{name}.json", content)])
    for node in network.nodes:
        node.wait_up()
    return network


def test_all_reach_all(network: Network) -> None:
    status = network.hub.status()
    assert {peer["name"]: peer["transport"] for peer in status["peers"]} == SEEN_AS
    assert [port["local"] for port in status["ports"]] == [
        *["0.0.0.0:9000"] * 3, "0.0.0.0:9001", *["[::]:9000"] * 2,
    ]  # fmt: skip
    for source, target in permutations(range(3), 2):
        for address in (network.inner(target), network.inner6(target), network.hub_inner):
            sent = traffic.ping(network.host(source), address, count=3, interval=0.05)
            assert sent.received == 3, (source, address)
    assert network.hub.status()["drops"] == {}
    assert all(transport["drops"] == {} for transport in network.hub.status()["transports"])


def test_they_carry_streams_side_by_side(network: Network) -> None:
    """What one sends neither blocks the other nor reaches its transport."""
    hub = network.hub.host
    load = hub.start("load", ["ping", "-n", "-i", "0.01", network.inner(0)])
    for source, target in ((2, 0), (0, 2), (1, 2)):
        result = traffic.transfer(network.host(source), network.host(target), network.inner(target), megabytes=20)
        assert result.sent == result.received
    load.stop()
    assert all(transport["drops"] == {} for transport in network.hub.status()["transports"])
    assert network.hub.status()["internal_errors"] == 0
