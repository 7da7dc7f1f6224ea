"""The second TUN device: what it changes on its host, that it changes no more, and that it changes it back."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from lab import Host, Lab
from lab.raw import RawPortOn, inside
from ltunnel.errors import HostError
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.testing import packets

pytestmark = pytest.mark.netns

HUB, NODE = "192.0.2.1", "192.0.2.2"

Open = Callable[..., RawPortOn]


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Two hosts on one link."""
    hub, node = lab.host("hub", ipv6=True), lab.host("node", ipv6=True)
    hub.veth("eth0", node, "eth0")
    for host, address in ((hub, HUB), (node, NODE)):
        host.add_address("eth0", f"{address}/24")
    return hub, node


@pytest.fixture
def open_port() -> Iterator[Open]:
    opened = []

    def open_one(host: Host, *args: object, backend: str = "tun", **kwargs: object) -> RawPortOn:
        opened.append(RawPortOn(host, *args, backend=backend, **kwargs))
        return opened[-1]

    yield open_one
    for port in opened:
        port.close()


def setting(host: Host, name: str) -> str:
    return host.run("sysctl", "-n", name).stdout.strip()


def greets(node: RawPortOn, hub: RawPortOn, to: str = HUB) -> bool:
    assert node.send(to, 9000, b"", flags=packets.SYN, seq=1)
    node.settle(0.1)
    return hub.receive(0.5) is not None


def test_everything_is_as_before_in_the_end(hosts, open_port):
    before = hosts[0].traces()
    for address in ("::", "0.0.0.0", HUB):
        open_port(hosts[0], address, 9000).close()
        assert hosts[0].traces() == before


def test_single_interfaces_forward_and_the_machine_does_not(hosts, open_port):
    host = hosts[0]
    open_port(host, "::", 9000)
    assert setting(host, "net.ipv4.ip_forward") == "0"
    assert setting(host, "net.ipv4.conf.default.forwarding") == "0"
    assert setting(host, "net.ipv4.conf.eth0.forwarding") == "1"
    assert setting(host, "net.ipv6.conf.all.forwarding") == "0"
    assert setting(host, "net.ipv6.conf.eth0.forwarding") == "0"
    assert setting(host, "net.ipv6.conf.eth0.force_forwarding") == "1"
    shown = host.run("ip", "link", "show", "tun0-tcp").stdout
    assert "mtu 65535" in shown
    assert "qlen 5000" in shown


@pytest.mark.parametrize("routes_anyway", [False, True])
def test_nothing_else_is_forwarded_than_was_before(hosts, lab, open_port, routes_anyway):
    """A host that becomes a router only for its port does not become one for its neighbours."""
    host = hosts[0]
    behind = lab.host("behind")
    host.veth("lan0", behind, "eth0")
    host.add_address("lan0", "10.1.0.1/24")
    behind.add_address("eth0", "10.1.0.2/24")
    behind.add_route("0.0.0.0/0", "10.1.0.1")
    hosts[1].add_route("10.1.0.0/24", HUB)
    if routes_anyway:
        host.sysctl({"net.ipv4.ip_forward": 1})
    before = host.traces()
    port = open_port(host, "0.0.0.0", 9000)
    ping = hosts[1].run("ping", "-c", "2", "-i", "0.1", "-W", "1", "10.1.0.2", check=False)
    assert (ping.returncode == 0) is routes_anyway
    assert greets(open_port(hosts[1], "0.0.0.0", backend="packet"), port)
    port.close()
    assert host.traces() == before


def test_an_interface_that_appears_is_served(hosts, open_port):
    before = hosts[0].traces()
    hub, node = open_port(hosts[0], "0.0.0.0", 9000), open_port(hosts[1], "0.0.0.0", backend="packet")
    hosts[0].veth("eth1", hosts[1], "eth1")
    hosts[0].add_address("eth1", "198.51.100.1/24")
    hosts[1].add_address("eth1", "198.51.100.2/24")
    hub.settle(0.2)
    node.settle(0.2)
    assert setting(hosts[0], "net.ipv4.conf.eth1.forwarding") == "1"
    assert greets(node, hub, "198.51.100.1")
    hosts[0].run("ip", "link", "delete", "eth1")
    hub.settle(0.2)
    hub.close()
    assert hub.complaints == []
    assert hosts[0].traces() == before


