"""Gateways of networks that come and go, what they leave behind, and paths that lead into what is routed."""

import os
import signal
import time
from pathlib import Path

import pytest

from lab import Host, Lab, Tunnel, traffic
from lab.lan import NOTICED, SOON, Lan, accept, accepting, config, offer, path, reaches, refused, wait_routed
from lab.meeting import ONE, OTHER, Meeting
from lab.network import HUB_OUTER, HUB_OUTER6, KEY, Network, attach_node

pytestmark = pytest.mark.netns

# ---------------------------------------------------------------- gateways that come and go


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_another_gateway_takes_over(lab: Lab, end: signal.Signals) -> None:
    network, lan = accepting(lab), Lan(lab, 0)
    first = offer(network, lan)
    wait_routed(network.hub, *lan.networks)
    standby = attach_node(lab, 2)
    standby.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
    lan.device.veth("eth1", standby, "lan0")
    for link, address, host in (("eth1", "192.168.7.20/32", lan.device), ("lan0", "192.168.7.2/24", standby)):
        host.add_address(link, address)
    lan.device.run("ip", "route", "add", "192.168.7.2/32", "dev", "eth1")
    args = config(lab, "standby", routes=lan.networks[:1], accept_routes="all")
    second = Tunnel.node(standby, HUB_OUTER, "10.0.0.9/24", "fd00::9/64", key=KEY, args=args)
    far = accept(network)
    wait_routed(far, *lan.networks)
    assert first.host.name in refused(network.hub, lan.networks[0])
    assert reaches(far.host, lan.address)
    first.program.signal(end)
    patience = SOON if end == signal.SIGTERM else NOTICED
    wait_routed(far, lan.networks[0], timeout=patience)
    assert lan.hears_from("192.168.7.2") == 0
    assert reaches(far.host, lan.address)
    assert lan.hears_from("192.168.7.2") >= 4
    second.program.stop()
    wait_routed(far)
    assert traffic.ping(far.host, lan.address, count=1).received == 0


def test_devices_are_reached_while_the_hub_is_away(lab: Lab) -> None:
    network, lan = accepting(lab), Lan(lab, 0)
    gate, far = offer(network, lan), accept(network)
    wait_routed(far, *lan.networks)
    assert reaches(far.host, lan.address)
    far.wait_status(lambda _: path(far, network.inner(0)) == "public", "go straight")
    network.hub.program.kill()
    for node in (far, gate):
        node.wait_status(lambda status: status["state"] == "connecting", "miss the hub", NOTICED)
    wait_routed(far, *lan.networks)
    assert reaches(far.host, lan.address)
    network.hub.start()
    far.wait_up(NOTICED)
    gate.wait_up(NOTICED)
    wait_routed(network.hub, *lan.networks)
    wait_routed(far, *lan.networks)
    assert reaches(far.host, lan.address)


# ---------------------------------------------------------------- before and after


def test_nothing_is_left_behind(lab: Lab) -> None:
    """Not after SIGTERM; after SIGKILL the routes are gone, and the rules with the next start and end."""
    lans = [Lan(lab, number) for number in range(2)]
    host = lab.host("hub", ipv6=True)
    lab.attach(host, f"{HUB_OUTER}/24")
    hosts = [host, *(lan.gate for lan in lans)]
    before = [each.traces() for each in hosts]
    hub = Tunnel.hub(host, "10.0.0.1/24", "fd00::1/64", key=KEY, args=config(lab, "hub", accept_routes="all"))
    network = Network(lab, hub)
    gates = [offer(network, lan) for lan in lans]

    def meet() -> None:
        for gate, other in zip(gates, lans[::-1], strict=True):
            wait_routed(gate, *other.networks)
        wait_routed(hub, *lans[0].networks, *lans[1].networks)

    meet()
    for tunnel in (*gates, hub):
        assert tunnel.program.stop() == 0
    assert [each.traces() for each in hosts] == before
    for tunnel in (hub, *gates):
        tunnel.start()
    meet()
    for tunnel in (*gates, hub):
        tunnel.program.kill()
    for each, traces in zip(hosts, before, strict=True):
        after = each.traces()
        assert {what for what in traces if after[what] != traces[what]} <= {"nft", "settings"}
    for tunnel in (hub, *gates):
        tunnel.start()
    meet()
    for tunnel in (*gates, hub):
        assert tunnel.program.stop() == 0
    assert [each.traces() for each in hosts] == before


