"""Gateways of networks that come and go, what they leave behind, and paths that lead into what is routed."""

import os
import signal
import time
from pathlib import Path

import pytest

from lab import Host, Lab, Tunnel, traffic
from lab.lan import NOTICED, SOON, Lan, accept, accepting, config, offer, path, reaches, refused, wait_routed
from lab.network import HUB_OUTER, KEY, Network, attach_node

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
    assert reaches(far.host, lan.address)
    assert reaches(far.host, lan.address6)


# ---------------------------------------------------------------- paths inside of what is routed


class Campus:
    """One router with two LANs behind it, 192.168.7.0/24 and 192.168.8.0/24, and an internet that it translates for."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.router = lab.host("campus")
        lab.attach(self.router, "198.18.9.2/24", device="wan")
        self.router.sysctl({"net.ipv4.ip_forward": 1})
        self.router.nft("""table ip nat {
            chain leaving { type nat hook postrouting priority 100; oifname "wan" masquerade; }
        }""")
        self.gate, self.device = self.join("gate", 7, 5), self.join("device", 7, 20)
        self.far = self.join("far", 8, 2)
        self.gate.sysctl({"net.ipv4.ip_forward": 1})

    def join(self, name: str, subnet: int, last: int) -> Host:
        """Add a host to a LAN, which is a bridge of the router."""
        bridge = f"lan{subnet}"
        if not self.router.netlink.link_lookup(ifname=bridge):
            self.router.netlink.link("add", kind="bridge", ifname=bridge)
            self.router.up(bridge)
            self.router.add_address(bridge, f"192.168.{subnet}.1/24")
        host = self.lab.host(name)
        host.veth("eth0", self.router, f"to-{name}")
        self.router.netlink.link(
            "set", index=self.router.index(f"to-{name}"), master=self.router.index(bridge)
        )  # fmt: skip
        host.add_address("eth0", f"192.168.{subnet}.{last}/24")
        host.add_route("0.0.0.0/0", f"192.168.{subnet}.1")
        return host


@pytest.mark.parametrize("transport", ["transport_udp", "transport_faketcp"])
def test_no_path_leads_into_what_is_routed(lab: Lab, transport: str) -> None:
    """The node that accepts a network could reach its gateway there: the kernel would send that into the tunnel."""
    network, campus = accepting(lab), Campus(lab)
    more = ["-transport", f"{transport},transport_udp" if transport != "transport_udp" else transport]
    gate_args = [*config(lab, "gate", routes=["192.168.7.0/24"]), *more]
    gate = network.add_node(KEY, gate_args, ["10.0.0.2/24"], campus.gate)
    far = network.add_node(
        KEY, [*config(lab, "far", accept_routes="all"), *more], ["10.0.0.3/24"], campus.far
    )  # fmt: skip
    wait_routed(far, "192.168.7.0/24")
    assert reaches(campus.far, "192.168.7.20")
    there = traffic.transfer(campus.far, campus.device, "192.168.7.20", megabytes=5)
    assert there.sent == there.received
    settled = [_spent(tunnel) for tunnel in (gate, far)]
    sent = _sent(campus.far)
    time.sleep(20)
    assert path(far, "10.0.0.2") in ("hub", "public")
    peer = far.peer("10.0.0.2")
    assert peer is not None
    assert not str(peer["endpoint"]).startswith("192.168.7."), peer
    assert reaches(campus.far, "192.168.7.20")
    spent = [_spent(tunnel) - before for tunnel, before in zip((gate, far), settled, strict=True)]
    assert max(spent) < 2.0, f"CPU seconds {spent}: something goes around in circles"
    assert _sent(campus.far) - sent < 1500, "packets"


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
