"""Packet sockets on devices of all kinds, and the kernel's own resets."""

import fcntl
import socket
import time
from collections.abc import Callable

import pytest

from lab.raw import HUB, HUB6, PUSH, RawPortOn, arrives, inside
from ltunnel.runtime.tun import open_tun
from ltunnel.testing import packets
from ltunnel.testing.offload import VirtioHeader, complete, offload

pytestmark = pytest.mark.netns

_TUNSETLINK = 0x400454CD
_PPP = 512

Open = Callable[..., RawPortOn]


def test_resets_of_the_kernel_are_kept_in_by_the_rule_alone(hosts, open_port):
    node = open_port(hosts[1])
    for rules in (False, True):
        hub = open_port(hosts[0], port=9000, rules=rules)
        for to in (HUB, HUB6):
            assert arrives(node, hub, to)
            node.settle(0.1)
            assert node.send(to, 9000, b"once more", flags=PUSH)
            answer = node.receive(0.3)
            assert (answer is None) is rules
            assert answer is None or answer.flags & packets.RST
            assert hub.receive().payload == b"once more"
        hub.close()


# ---------------------------------------------------------------- other devices


def test_loopback_is_a_network_too(hosts, open_port):
    hub, node = open_port(hosts[0], port=9000), open_port(hosts[0], device="tun1")
    for to in ("127.0.0.1", "::1", HUB):
        assert node.send(to, 9000, bytes(30_000), seg=1000, flags=PUSH, sport=node.number)
        got = hub.receive()
        assert (len(got.payload), got.seg, got.source) == (30_000, 1000, (to,))


def test_a_device_without_link_header(hosts, open_port):
    """As LTE modems and other tunnels are: the packet is all there is."""
    node_host = hosts[1]
    with inside(node_host):
        modem = open_tun("wwan0")
    node_host.up("wwan0")
    for address in ("10.9.0.1/24", "fd09::1/64"):
        node_host.add_address("wwan0", address)
    node = open_port(node_host)
    for own, far in (("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")):
        sent_data = bytes(range(250)) * 20
        assert node.send(far, 9000, sent_data, seg=1000, flags=PUSH, source=own)
        whole = read_tcp(modem)
        assert b"".join(packets.parse(part).payload for part in complete(*whole)) == sent_data
        header, packet = offload(packets.tcp(far, own, 9000, node.number, sent_data, flags=PUSH), 1000)
        assert modem.write([header.pack() + packet])
        got = node.receive()
        assert (got.payload, got.seg, got.source) == (sent_data, 1000, (far,))
        assert modem.write([bytes(10) + packets.tcp(far, own, 9000, node.number, b"", flags=packets.SYN)])
        assert node.receive().flags == packets.SYN
    modem.close()


def read_tcp(modem) -> tuple[VirtioHeader, bytes]:
    """Return the next TCP packet that leaves by a device."""
    buf = memoryview(bytearray(70_000))
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            size = modem.read(buf, 0)
        except BlockingIOError:
            continue
        packet = bytes(buf[10:size])
        if packet[6 if packet[0] >> 4 == 6 else 9] == packets.TCP:
            return VirtioHeader.unpack(bytes(buf[:10])), packet
    raise AssertionError("nothing came")


def test_a_device_with_a_header_that_is_not_known(hosts, open_port):
    node_host = hosts[1]
    with inside(node_host):
        line = open_tun("ppp0")
    fcntl.ioctl(line.fileno(), _TUNSETLINK, _PPP)
    node_host.up("ppp0")
    node_host.add_address("ppp0", "10.9.0.1/24")
    node = open_port(node_host)
    assert node.port.route("10.9.0.2")[:2] == (socket.inet_aton("10.9.0.1"), 1500)
    assert not node.send("10.9.0.2", 9000, bytes(2000), seg=1000, flags=PUSH)
    assert node.port.drops == {"no Ethernet": 2}
    for flags in (PUSH, packets.SYN):
        assert line.write([bytes(10) + packets.tcp("10.9.0.2", "10.9.0.1", 9000, node.number, b"x", flags=flags)])
    assert node.receive(0.3) is None
    line.close()


def test_a_macvlan_is_a_device_like_others(hosts, pair):
    hub, node = pair
    hosts[0].run("ip", "link", "add", "link", "eth0", "name", "mac0", "type", "macvlan", "mode", "bridge")
    hosts[0].up("mac0")
    hosts[0].add_address("mac0", "10.8.0.1/24")
    hosts[1].add_address("eth0", "10.8.0.2/24")
    node.settle(0.1)
    hub.settle(0.1)
    assert arrives(node, hub, "10.8.0.1")
    assert node.send("10.8.0.1", 9000, bytes(14_000), flags=PUSH)
    assert len(hub.receive().payload) == 14_000
    assert hub.receive(0.2) is None


def test_a_bridge_delivers_once(hosts, pair):
    hub, node = pair
    bridge = hosts[0]
    bridge.delete_address("eth0", f"{HUB}/24")
    bridge.run("ip", "link", "add", "br0", "type", "bridge")
    bridge.run("ip", "link", "set", "eth0", "master", "br0")
    bridge.up("br0")
    bridge.add_address("br0", f"{HUB}/24")
    hub.settle(0.1)
    node.settle(0.1)
    assert arrives(node, hub, patience=2)
    assert hub.receive(0.2) is None
