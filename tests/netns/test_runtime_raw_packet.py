"""Packet sockets: neighbours, routes and devices that change, and packets that are not for us."""

import errno
import socket
import time
from collections.abc import Callable

import pytest

from lab import Host
from lab.raw import HUB, HUB6, NODE, NODE6, PUSH, RawPortOn, arrives, inside
from ltunnel.testing import packets

pytestmark = pytest.mark.netns

_TUNSETLINK = 0x400454CD
_PPP = 512

Open = Callable[..., RawPortOn]


def neighbour(host: Host, address: str) -> str:
    return host.run("ip", "neigh", "show", "to", address).stdout.strip()


def hardware(host: Host, device: str) -> str:
    return host.run("cat", f"/sys/class/net/{device}/address").stdout.strip()


# ---------------------------------------------------------------- neighbours


@pytest.mark.parametrize("to", [HUB, HUB6])
def test_packets_wait_for_a_neighbour_that_is_not_known(hosts, pair, to):
    hub, node = pair
    assert neighbour(hosts[1], to) == ""
    for payload in (b"first", b"second"):
        assert node.send(to, 9000, payload, flags=PUSH)
    deadline = time.monotonic() + 2
    got: list[bytes] = []
    while len(got) < 2 and time.monotonic() < deadline:
        node.settle(0.02)
        received = hub.receive(0.02)
        got += [received.payload] if received else []
    assert got == [b"first", b"second"]
    assert node.port.drops == {}


def test_packets_to_a_neighbour_that_is_not_there_are_lost_and_counted(pair):
    _, node = pair
    for _ in range(5):
        assert node.send("192.0.2.77", 9000, b"hello", flags=PUSH)
    deadline = time.monotonic() + 8
    while node.port.drops.get("unreachable", 0) < 5 and time.monotonic() < deadline:
        node.settle(0.1)
    assert node.port.drops == {"unreachable": 5}
    assert node.send("192.0.2.77", 9000, b"hello", flags=PUSH)  # it is asked for anew


def test_a_neighbour_that_comes_later_is_found(hosts, pair):
    hub, node = pair
    assert node.send("192.0.2.77", 9000, b"lost", flags=PUSH)
    deadline = time.monotonic() + 8
    while not node.port.drops and time.monotonic() < deadline:
        node.settle(0.1)
    hosts[0].add_address("eth0", "192.0.2.77/24")
    assert arrives(node, hub, "192.0.2.77")