def test_a_machine_that_does_not_forward_says_what_to_do(lab: Lab) -> None:
    network, lan = accepting(lab), Lan(lab, 0)
    lan.gate.sysctl({"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0})
    gate, far = offer(network, lan), accept(network)
    warnings = [line for line in gate.wait_up()["warnings"] if "sysctl" in line]
    assert len(warnings) == 2
    wait_routed(far, *lan.networks)
    assert traffic.ping(far.host, lan.address, count=2).received == 0
    for line in warnings:
        lan.gate.run("sysctl", *line.split("sysctl ")[1].split())
    assert [line for line in gate.status()["warnings"] if "sysctl" in line] == []
    assert reaches(far.host, lan.address)
    assert reaches(far.host, lan.address6)


# ---------------------------------------------------------------- paths into what is routed


APART = """table ip6 apart {
    chain passing { type filter hook forward priority -20; ip6 saddr 2001:db8:1::/64 ip6 daddr 2001:db8:2::/64 drop; }
}"""


@pytest.mark.parametrize("transports", [["-transport", "transport_udp"], []], ids=["udp", ""])
def test_no_path_leads_into_what_is_routed(lab: Lab, transports: list[str]) -> None:
    """The gateway could be reached straight, in the very network behind it: that would go around in circles.

    The hub knows nothing of it: it is joined over IPv6. The nodes meet over IPv4, as long as nothing is routed.
    """
    lab.internet.nft(APART)
    args = [*transports, "-l", "[::]:9000", *config(lab, "hub", accept_routes="all")]
    network = Network.build(lab, nodes=0, hub_args=args, others=[f"{HUB_OUTER6}/64"])
    gate, far = lab.host("gate", ipv6=True), lab.host("far", ipv6=True)
    lab.attach(gate, "203.0.113.5/24", "2001:db8:1::2/64")
    lab.attach(far, "198.18.2.2/24", "2001:db8:2::2/64")
    gate.sysctl({"net.ipv4.ip_forward": 1})
    far.run("ip", "link", "add", "br0", "type", "bridge")
    far.up("br0")
    far.add_address("br0", "203.0.113.201/30")
    one, other = (
        Tunnel.node(host, f"[{HUB_OUTER6}]", f"{inner}/24", key=KEY, args=[*transports, *args])
        for host, inner, args in (
            (gate, ONE, config(lab, "gate", routes=["203.0.113.0/24"])),
            (far, OTHER, config(lab, "far", accept_routes="all")),
        )
    )
    meeting = Meeting(network.hub, one, other)
    assert "itself" in refused(other, "203.0.113.0/24")
    assert reaches(far, ONE)
    meeting.wait_path("public", 2 * SOON)
    peer = other.peer(ONE)
    assert peer is not None
    assert peer["endpoint"].startswith("203.0.113.5:")

    far.delete_address("br0", "203.0.113.201/30")
    wait_routed(other, "203.0.113.0/24")
    other.wait_status(lambda _: path(other, ONE) == "hub", "go by the hub", SOON)
    there = traffic.transfer(far, lab.internet, "203.0.113.1", megabytes=5)
    assert there.sent == there.received
    before, sent = [_spent(tunnel) for tunnel in (one, other)], _sent(far)
    time.sleep(12)
    assert path(other, ONE) == "hub"
    spent = [_spent(tunnel) - earlier for tunnel, earlier in zip((one, other), before, strict=True)]
    assert max(spent) < 2, f"CPU seconds {spent}"
    assert _sent(far) - sent < 1000, "packets"
    assert reaches(far, "203.0.113.1")
    assert reaches(far, ONE)


def _spent(tunnel: Tunnel) -> float:
    """Return the CPU seconds of a program so far."""
    fields = Path(f"/proc/{tunnel.program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sent(host: Host) -> int:
    """Return how many packets have left a host's devices, the tunnel's too."""
    total = 0
    for device in ("eth0", "tun0"):
        text = host.run("cat", f"/sys/class/net/{device}/statistics/tx_packets").stdout
        total += int(text)
    return total
