"""RAW ports on a real kernel: packets there and back, by either backend."""

import errno
import os
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from lab import Host, Lab
from lab.raw import RawPortOn, inside
from ltunnel.errors import HostError
from ltunnel.plugin import PortKind, PortSpec
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.ports import open_ports
from ltunnel.testing import packets

pytestmark = pytest.mark.netns

HUB, NODE = {4: "192.0.2.1", 6: "2001:db8::1"}, {4: "192.0.2.2", 6: "2001:db8::2"}
PLAIN = {"tx": False, "tso": False, "gso": False, "gro": False}
PUSH = packets.ACK | packets.PSH

Open = Callable[..., RawPortOn]


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Two hosts on one link."""
    hub, node = lab.host("hub", ipv6=True), lab.host("node", ipv6=True)
    hub.veth("eth0", node, "eth0")
    for host, addresses in ((hub, HUB), (node, NODE)):
        host.add_address("eth0", f"{addresses[4]}/24")
        host.add_address("eth0", f"{addresses[6]}/64")
    return hub, node


@pytest.fixture
def open_port() -> Iterator[Open]:
    opened = []

    def open_one(*args: object, **kwargs: object) -> RawPortOn:
        opened.append(RawPortOn(*args, **kwargs))
        return opened[-1]

    yield open_one
    for port in opened:
        port.close()
        assert port.complaints == []


@pytest.fixture(params=["packet", "tun"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def pair(hosts: tuple[Host, Host], open_port: Open, backend: str) -> tuple[RawPortOn, RawPortOn]:
    """A hub's port and a node's."""
    hub, node = hosts
    return open_port(hub, "::", 9000, backend=backend), open_port(node, "::", backend=backend)


def data(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def connect(pair: tuple[RawPortOn, RawPortOn]) -> Callable[[int], tuple[str, int]]:
    """Shake hands, so that connection tracking lets the rest pass; returns how the hub sees the node."""
    hub, node = pair

    def connected(version: int) -> tuple[str, int]:
        assert node.send(HUB[version], 9000, b"", flags=packets.SYN, seq=99)
        node.settle(0.1)
        syn = hub.receive()
        assert (syn.ports[1], syn.flags) == (9000, packets.SYN)
        back = syn.source[0], syn.ports[0]
        assert hub.send(*back, b"", flags=packets.SYN | packets.ACK, seq=199, ack=100)
        hub.settle(0.1)
        assert node.receive().flags == packets.SYN | packets.ACK
        assert node.send(HUB[version], 9000, b"", seq=100, ack=200)
        assert hub.receive() is not None
        return back

    return connected


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "plain"])
@pytest.mark.parametrize("version", [4, 6])
def test_super_packets_go_both_ways(hosts, pair, connect, version, offloads):
    if not offloads:
        for host in hosts:
            host.offload("eth0", PLAIN)
    hub, node = pair
    back = connect(version)
    for sender, receiver, to, numbers in (
        (node, hub, (HUB[version], 9000), {"seq": 100, "ack": 200}),
        (hub, node, back, {"seq": 200, "ack": 100}),
    ):
        sent = data(30_500)
        assert sender.send(*to, sent, flags=PUSH, window=65_535, **numbers)
        got = []
        while sum(len(part.payload) for part in got) < len(sent):
            got.append(receiver.receive(pos=7))
            assert got[-1] is not None, f"{len(got)} packets came"
        assert b"".join(part.payload for part in got) == sent
        assert {part.source for part in got} == {((NODE if sender is node else HUB)[version],)}
        assert [part.seg for part in got] == [1400]  # joined by the port where nobody else does it
        assert receiver.receive(0.1) is None
    assert hub.port.drops == node.port.drops == {}


@pytest.mark.parametrize("version", [4, 6])
def test_on_the_wire_every_checksum_is_right(hosts, pair, connect, version):
    for host in hosts:
        host.offload("eth0", PLAIN)
    connect(version)
    with inside(hosts[0]):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons({4: 0x0800, 6: 0x86DD}[version]))
    with wire:
        wire.settimeout(2)
        sent = data(9_000)
        assert pair[1].send(HUB[version], 9000, sent, seg=1000, seq=100, ack=200, flags=PUSH, ident=7)
        found = b""
        while len(found) < len(sent):
            frame = wire.recv(2000)
            segment = packets.parse(frame[14:])  # raises for a wrong checksum or length
            if segment.protocol == packets.TCP:
                assert segment.seq == 100 + len(found)
                assert segment.flags == (PUSH if len(found) == 8_000 else packets.ACK)
                found += segment.payload
        assert found == sent


def test_an_odd_one_and_a_lone_one(pair, connect):
    hub, node = pair
    connect(4)
    for payload in (b"", b"x", data(1399)):
        assert node.send(HUB[4], 9000, payload, seq=100, ack=200)
        got = hub.receive()
        assert (got.payload, got.seg, got.source) == (payload, 0, (NODE[4],))


def test_others_cannot_take_the_number(hosts, pair):
    with inside(hosts[0]):
        other, nosy = socket.socket(), socket.socket()
    with other, nosy:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use") as caught:
            other.bind(("0.0.0.0", 9000))
        assert caught.value.errno == errno.EADDRINUSE
        nosy.settimeout(0.2)
        with pytest.raises(TimeoutError):  # nothing listens, and nothing says so
            nosy.connect((HUB[4], 9000))


def test_a_closed_port_gives_the_number_back(hosts, open_port, backend):
    open_port(hosts[0], "0.0.0.0", 9000, backend=backend).close()
    with inside(hosts[0]), socket.create_server((HUB[4], 9000)):
        pass


def test_a_number_in_use_is_explained(hosts, backend, tmp_path):
    with inside(hosts[0]), socket.create_server(("0.0.0.0", 9000)):
        changes = HostChanges(tmp_path, "tun0", pytest.fail)
        spec = PortSpec(kind=PortKind.RAW, host="0.0.0.0", port=9000, extra={"backend": backend})
        with pytest.raises(HostError, match=rf"TCP port 0\.0\.0\.0:9000 is in use by .*\(pid {os.getpid()}\)"):
            open_ports([spec], changes)


def test_an_address_that_is_not_ours_is_explained(hosts, backend, tmp_path):
    with inside(hosts[0]):
        changes = HostChanges(tmp_path, "tun0", pytest.fail)
        spec = PortSpec(kind=PortKind.RAW, host="203.0.113.7", port=9000, extra={"backend": backend})
        with pytest.raises(HostError, match=r"203\.0\.113\.7 is not an address of this machine"):
            open_ports([spec], changes)


def test_several_numbers_are_open_at_once(hosts, open_port, backend):
    hub = open_port(hosts[0], "0.0.0.0", 9000, backend=backend)
    node = open_port(hosts[1], "0.0.0.0", backend=backend, numbers=4)
    assert len(set(node.port.numbers)) == 4
    assert node.port.local == ("0.0.0.0", node.port.numbers[0])
    for sport in node.port.numbers:
        assert node.send(HUB[4], 9000, b"", sport=sport, flags=packets.SYN, seq=1)
        node.settle(0.1)
        assert hub.receive().ports[0] == sport
        assert hub.send(NODE[4], sport, b"", flags=packets.SYN | packets.ACK, seq=1, ack=2)
        hub.settle(0.1)
        assert node.receive().ports[1] == sport


def test_secrets_differ(hosts, open_port, backend):
    ports = [open_port(hosts[0], "0.0.0.0", backend=backend, device=device) for device in ("tun0", "tun1")]
    assert len({port.port.secret for port in ports}) == 2
    assert {len(port.port.secret) for port in ports} == {32}


def test_a_port_for_one_address_serves_that_alone(hosts, open_port, backend):
    hosts[0].add_address("eth0", "192.0.2.9/24")
    hub = open_port(hosts[0], "192.0.2.9", 9000, backend=backend)
    node = open_port(hosts[1], "0.0.0.0", backend=backend)
    assert hub.port.route(HUB[6]) is None
    for address in ("192.0.2.9", HUB[4]):
        assert node.send(address, 9000, b"", flags=packets.SYN, seq=1)
        node.settle(0.1)
    got = hub.receive()
    assert got.flags == packets.SYN
    assert hub.receive(0.3) is None
    assert hub.send(NODE[4], node.number, b"", flags=packets.SYN | packets.ACK, seq=1, ack=2)
    hub.settle(0.1)
    assert node.receive().source == ("192.0.2.9",)


def test_routes_are_told_as_they_are(hosts, pair, backend):
    _, node = pair
    host = hosts[1]
    own, mtu, _ = node.port.route(HUB[4])
    assert mtu == 1500
    assert (own == socket.inet_aton(NODE[4])) == (backend == "packet")
    assert node.port.route("203.0.113.1") is None
    assert node.port.route("not an address") is None
    host.add_route("203.0.113.0/24", HUB[4])
    node.settle(0.1)
    assert node.port.route("203.0.113.1")[:2] == (own, 1500)
    host.run("ip", "route", "change", "203.0.113.0/24", "via", HUB[4], "mtu", "1280")
    node.settle(0.1)
    assert node.port.route("203.0.113.1")[:2] == (own, 1280)
    host.run("ip", "route", "replace", "unreachable", "203.0.113.0/24")
    host.run("ip", "route", "delete", "203.0.113.0/24", "via", HUB[4], check=False)
    node.settle(0.1)
    assert node.port.route("203.0.113.1") is None
    host.up("eth0", mtu=1400)
    node.settle(0.1)
    assert node.port.route(HUB[4])[:2] == (own, 1400)
