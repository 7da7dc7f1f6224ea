"""What a network is for: packets between all of its members, whatever the links between them are like."""

import concurrent.futures
from itertools import permutations

import pytest

from lab import Lab, Tunnel, traffic
from lab.network import HUB_OUTER, KEY, Network, attach_node
from lab.tunnel import UDP_ONLY

pytestmark = pytest.mark.netns

SEGMENTED = {"tso": False, "gso": False, "tx-udp-segmentation": False}
"""Every frame at most as large as the MTU, every datagram a frame of its own."""


def test_all_pairs_ping(lab: Lab) -> None:
    network = Network.build(lab, nodes=3)
    hub = -1
    places = {hub: network.hub.host} | {number: network.host(number) for number in range(3)}

    def ping(source: int, address: str) -> tuple[int, str, int]:
        return source, address, traffic.ping(places[source], address, count=3, interval=0.1).received

    targets = [
        (source, address)
        for source, target in permutations(places, 2)
        for address in (network.inner(target), network.inner6(target))
    ]
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        lost = [result for result in pool.map(lambda pair: ping(*pair), targets) if result[2] < 3]
    assert lost == []


@pytest.mark.parametrize("percent", [0, 1])
def test_a_large_file_arrives_whole(lab: Lab, percent: int) -> None:
    network = Network.build(lab, nodes=1, node_args=UDP_ONLY)
    node = network.host(0)
    if percent:
        node.offload("eth0", SEGMENTED)
        network.hub.host.offload("eth0", SEGMENTED)
        for host in (node, network.hub.host):
            network.lab.internet.lose(f"to-{host.name}", percent)

    result = traffic.transfer(node, network.hub.host, network.hub_inner, megabytes=200)

    assert result.received == result.sent


@pytest.mark.parametrize("gro", [True, False])
def test_links_that_cut_segments(lab: Lab, gro: bool) -> None:
    network = Network.build(lab, nodes=2, node_args=UDP_ONLY)
    for tunnel in (network.hub, *network.nodes):
        tunnel.host.offload("eth0", SEGMENTED | {"gro": gro})
        network.lab.internet.offload(f"to-{tunnel.host.name}", SEGMENTED | {"gro": gro})

    to_hub = traffic.transfer(network.host(0), network.hub.host, network.hub_inner, megabytes=30)
    across = traffic.transfer(network.host(1), network.host(0), network.inner6(0), megabytes=30)

    assert to_hub.received == to_hub.sent
    assert across.received == across.sent


def test_nodes_with_different_mtu(lab: Lab) -> None:
    network = Network.build(lab, nodes=1)
    smaller = network.add_node(args=["-mtu", "1280"]).wait_up()
    assert smaller["tun"]["mtu"] == 1280 < network.nodes[0].status()["tun"]["mtu"]

    both_ways = [
        traffic.transfer(network.host(0), network.host(1), network.inner(1), megabytes=10),
        traffic.transfer(network.host(1), network.host(0), network.inner6(0), megabytes=10),
    ]

    assert all(result.received == result.sent for result in both_ways)
    assert traffic.ping(network.host(0), network.inner(1), size=1200).received == 3


def test_a_link_with_a_small_mtu(lab: Lab) -> None:
    hub_host = lab.host("hub", ipv6=True)
    lab.attach(hub_host, f"{HUB_OUTER}/24", mtu=1360)
    hub = Tunnel.hub(hub_host, "10.0.0.1/24", key=KEY)
    node = Tunnel.node(attach_node(lab, 0, mtu=1360), HUB_OUTER, "10.0.0.2/24", key=KEY)
    hub.wait_up()
    status = node.wait_up()

    assert 1200 <= status["tun"]["mtu"] < 1360
    result = traffic.transfer(node.host, hub_host, "10.0.0.1", megabytes=10)
    assert result.received == result.sent


def test_two_nodes_share_the_hub_fairly(lab: Lab) -> None:
    network = Network.build(lab, nodes=2)
    hub = network.hub.host

    def send(number: int) -> float:
        return traffic.tcp(network.host(number), hub, network.hub_inner, seconds=4, port=5401 + number).gbit_s

    with concurrent.futures.ThreadPoolExecutor() as pool:
        rates = list(pool.map(send, range(2)))

    assert min(rates) >= 0.25 * sum(rates), rates


def test_ipv6_outside(lab: Lab) -> None:
    hub_host, node_host = (lab.host(name, ipv6=True) for name in ("hub", "node"))
    lab.attach(hub_host, "2001:db8:1::2/64")
    lab.attach(node_host, "2001:db8:2::2/64")
    hub = Tunnel(hub_host, ["-m", "server", "-l", "[::]:9000", "-t", "10.0.0.1/24"], key=KEY)
    node = Tunnel(node_host, ["-m", "client", "-r", "[2001:db8:1::2]:9000", "-t", "10.0.0.2/24"], key=KEY)
    hub.wait_up()
    node.wait_up()

    assert traffic.ping(node_host, "10.0.0.1").received == 3
    result = traffic.transfer(node_host, hub_host, "10.0.0.1", megabytes=20)
    assert result.received == result.sent


def test_a_busy_hub_keeps_small_packets_moving(lab: Lab) -> None:
    network = Network.build(lab, nodes=2)

    def load() -> float:
        return traffic.tcp(network.host(0), network.hub.host, network.hub_inner, seconds=4).gbit_s

    with concurrent.futures.ThreadPoolExecutor() as pool:
        busy = pool.submit(load)
        pings = traffic.ping(network.host(1), network.hub_inner, count=60, interval=0.05)
        rate = busy.result()

    assert rate > 0.1
    assert pings.received >= 59
    assert pings.slowest < 200
