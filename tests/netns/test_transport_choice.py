"""What decides by which transport a node goes: what can be opened, what passes, which network it is in."""

import socket
import time

import pytest
from pyroute2 import netns

from lab import Lab, Tunnel, traffic
from lab.firewall import Firewall
from lab.network import HUB_OUTER, KEY, Network

pytestmark = pytest.mark.netns

BOTH = ["-transport", "transport_udp,transport_faketcp"]


def transport_of(tunnel: Tunnel) -> str:
    return str(tunnel.status()["peers"][0]["transport"])


def test_in_another_network_the_preferred_one_is_tried_at_once(lab: Lab) -> None:
    network = Network.build(lab, nodes=0, hub_args=BOTH)
    firewall = Firewall(lab, 0)
    firewall.allow(udp=False)
    node = Tunnel.node(firewall.inside, HUB_OUTER, f"{network.inner(0)}/24", key=KEY, args=BOTH)
    (peer,) = node.wait_up()["peers"]
    assert (peer["transport"], peer["chosen"]) == ("transport_faketcp", "transport_udp did not answer")
    time.sleep(12.5)  # after the first look for a better one, before the second
    assert transport_of(node) == "transport_faketcp"
    firewall.allow()
    time.sleep(1)
    assert transport_of(node) == "transport_faketcp"

    firewall.inside.delete_address("eth0", "192.168.0.2/24")
    firewall.inside.add_address("eth0", "192.168.0.77/24")
    firewall.inside.add_route("0.0.0.0/0", "192.168.0.1")
    node.wait_status(lambda status: status["peers"][0]["transport"] == "transport_udp", "go by UDP", timeout=5)
    node.program.wait_for("going by transport_udp instead of transport_faketcp: it is preferred, and works again")
    network.hub.program.wait_for("going by transport_udp instead of transport_faketcp with node0: node0 came by it")
    assert traffic.ping(firewall.inside, network.hub_inner).received == 3


def test_a_hub_goes_without_what_it_cannot_have(lab: Lab) -> None:
    host = lab.host("hub")
    lab.attach(host, f"{HUB_OUTER}/24")
    netns.pushns(host.namespace)
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    netns.popns()
    with holder:
        holder.bind(("0.0.0.0", 9000))
        hub = Tunnel.hub(host, f"{Network.hub_inner}/24", key=KEY, args=BOTH)
        warnings = hub.wait_up()["warnings"]
        assert any("goes without transport_udp: UDP port 0.0.0.0:9000 is in use" in text for text in warnings), warnings
        assert hub.status()["stack"]["transports"] == ["transport_faketcp"]
        network = Network(lab, hub)
        node = network.add_node(args=BOTH, addresses=[f"{network.inner(0)}/24"])
        node.wait_up()
        assert transport_of(node) == "transport_faketcp"
        assert traffic.ping(network.host(0), network.hub_inner).received == 3