def test_a_neighbour_with_another_card_is_followed(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    hosts[0].run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    hosts[0].run("arping", "-q", "-A", "-c", "1", "-I", "eth0", HUB, check=False)
    hosts[1].run("ip", "neigh", "replace", HUB, "dev", "eth0", "lladdr", "02:00:00:00:00:99", "nud", "reachable")
    node.settle(0.1)
    assert arrives(node, hub)


def test_a_stale_neighbour_is_asked_again_and_used_meanwhile(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    address = hardware(hosts[0], "eth0")
    hosts[1].run("ip", "neigh", "replace", HUB, "dev", "eth0", "lladdr", address, "nud", "stale")
    node.settle(0.1)
    assert "STALE" in neighbour(hosts[1], HUB)
    assert arrives(node, hub)
    assert any(state in neighbour(hosts[1], HUB) for state in ("DELAY", "PROBE", "REACHABLE"))


def test_a_permanent_neighbour_stays_permanent(hosts, pair):
    hub, node = pair
    address = hardware(hosts[0], "eth0")
    hosts[1].run("ip", "neigh", "replace", HUB, "dev", "eth0", "lladdr", address, "nud", "permanent")
    node.settle(0.1)
    assert arrives(node, hub)
    assert "PERMANENT" in neighbour(hosts[1], HUB)


# ---------------------------------------------------------------- routes, addresses, devices


def test_an_address_that_moves_to_another_interface_takes_the_packets_along(hosts, pair):
    hub, node = pair
    hosts[0].veth("eth1", hosts[1], "eth1")
    assert arrives(node, hub)
    for host, address in ((hosts[0], HUB), (hosts[1], NODE)):
        host.delete_address("eth0", f"{address}/24")
    node.settle(0.1)
    assert not node.send(HUB, 9000, b"lost", flags=PUSH, source=NODE)
    assert node.port.route(HUB) is None
    for host, address in ((hosts[0], HUB), (hosts[1], NODE)):
        host.add_address("eth1", f"{address}/24")
    node.settle(0.1)
    hub.settle(0.1)
    before = sent(hosts[1], "eth1")
    assert arrives(node, hub)
    assert sent(hosts[1], "eth1") > before
    assert node.port.drops == {"unreachable": 1}


def sent(host: Host, device: str) -> int:
    return int(host.run("cat", f"/sys/class/net/{device}/statistics/tx_packets").stdout)


def test_a_node_that_moves_sends_from_its_new_address(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    hosts[1].delete_address("eth0", f"{NODE}/24")
    hosts[1].add_address("eth0", "192.0.2.50/24")
    node.settle(0.1)
    assert not node.send(HUB, 9000, b"lost", flags=PUSH, source=NODE)
    assert node.port.route(HUB)[:2] == (socket.inet_aton("192.0.2.50"), 1500)
    assert arrives(node, hub)


def test_the_source_decides_where_rules_say_so(hosts, pair):
    """A hub with two uplinks answers by the one that it was asked by."""
    hub, node = pair
    hosts[0].veth("eth1", hosts[1], "eth1")
    hosts[0].add_address("eth1", "198.51.100.1/24")
    hosts[1].add_address("eth1", "198.51.100.2/24")
    hosts[0].add_route("203.0.113.0/24", NODE)
    hosts[0].run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.2", "table", "100")
    hosts[0].run("ip", "rule", "add", "from", "198.51.100.1", "lookup", "100")
    hosts[1].add_address("lo", "203.0.113.7/32")
    for source, device in ((HUB, "eth0"), ("198.51.100.1", "eth1")):
        hub.settle(0.1)
        assert hub.send("203.0.113.7", node.number, b"", flags=PUSH, source=source)
        hub.settle(0.1)
        assert node.receive() is not None
        before = sent(hosts[0], device)
        assert hub.send("203.0.113.7", node.number, b"", flags=PUSH, source=source)
        assert sent(hosts[0], device) == before + 1


def test_without_a_route_packets_are_lost_and_counted(pair):
    _, node = pair
    assert not node.send("203.0.113.1", 9000, bytes(3000), seg=1000, flags=PUSH, source=NODE)
    assert node.port.drops == {"unreachable": 3}


def test_a_device_that_goes_down_and_up_again(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    hosts[1].down("eth0")
    assert not node.send(HUB, 9000, b"lost", flags=PUSH, source=NODE)  # even before it has heard of it
    node.settle(0.1)
    assert not node.send(HUB, 9000, b"lost", flags=PUSH, source=NODE)
    hosts[1].up("eth0")
    node.settle(0.2)
    assert arrives(node, hub)


def test_a_device_that_is_replaced(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    hosts[1].run("ip", "link", "delete", "eth0")
    assert not node.send(HUB, 9000, b"lost", flags=PUSH, source=NODE)
    node.settle(0.1)
    assert node.port._outlets == {}
    hosts[0].veth("eth0", hosts[1], "eth0")
    hosts[0].add_address("eth0", f"{HUB}/24")
    hosts[1].add_address("eth0", f"{NODE}/24")
    node.settle(0.1)
    hub.settle(0.1)
    assert arrives(node, hub)


def test_segments_larger_than_the_link_are_refused(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    assert not node.send(HUB, 9000, bytes(20_000), seg=1461, flags=PUSH)
    assert not node.send(HUB, 9000, bytes(1600), seg=1600, flags=PUSH)
    assert node.port.drops == {"too big": 15}
    hosts[1].up("eth0", mtu=1300)
    node.settle(0.1)
    assert not node.send(HUB, 9000, bytes(2800), seg=1400, flags=PUSH)
    assert node.send(HUB, 9000, bytes(2520), seg=1260, flags=PUSH)
    assert len(hub.receive().payload) == 2520


def test_a_full_queue_loses_and_counts(hosts, pair):
    hub, node = pair
    assert arrives(node, hub)
    hosts[1].limit_rate("eth0", "1mbit")
    results = [node.send(HUB, 9000, bytes(14_000), flags=PUSH) for _ in range(400)]
    assert not all(results)
    assert node.port.drops == {"queue full": 10 * results.count(False)}


def test_where_memory_is_scattered_large_packets_go_in_pages(pair):
    """The kernel then has no block for as much as the virtio-net header asks to have in one piece."""
    hub, node = pair
    data = bytes(range(250)) * 200
    assert arrives(node, hub)
    assert node.send(HUB, 9000, data, flags=PUSH)
    ((shape, (head, size, send)),) = node.port._ways.items()
    asked: list[int] = []

    def without_blocks(packet: memoryview) -> int:
        asked.append(int.from_bytes(packet[2:4], "little"))
        if asked[-1] > 4096:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return send(packet)

    node.port._ways[shape] = head, size, without_blocks
    for _ in range(3):
        assert node.send(HUB, 9000, data, flags=PUSH)
    headers = 14 + 20 + 20
    assert asked == [len(data) + headers, headers, headers, headers]
    assert [hub.receive().payload for _ in range(4)] == [data] * 4
    assert node.port.drops == {}


def test_more_changes_than_netlink_keeps_are_survived(hosts, pair):
    """A machine that has many routes replaced at once: the cache is emptied, nothing raises."""
    hub, node = pair
    assert arrives(node, hub)
    batch = "".join(f"route add 10.{i >> 8}.{i & 255}.0/24 via {HUB}\n" for i in range(20_000))
    hosts[1].run("ip", "-batch", "-", text=batch, timeout=60)
    assert arrives(node, hub, patience=3)
    assert node.port.route("10.70.0.1")[:2] == (socket.inet_aton(NODE), 1500)


# ---------------------------------------------------------------- what is taken, and what is not


def test_only_whole_tcp_packets_to_our_numbers_and_addresses_are_taken(hosts, pair):
    hub, _ = pair
    hosts[0].sysctl({"net.ipv4.ip_forward": 1})  # a router sees packets to others
    for destination in (HUB, "203.0.113.5"):
        strange = [
            packets.tcp(NODE, destination, 4000, 9001, b"another number"),
            packets.udp(NODE, destination, 4000, 9000, b"another protocol"),
            fragment(packets.tcp(NODE, destination, 4000, 9000, b"more follows"), 0x2000),
            fragment(packets.tcp(NODE, destination, 4000, 9000, b"offset"), 0x0003),
        ]
        for packet in strange:
            frame(hosts, packet)
    frame(hosts, packets.tcp(NODE, "203.0.113.5", 4000, 9000, b"passing through"))
    frame(hosts, packets.tcp(NODE, HUB, 4000, 9000, b"another card"), to="02:00:00:00:00:55")
    frame(hosts, packets.tcp(NODE, HUB, 4000, 9000, b"broadcast"), to="ff:ff:ff:ff:ff:ff")
    frame(hosts, packets.tcp(NODE6, HUB6, 4000, 9001, b"another number"))
    frame(hosts, packets.udp(NODE6, HUB6, 4000, 9000, b"another protocol"))
    frame(hosts, packets.tcp(NODE6, "2001:db8::99", 4000, 9000, b"another address"))
    assert hub.receive(0.3) is None
    with_options = bytearray(packets.tcp(NODE, HUB, 4000, 9000, b"options"))
    with_options = with_options[:1] + with_options[1:]
    with_options[0] = 0x46
    with_options[2:4] = (len(with_options) + 4).to_bytes(2, "big")
    with_options[20:20] = b"\x01\x01\x01\x00"
    frame(hosts, bytes(with_options))
    assert hub.receive().payload == b"options"
    frame(hosts, packets.tcp(NODE, HUB, 4000, 9000, b"wrong checksum")[:-1] + b"!")
    assert hub.receive().payload == b"wrong checksu!"
    frame(hosts, packets.tcp("255.255.255.255", HUB, 4000, 9000, b"wrong source"))
    assert hub.receive().source == ("255.255.255.255",)
    frame(hosts, packets.tcp(NODE6, HUB6, 4000, 9000, b"good"))
    assert hub.receive().payload == b"good"


def test_a_port_is_one_handler_for_each_ip_version_whatever_it_listens_for(hosts, open_port):
    """The kernel asks every handler about every packet of the machine."""
    hub, node = hosts
    port, other = open_port(hub, numbers=300, rules=False), open_port(hub, port=9000)
    lines = [line.split() for line in hub.run("cat", "/proc/net/ptype").stdout.splitlines()]
    kinds = [kind for kind, *_, function in lines if function.startswith("packet_rcv")]
    assert sorted(kinds) == ["0800", "0800", "86dd", "86dd"]
    sender = open_port(node)
    assert arrives(sender, other)
    for to in (HUB, HUB6):
        for number in (*port.port.numbers[:2], port.port.numbers[-1]):
            for flags in (packets.SYN, PUSH):
                assert sender.send(to, number, b"x", flags=flags)
                sender.settle(0.05)
                got = port.receive()
                assert (got.ports[1], got.flags, got.payload) == (number, flags, b"x")
    assert other.receive(0.1) is None
    assert port.receive(0.1) is None


def fragment(packet: bytes, word: int) -> bytes:
    return packet[:6] + word.to_bytes(2, "big") + packet[8:]


def frame(hosts: tuple[Host, Host], packet: bytes, to: str | None = None) -> None:
    """Put a frame on the wire as it is."""
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    target = bytes.fromhex((to or hardware(hosts[0], "eth0")).replace(":", ""))
    source = bytes.fromhex(hardware(hosts[1], "eth0").replace(":", ""))
    with inside(hosts[1]), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        wire.send(target + source + kind.to_bytes(2, "big") + packet)


def test_both_ip_versions_have_their_turn_under_load(pair):
    hub, node = pair
    assert arrives(node, hub)
    assert arrives(node, hub, HUB6)
    for _ in range(600):
        node.send(HUB, 9000, b"four", flags=PUSH)
    node.send(HUB6, 9000, b"six", flags=PUSH)
    order = []
    while "2001:db8::2" not in order:
        got = hub.receive()
        assert got is not None
        order.append(got.source[0])
    assert len(order) < 600


def test_strangers_do_not_make_it_remember_without_end(hosts, pair):
    hub, _ = pair
    with inside(hosts[1]), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        ends = bytes.fromhex((hardware(hosts[0], "eth0") + hardware(hosts[1], "eth0")).replace(":", "")) + b"\x08\x00"
        template = bytearray(packets.tcp("10.0.0.0", HUB, 4000, 9000, b"x"))
        buf = memoryview(bytearray(70_000))
        seen: set[tuple] = set()
        for number in range(6000):
            template[13:16] = number.to_bytes(3, "big")
            wire.send(ends + template)
            if number % 100 == 99:
                seen |= drain(hub, buf)
    assert len(seen) == 6000
    assert len(hub.port._sources) <= 4096
    for number in range(5000):
        hub.port.route(f"10.1.{number >> 8}.{number & 255}")
    assert len(hub.port._routes._found) <= 4096


def drain(port: RawPortOn, buf: memoryview) -> set[tuple]:
    """Take all that waits; return its sources."""
    seen = set()
    try:
        while True:
            seen.add(port.port.recv(buf, 0)[3])
    except BlockingIOError:
        return seen
