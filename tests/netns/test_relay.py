"""Two nodes whose packets can only go by the hub: the hub's machine and program hold nothing that could be read."""

import sys
from collections.abc import Sequence

import pytest

from lab import Lab, traffic
from lab.capture import Capture
from lab.memory import holds
from lab.network import Network

pytestmark = pytest.mark.netns

MARKER = b"=a-marker-that-nobody-else-has="

_SINK = """
import socket, sys
server = socket.create_server((sys.argv[1], 7))
print("ready", flush=True)
found = 0
while found < 2:
    connection, _ = server.accept()
    data = b"".join(iter(lambda: connection.recv(65536), b""))
    found += 1
    print(len(data), flush=True)
"""
_SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), 10) as connection:
    connection.sendall(sys.argv[2].encode() * int(sys.argv[3]))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    datagrams.sendto(sys.argv[2].encode(), (sys.argv[1], 7))
"""


def build(lab: Lab, hub: Sequence[str] = (), node: Sequence[str] = ()) -> Network:
    """A hub and two nodes that look for no other way."""
    network = Network.build(lab, nodes=2, hub_args=hub, node_args=["-p2p=false", *node])
    network.nodes[0].wait_status(lambda status: len(status["peers"]) == 2, "hear of the other node")
    assert traffic.ping(network.host(0), network.inner(1), count=3).received == 3, "the first one, too"
    return network


def test_the_hub_holds_nothing_readable(lab: Lab) -> None:
    network = build(lab)
    one, other = network.host(0), network.host(1)
    at_hub = Capture(network.hub.host, "eth0", "port 9000")
    at_node = Capture(one, "tun0", "tcp or udp or icmp")
    sink = other.start("sink", [sys.executable, "-c", _SINK, network.inner(1)])
    sink.wait_for("ready")
    for size in ("1", "100000"):
        one.run(sys.executable, "-c", _SOURCE, network.inner(1), MARKER.decode(), size)
    sink.wait_for(str(100_000 * len(MARKER)))
    pattern = MARKER[:16].hex()
    one.run("ping", "-c", "3", "-i", "0.2", "-p", pattern, network.inner(1))

    hub = network.hub.program
    assert not holds(hub, MARKER)
    assert holds(network.nodes[0].program, MARKER), "where it is it would be found"
    for capture in (at_hub, at_node):
        capture.stop()
    assert MARKER in at_node.file.read_bytes()
    captured = at_hub.file.read_bytes()
    assert len(captured) > 2 * 100_000 * len(MARKER), "all of it has passed, in and out"
    assert MARKER[:16] not in captured
    peers = {peer["name"]: peer for peer in network.hub.status()["peers"]}
    relayed = sum(peer["relayed_bytes"] for peer in peers.values())
    assert relayed > 100_000 * len(MARKER)
    assert all(peer["rx_packets"] == 0 for peer in peers.values())


def test_files_go_both_ways(lab: Lab) -> None:
    network = build(lab)
    there = traffic.transfer(network.host(0), network.host(1), network.inner(1), megabytes=100)
    back = traffic.transfer(network.host(1), network.host(0), network.inner6(0), megabytes=100)
    assert there.received == there.sent
    assert back.received == back.sent
    hub, nodes = network.hub.status(), [node.status() for node in network.nodes]
    for status in (hub, *nodes):
        assert set(status["drops"]) <= {"replayed"}, status["drops"]
    assert {peer["transport"] for node in nodes for peer in node["peers"] if not peer["hub"]} == {"relay"}


def test_over_fake_tcp(lab: Lab) -> None:
    network = build(lab, hub=["-transport", "transport_faketcp"], node=["-transport", "transport_faketcp"])
    there = traffic.transfer(network.host(0), network.host(1), network.inner(1), megabytes=50)
    assert there.received == there.sent