def test_what_somebody_else_set_meanwhile_stays(hosts, open_port):
    hub = open_port(hosts[0], "0.0.0.0", 9000)
    hosts[0].sysctl({"net.ipv4.conf.eth0.forwarding": 0})
    hub.close()
    assert setting(hosts[0], "net.ipv4.conf.eth0.forwarding") == "0"


def test_without_ipv6_there_is_ipv4(lab, open_port):
    host = lab.host("old")
    host.veth("eth0", lab.host("other"), "eth0")
    host.add_address("eth0", f"{HUB}/24")
    port = open_port(host, "::", 9000)
    assert port.port.route(NODE) is not None
    assert port.port.route("2001:db8::2") is None
    assert port.complaints == []


def test_a_kernel_that_forwards_ipv6_only_as_a_whole(hosts, open_port, monkeypatch):
    """Before Linux 6.17: forwarding for all interfaces costs a host its router's advertisements, so it is not set."""
    read = HostChanges.setting
    monkeypatch.setattr(
        HostChanges, "setting", lambda self, name: None if "force_forwarding" in name else read(self, name)
    )
    with pytest.raises(HostError, match=r"backend tun needs net\.ipv6\.conf\.all\.forwarding"):
        open_port(hosts[0], "::1", 9000)
    port = open_port(hosts[0], "::", 9000)
    assert port.port.route("2001:db8::2") is None
    (complaint,) = port.complaints
    assert complaint.startswith("serving IPv4 only: ")
    port.close()
    hosts[0].sysctl({"net.ipv6.conf.all.forwarding": 1})
    hosts[0].add_address("eth0", "2001:db8::1/64")
    port = open_port(hosts[0], "::", 9000)
    assert port.port.route("2001:db8::2") is not None
    assert port.complaints == []


def test_other_packets_into_the_device_are_left_out(hosts, open_port):
    host = hosts[0]
    hub = open_port(host, "0.0.0.0", 9000)
    inner = str(ip_address(hub.port.route(NODE)[0]))
    with inside(host):
        host.run("ping", "-c", "1", "-W", "0.2", inner, check=False)
        host.run(
            "bash",
            "-c",
            f"exec 3<>/dev/udp/{inner}/9000; echo hello >&3; timeout 0.3 bash -c '</dev/tcp/{inner}/9001'",
            check=False,
        )
    assert hub.receive(0.3) is None


def test_a_malformed_packet_is_refused_and_counted(hosts, open_port):
    hub = open_port(hosts[0], "0.0.0.0", 9000)
    buf = memoryview(bytearray(300))
    buf[128] = 1
    buf[134:136] = b"\xff\xff"  # a checksum beyond the packet
    assert not hub.port.send(buf, 128, 200, 100, (NODE,))
    assert hub.port.drops == {"refused": 1}


def test_the_name_of_the_device_is_taken(hosts, open_port):
    before = hosts[0].traces()
    hosts[0].run("ip", "link", "add", "tun0-tcp", "type", "bridge")
    with pytest.raises(HostError, match="interface named tun0-tcp already"):
        open_port(hosts[0], "0.0.0.0", 9000)
    hosts[0].run("ip", "link", "delete", "tun0-tcp")
    assert hosts[0].traces() == before


def test_a_start_that_fails_half_way_takes_everything_back(hosts, open_port, monkeypatch):
    before = hosts[0].traces()
    change = HostChanges.change_setting

    def fail_at_the_last(self: HostChanges, name: str, value: str) -> None:
        if "tun0-tcp" in name:
            raise HostError("no more")
        change(self, name, value)

    monkeypatch.setattr(HostChanges, "change_setting", fail_at_the_last)
    undone = []
    monkeypatch.setattr(HostChanges, "close", lambda _: undone.append(hosts[0].traces()))  # it goes on without the port
    with pytest.raises(HostError, match="no more"):
        open_port(hosts[0], "0.0.0.0", 9000)
    now = undone[0] if undone else hosts[0].traces()
    assert now["settings"] == before["settings"]
    assert now["links"] == before["links"]
    assert not any("chain" in line for line in now["nft"])
    monkeypatch.undo()
    with inside(hosts[0]):
        HostChanges(hosts[0].folder, "tun0", pytest.fail)
    assert hosts[0].traces() == before


def test_a_long_name_has_room_for_a_second_device(hosts, open_port):
    open_port(hosts[0], "0.0.0.0", 9000, device="fifteen-letters")
    assert "fifteen-let-tcp" in hosts[0].run("ip", "link").stdout
