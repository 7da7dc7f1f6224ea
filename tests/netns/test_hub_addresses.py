"""A hub with several addresses: a node may use any of them, also through a NAT that lets only its answers in."""

import pytest

from lab import Lab, Tunnel, traffic
from lab.firewall import Firewall
from lab.network import HUB_OUTER, KEY, Network
from lab.tunnel import UDP_ONLY

pytestmark = pytest.mark.netns

SECOND = HUB_OUTER.rpartition(".")[0] + ".99"


@pytest.mark.parametrize("args", [UDP_ONLY, ("--transport", "transport_faketcp")], ids=["udp", "faketcp"])
def test_the_answer_comes_from_where_the_node_asked(lab: Lab, args: tuple[str, ...]) -> None:
    host = lab.host("hub", ipv6=True)
    lab.attach(host, f"{HUB_OUTER}/24")
    host.add_address("eth0", f"{SECOND}/24")
    hub = Tunnel.hub(host, f"{Network.hub_inner}/24", key=KEY, args=args)
    hub.wait_up()
    firewall = Firewall(lab, 0)
    node = Tunnel.node(firewall.inside, SECOND, "10.0.0.2/24", key=KEY, args=args)
    (peer,) = node.wait_up()["peers"]
    assert peer["endpoint"] == f"{SECOND}:9000"
    (seen,) = hub.status()["peers"]
    assert seen["endpoint"].startswith("198.18.0.2:")
    for source, target, address in ((node.host, host, Network.hub_inner), (host, node.host, "10.0.0.2")):
        result = traffic.transfer(source, target, address, megabytes=20)
        assert result.sent == result.received
    assert firewall.invalid() == 0
