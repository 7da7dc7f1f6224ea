"""Fake TCP where only TCP passes: firewalls that track strictly, lost state, forged endings; nothing is left behind."""

import signal
import time
from ipaddress import ip_interface

import pytest

from lab import Lab, Tunnel, traffic
from lab.capture import Capture
from lab.firewall import Firewall
from lab.network import HUB_OUTER, KEY, Network, attach_node
from lab.pings import Pings
from lab.tunnel import PORT, config_file

pytestmark = pytest.mark.netns

FAKETCP = ["--transport", "transport_faketcp"]


def options(lab: Lab, backend: str) -> list[str]:
    """Return the arguments that choose fake TCP with a backend."""
    content = {"transport": ["transport_faketcp"], "transport_faketcp": {"backend": backend}}
    return ["-c", config_file(lab.folder / f"{backend}.json", content)]


def build(lab: Lab, backend: str = "auto") -> tuple[Network, Firewall]:
    """Start a hub, and a node behind a firewall that lets nothing but TCP pass."""
    args = options(lab, backend)
    network = Network.build(lab, nodes=0, hub_args=args)
    firewall = Firewall(lab, 0)
    firewall.allow(udp=False)
    node = Tunnel.node(firewall.inside, HUB_OUTER, f"{network.inner(0)}/24", key=KEY, args=args)
    network.nodes.append(node)
    node.wait_up()
    return network, firewall


@pytest.mark.parametrize("backend", ["packet", "tun"])
def test_a_firewall_that_lets_only_tracked_tcp_pass(lab: Lab, backend: str) -> None:
    network, firewall = build(lab, backend)
    node, hub = network.host(0), network.hub.host

    there = traffic.transfer(node, hub, network.hub_inner, megabytes=100)
    back = traffic.transfer(hub, node, network.inner(0), megabytes=100)

    assert there.received == there.sent
    assert back.received == back.sent
    (connection,) = firewall.connections()
    assert " ESTABLISHED " in connection
    assert "[ASSURED]" in connection
    assert f"dport={PORT}" in connection
    assert firewall.invalid() == 0

    pings = Pings(node, network.hub_inner)
    began = time.time()
    firewall.forget()
    time.sleep(8)
    assert pings.longest_silence(since=began) < 15
    established = [line for line in firewall.connections() if " ESTABLISHED " in line]
    assert len(established) == 1
    handshakes = network.nodes[0].program.output().count("event=pins")
    assert handshakes == 1


@pytest.mark.parametrize("backend", ["packet", "tun"])
@pytest.mark.parametrize("kind", ["rst", "fin"])
def test_forged_endings_are_hints_only(lab: Lab, kind: str, backend: str) -> None:
    network, firewall = build(lab, backend)
    pings = Pings(network.host(0), network.hub_inner)
    time.sleep(0.5)
    began = time.time()

    # To the hub: the firewall does not see it. To the node: the firewall takes the connection for ended.
    for device in ("to-hub", firewall.to_internet):
        sent = lab.internet.run(*traffic.INSIDE["spoof"], device, str(PORT), kind, "3").stdout
        assert sent.count(kind) == 3
        time.sleep(2.5)

    assert pings.longest_silence(since=began) < 5


@pytest.mark.parametrize("backend", ["packet", "tun"])
@pytest.mark.parametrize("end", ["node", "hub"])
def test_at_its_end_firewalls_forget_the_connection(lab: Lab, backend: str, end: str) -> None:
    """After SIGTERM there is no ESTABLISHED entry, which would stay for five days."""
    network, firewall = build(lab, backend)
    assert any(" ESTABLISHED " in line for line in firewall.connections())
    other = network.hub if end == "node" else network.nodes[0]
    if end == "hub":
        network.nodes[0].program.signal(signal.SIGSTOP)  # it would call again

    (network.nodes[0] if end == "node" else network.hub).program.stop()

    deadline = time.monotonic() + 5
    while any(" ESTABLISHED " in line for line in firewall.connections()):
        assert time.monotonic() < deadline, firewall.connections()
        time.sleep(0.1)
    assert firewall.invalid() == 0
    other.program.signal(signal.SIGCONT)


@pytest.mark.parametrize("backend", ["packet", "tun"])
def test_a_node_that_gets_another_address_calls_again_at_once(lab: Lab, backend: str) -> None:
    """The first SYN from the new address leaves within a second of the change, and pings go on."""
    hub_args = options(lab, backend)
    network = Network.build(lab, nodes=1, hub_args=hub_args, node_args=hub_args)
    node = network.host(0)
    capture = Capture(node, "eth0", "tcp[13] == 2 and src host 203.0.113.2")
    pings = Pings(node, network.hub_inner)
    time.sleep(1)

    changed = time.time()
    node.delete_address("eth0", "198.18.0.2/24")
    lab.address(node, "203.0.113.2/30")
    time.sleep(4)

    assert pings.longest_silence(since=changed) < 3
    assert network.nodes[0].program.output().count("event=connected") == 1
    assert float(capture.stop().rows[0]["frame.time_epoch"]) - changed < 1.0


@pytest.mark.parametrize("backend", ["packet", "tun"])
def test_nothing_is_left_behind(lab: Lab, backend: str) -> None:
    hub, node = lab.host("hub", ipv6=True), attach_node(lab, 0)
    lab.attach(hub, f"{HUB_OUTER}/24")
    rules = "table ip theirs { chain forward { type filter hook forward priority 0; tcp dport 9000 counter accept; }; }"
    for host in (hub, node):
        host.nft(rules)
        host.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
        assert traffic.ping(host, str(ip_interface(f"{HUB_OUTER}/24").network[1]), count=1).received
    before = [host.traces() for host in (hub, node)]
    args = options(lab, backend)
    tunnels = [
        Tunnel.hub(hub, "10.0.0.1/24", "fd00::1/64", key=KEY, args=args),
        Tunnel.node(node, HUB_OUTER, "10.0.0.2/24", "fd00::2/64", key=KEY, args=args),
    ]
    for tunnel in tunnels:
        tunnel.wait_up()
    assert traffic.ping(node, "10.0.0.1").received == 3
    during = [host.traces() for host in (hub, node)]
    assert all("ltunnel" in "".join(views["nft"]) for views in during)

    for tunnel in reversed(tunnels):
        assert tunnel.program.stop() == 0

    assert [host.traces() for host in (hub, node)] == before
