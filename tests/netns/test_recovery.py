"""Nodes come back by themselves: after a hub that was killed, with a new address, after a silence."""

import re
import signal
import time
from itertools import pairwise

import pytest

from lab import Lab, Program, traffic
from lab.network import HUB_OUTER, Network
from lab.tunnel import UDP_ONLY

pytestmark = pytest.mark.netns

INTERVAL = 0.05


def start_pings(network: Network, number: int = 0) -> Program:
    """Ping the hub from a node, 20 times a second, until the program is stopped."""
    words = ["ping", "-n", "-D", "-i", str(INTERVAL), network.hub_inner]
    return network.host(number).start("pings", words)


def longest_silence(pings: Program, since: float) -> float:
    """Return the longest time between two answers after a moment (Unix time), in seconds."""
    pings.signal(signal.SIGINT)
    pings.wait()
    times = [float(found) for found in re.findall(r"^\[(\d+\.\d+)\] \d+ bytes", pings.output(), re.MULTILINE)]
    times = [since, *(moment for moment in times if moment > since)]
    assert len(times) > 10, pings.last_lines()
    return max(later - earlier for earlier, later in pairwise(times))


def test_nodes_find_a_hub_that_was_killed_and_started_again(lab: Lab) -> None:
    network = Network.build(lab, nodes=2)
    pings = [start_pings(network, number) for number in range(2)]
    time.sleep(0.5)

    network.hub.program.kill()
    network.hub.start()
    killed = time.time()
    time.sleep(15)

    for each in pings:
        assert longest_silence(each, killed) < 14
        assert float(re.findall(r"^\[(\d+\.\d+)\] \d+ bytes", each.output(), re.MULTILINE)[-1]) > killed + 14
    assert traffic.ping(network.host(0), network.inner(1)).received == 3


@pytest.mark.parametrize("args", [(), UDP_ONLY], ids=["default", "udp"])
def test_traffic_goes_on_when_a_node_changes_its_address(lab: Lab, args: tuple[str, ...]) -> None:
    network = Network.build(lab, nodes=1, node_args=args)
    node = network.host(0)
    pings = start_pings(network)
    time.sleep(0.5)
    began = time.time()

    for old, new in (("198.18.0.2/24", "198.18.0.77/24"), ("198.18.0.77/24", "198.19.7.2/24")):
        node.delete_address("eth0", old)
        lab.address(node, new)
        time.sleep(3)
        peer = network.hub.peer("node0")
        assert peer is not None
        assert peer["endpoint"].startswith(new.split("/")[0] + ":")

    assert longest_silence(pings, began) < 2


def test_a_link_that_was_down_for_a_while(lab: Lab) -> None:
    network = Network.build(lab, nodes=1)
    router = lab.internet
    router.lose("to-node0", 100)
    time.sleep(12)

    router.lose("to-node0", 0)

    restored = time.monotonic()
    while not traffic.ping(network.host(0), network.hub_inner, count=1).received:
        assert time.monotonic() < restored + 10


def test_a_node_that_was_killed_starts_again_in_its_place(lab: Lab) -> None:
    network = Network.build(lab, nodes=2)
    network.nodes[0].program.kill()

    network.nodes[0].start()
    network.nodes[0].wait_up()

    assert traffic.ping(network.host(0), network.hub_inner).received == 3
    assert traffic.ping(network.host(1), network.inner(0)).received == 3
    assert len(network.hub.status()["peers"]) == 2


def test_a_node_started_before_its_hub(lab: Lab) -> None:
    network = Network.build(lab, nodes=0)
    network.hub.program.stop()
    node = network.add_node()
    node.program.wait_for(r"is running")
    time.sleep(2)

    network.hub.start()

    assert node.wait_up(timeout=10)["peers"][0]["endpoint"] == f"{HUB_OUTER}:9000"
