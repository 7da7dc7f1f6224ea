"""The rules of a machine that offers networks, in a real packet filter, alone and beside those of fake TCP."""

import select
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

import pytest

from lab import Lab
from lab.raw import RawPortOn, inside
from ltunnel.plugin import HostRule, HostRuleKind, PortKind, PortSpec
from ltunnel.runtime.gateway import masquerade, not_forwarded
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.netlink import configure_tun
from ltunnel.runtime.raw import open_raw
from ltunnel.runtime.tun import open_tun
from ltunnel.testing import packets

pytestmark = pytest.mark.netns

NETWORKS = [ip_network("192.168.7.0/24"), ip_network("fd07::/64")]
RESETS = HostRule(kind=HostRuleKind.DROP_RESETS, port=9000, host="0.0.0.0")
FAR = {4: "10.0.0.3", 6: "fd00::3"}
BEHIND_FAR = {4: "192.168.9.20", 6: "fd09::20"}
GATE = {4: "192.168.7.1", 6: "fd07::1"}
DEVICE = {4: "192.168.7.20", 6: "fd07::20"}
OTHER_LAN = {4: "192.168.6.20", 6: "fd06::20"}
PORT = 7
SWITCHES = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


class Gateway:
    """A machine with a TUN device and two LANs, and a device in both that answers UDP."""

    def __init__(self, lab: Lab) -> None:
        self.host, self.device = lab.host("gate", ipv6=True), lab.host("device", ipv6=True)
        self.host.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        for number in (7, 6):
            self.host.veth(f"lan{number}", self.device, f"eth{number}")
            for host, link, last in ((self.host, f"lan{number}", 1), (self.device, f"eth{number}", 20)):
                host.add_address(link, f"192.168.{number}.{last}/24")
                host.add_address(link, f"fd0{number}::{last}/64")
        with inside(self.host):
            self.tun = open_tun("tun0")
            addresses = [ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")]
            configure_tun("tun0", mtu=1400, queue=500, addresses=addresses)
        self.host.run("ip", "route", "add", "192.168.9.0/24", "dev", "tun0")
        self.host.run("ip", "-6", "route", "add", "fd09::/64", "dev", "tun0")
        with inside(self.device):
            self.heard = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.heard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.heard.bind(("::", PORT))
        self.complaints: list[str] = []

    def start(self) -> HostChanges:
        with inside(self.host):
            return HostChanges(self.host.folder, "tun0", self.complaints.append)

    def close(self) -> None:
        self.heard.close()
        self.tun.close()

    def come_out(self, source: str, to: str, sport: int = 4000, patience: float = 2) -> str | None:
        """Let a packet come out of the tunnel; return from whom it reaches the device, None if it does not."""
        self.tun.write([bytes(10) + packets.udp(source, to, sport, PORT, b"hello")])
        if not select.select([self.heard], [], [], patience)[0]:
            return None
        data, (host, port, *_) = self.heard.recvfrom(100)
        assert data == b"hello"
        self.heard.sendto(b"answer", (host, port))
        return host.removeprefix("::ffff:")

    def answered(self, source: str, to: str) -> bool:
        """Whether the device's answer goes into the tunnel, to whoever has asked."""
        buf = memoryview(bytearray(70_000))
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if select.select([self.tun], [], [], 0.1)[0]:
                packet = bytes(buf[10 : self.tun.read(buf, 0)])
                if b"answer" in packet:
                    ends = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
                    family = socket.AF_INET6 if ":" in source else socket.AF_INET
                    return ends == (socket.inet_pton(family, to), socket.inet_pton(family, source))
        return False


@pytest.fixture
def gateway(lab: Lab) -> Iterator[Gateway]:
    gateway = Gateway(lab)
    yield gateway
    gateway.close()


def serve(gateway: Gateway, changes: HostChanges) -> None:
    with inside(gateway.host):
        assert masquerade(NETWORKS, changes) == []


def lacking(gateway: Gateway, changes: HostChanges) -> list[str]:
    with inside(gateway.host):
        return not_forwarded(NETWORKS, changes)


def close(gateway: Gateway, changes: HostChanges) -> None:
    with inside(gateway.host):
        changes.close()


@pytest.mark.parametrize("version", [4, 6])
def test_a_device_without_a_route_back_answers_to_the_gateway(gateway: Gateway, version: int) -> None:
    changes = gateway.start()
    serve(gateway, changes)
    assert lacking(gateway, changes) == []
    for number, source in enumerate((FAR[version], BEHIND_FAR[version])):
        assert gateway.come_out(source, DEVICE[version], 4000 + number) == GATE[version]
        assert gateway.answered(source, DEVICE[version])
    close(gateway, changes)


@pytest.mark.parametrize("version", [4, 6])
def test_without_masquerade_a_device_sees_who_it_is(gateway: Gateway, version: int) -> None:
    gateway.start()
    assert gateway.host.nft("list ruleset") == ""
    for network in ("10.0.0.0/24", "fd00::/64"):
        gateway.device.add_route(network, GATE[6 if ":" in network else 4])
    assert gateway.come_out(FAR[version], DEVICE[version]) == FAR[version]
    assert gateway.answered(FAR[version], DEVICE[version])


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_else_is_masqueraded(gateway: Gateway, version: int) -> None:
    """Neither what goes to a network that is not offered, nor what goes into the tunnel."""
    changes = gateway.start()
    serve(gateway, changes)
    gateway.device.add_route("10.0.0.0/24" if version == 4 else "fd00::/64", GATE[version])
    assert gateway.come_out(FAR[version], OTHER_LAN[version]) == FAR[version]
    assert gateway.answered(FAR[version], DEVICE[version]), "by the way back, with the address there"
    close(gateway, changes)


def test_everything_is_as_before_in_the_end_and_after_a_crash(gateway: Gateway) -> None:
    before = gateway.host.traces()
    changes = gateway.start()
    with inside(gateway.host):
        changes.add_rules([RESETS])
    serve(gateway, changes)
    close(gateway, changes)
    assert gateway.host.traces() == before
    serve(gateway, gateway.start())  # of which nothing more is heard
    assert "masquerade" in gateway.host.nft("list ruleset")
    gateway.start()
    assert gateway.host.traces() == before
    assert gateway.complaints == []


def test_it_stands_beside_the_rules_of_fake_tcp_by_a_second_device(gateway: Gateway) -> None:
    """Both translate, each its own; and either can go first."""
    before = gateway.host.traces()
    changes = gateway.start()
    with inside(gateway.host):
        changes.add_rules([RESETS])
    serve(gateway, changes)
    spec = PortSpec(kind=PortKind.RAW, host="::", port=9000, dual_stack=True, extra={"backend": "tun"})
    with inside(gateway.host):
        port = open_raw(spec, changes)
    chains = gateway.host.nft("list ruleset")
    for name in ("segments", "resets", "inward", "outward", "passing", "behind"):
        assert f"chain {name} {{" in chains
    for version in (4, 6):
        assert gateway.come_out(FAR[version], DEVICE[version]) == GATE[version]
        assert gateway.answered(FAR[version], DEVICE[version])
    with inside(gateway.host):
        port.close()
        changes.stop_forwarding()
    assert "chain passing" not in gateway.host.nft("list ruleset")
    for version in (4, 6):
        assert gateway.come_out(FAR[version], DEVICE[version], 4001) == GATE[version]
    close(gateway, changes)
    assert gateway.host.traces() == before
    assert gateway.complaints == []


@pytest.mark.parametrize("version", [4, 6])
def test_forwarding_can_be_switched_while_fake_tcp_has_a_second_device(gateway: Gateway, version: int) -> None:
    """It forwards nothing else before, everything then, and nothing again when it is switched off."""
    gateway.host.sysctl({"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0})
    switch = SWITCHES[version]
    gateway.host.sysctl({switch: 1})
    before = gateway.host.traces()
    gateway.host.sysctl({switch: 0})
    port = RawPortOn(gateway.host, "::", 9000, backend="tun")
    serve(gateway, port.changes)
    port.settle()
    assert gateway.come_out(FAR[version], DEVICE[version], patience=0.3) is None
    for number, value in enumerate((1, 0, 1, 0)):
        gateway.host.sysctl({switch: value})
        port.settle()
        passing = gateway.host.nft("list chain inet ltunnel_tun0 passing")
        assert (f"nfproto ipv{version} iifname {{" in passing) == (not value)
        assert f"nfproto ipv{10 - version} iifname {{" in passing
        if value:
            assert gateway.come_out(FAR[version], DEVICE[version], 4000 + number) == GATE[version]
            assert gateway.answered(FAR[version], DEVICE[version])
        else:
            assert gateway.come_out(FAR[version], DEVICE[version], patience=0.3) is None
            single = "net.ipv4.conf.lan7.forwarding" if version == 4 else "net.ipv6.conf.lan7.force_forwarding"
            assert gateway.host.run("sysctl", "-n", single).stdout == "1\n", "for fake TCP"
    gateway.host.sysctl({switch: 1})  # in the last moment
    port.close()
    assert port.complaints == []
    assert gateway.host.traces() == before


def test_what_is_to_be_switched_on_is_named(gateway: Gateway) -> None:
    changes = gateway.start()
    gateway.host.sysctl({"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0})
    serve(gateway, changes)
    warnings = lacking(gateway, changes)
    assert [line.split("sysctl ")[1] for line in warnings] == [
        "-w net.ipv4.ip_forward=1", "-w net.ipv6.conf.all.forwarding=1",
    ]  # fmt: skip
    for line in warnings:
        gateway.host.run("sysctl", *line.split("sysctl ")[1].split())
    assert lacking(gateway, changes) == []
    for version in (4, 6):
        assert gateway.come_out(FAR[version], DEVICE[version]) == GATE[version]
    close(gateway, changes)
