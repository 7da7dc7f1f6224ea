"""Where nothing is said of transports: fake TCP before UDP, on one port number, and as much of it as can be had."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from lab import Host, Lab, Program, Tunnel, traffic
from lab.firewall import Firewall
from lab.network import HUB_OUTER, KEY, Network, attach_node
from lab.tunnel import PROGRAM

pytestmark = pytest.mark.netns

BOTH = ["transport_faketcp", "transport_udp"]
NFT = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft")
HUB_ARGS = ("-m", "server", "-l", "0.0.0.0:9000", "-t", "10.0.0.1/24", "--tun-name", "tun0", "-k", KEY)


@pytest.fixture
def hub_host(lab: Lab) -> Host:
    host = lab.host("hub")
    lab.attach(host, f"{HUB_OUTER}/24")
    return host


def transport_of(tunnel: Tunnel) -> str:
    return str(tunnel.status()["peers"][0]["transport"])


def test_both_listen_on_one_number_and_fake_tcp_is_taken(lab: Lab) -> None:
    network = Network.build(lab, nodes=1)
    (node,) = network.nodes
    assert network.hub.status()["stack"]["transports"] == node.status()["stack"]["transports"] == BOTH
    assert [port["local"] for port in network.hub.status()["ports"]] == [
        *["0.0.0.0:9000"] * 2,
        "0.0.0.0:9001",  # by which nodes find out about NATs
        *["[::]:9000"] * 2,  # by which they ask as whom they are seen over IPv6
    ]
    assert node.status()["warnings"] == network.hub.status()["warnings"] == []
    assert transport_of(node) == transport_of(network.hub) == "transport_faketcp"
    assert [way["address"] for way in node.status()["peers"][0]["candidates"]] == [f"{HUB_OUTER}:9000"] * 2
    result = traffic.transfer(network.host(0), network.hub.host, network.hub_inner, megabytes=20)
    assert result.received == result.sent
    (counted, _) = node.status()["transports"]
    assert counted["tallies"] == {"connections": 1, "connections lost": 0, "resets seen": 0}


def test_where_fake_tcp_does_not_pass_udp_is_taken(lab: Lab) -> None:
    network = Network.build(lab, nodes=0)
    firewall = Firewall(lab, 0)
    firewall.allow(tcp=False)
    node = Tunnel.node(firewall.inside, HUB_OUTER, f"{network.inner(0)}/24", key=KEY)
    (peer,) = node.wait_up()["peers"]
    assert (peer["transport"], peer["chosen"]) == ("transport_udp", "transport_faketcp did not answer")
    assert traffic.ping(firewall.inside, network.hub_inner).received == 3


def start(host: Host, *wrap: str) -> Program:
    """Start a hub inside another program that takes something away from it."""
    env = {"LTUNNEL_STATE_DIR": str(host.folder / "state"), "NO_COLOR": "1"}
    return host.start("hub", [*wrap, PROGRAM, *HUB_ARGS], env)


@pytest.fixture
def taken_number(hub_host: Host) -> Iterator[None]:
    """Let another program listen on the hub's TCP port."""
    netns.pushns(hub_host.namespace)
    holder = socket.socket()
    netns.popns()
    with holder:
        holder.bind(("0.0.0.0", 9000))
        holder.listen()
        yield


def goes_by_udp_alone(lab: Lab, hub_host: Host, hub: Program, why: str) -> None:
    """See that a hub that was just started says why it has no fake TCP, and that a node finds it by UDP."""
    hub.wait_for(f"warning +goes without transport_faketcp: .*{why}")
    node = Tunnel.node(attach_node(lab, 0), HUB_OUTER, "10.0.0.2/24", key=KEY)
    node.wait_up()
    assert transport_of(node) == "transport_udp"
    assert traffic.ping(node.host, "10.0.0.1").received == 3
    assert hub.stop() == 0
    assert "table inet ltunnel" not in hub_host.run("nft", "list", "ruleset").stdout


def test_a_hub_without_nftables(lab: Lab, hub_host: Host) -> None:
    places = {os.path.realpath(path) for path in NFT if Path(path).exists()}
    hide = " && ".join(f"mount --bind /dev/null {path}" for path in places)
    hub = start(hub_host, "unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh")
    goes_by_udp_alone(lab, hub_host, hub, "nft is missing.*install nftables")


def test_a_hub_without_the_right_to_packet_sockets(lab: Lab, hub_host: Host) -> None:
    hub = start(hub_host, "setpriv", "--bounding-set", "-net_raw")
    goes_by_udp_alone(lab, hub_host, hub, "no permission to open packet sockets: run as root, or give CAP_NET_RAW")


@pytest.mark.usefixtures("taken_number")
def test_a_hub_whose_tcp_port_is_taken(lab: Lab, hub_host: Host) -> None:
    goes_by_udp_alone(lab, hub_host, start(hub_host), "TCP port 0.0.0.0:9000 is in use by")
