"""What comes to a hub in the session with a node, and is not for the hub."""

from ipaddress import ip_address

from core.tests.data.pieces import to_peer
from ltunnel.session import Drop
from ltunnel.testing import packets


def test_a_hub_takes_nothing_readable_for_another_node(net):
    hub, left, _ = net.star()
    small = packets.udp("10.0.0.2", "10.0.0.3", 1, 2, b"x")
    for packet, seg in (
        (small, None),
        (packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(5000)), 1300),
        (packets.udp("10.0.0.2", "10.0.0.1", 1, 2, b"y"), None),
        (packets.udp("10.0.0.2", "192.0.2.99", 1, 2, b"z"), None),
    ):
        left.fib.cache[packet[16:20]] = left.fib.lookup(bytes((10, 0, 0, 1)))
        left.tun.inject(packet, gso_size=seg)
    back = hub.take(left, [datagram for _, datagram in left.pump()])
    assert {to for to, _ in back} == {left.endpoint}
    assert [p.payload for p in hub.tun.parsed()] == [b"y"]
    assert hub.stats.drops == {Drop.NO_ROUTE: 2}
    assert to_peer(hub, left).stats.drops == {Drop.DESTINATION: 1}, "a hub is no way out of the tunnel"
    assert to_peer(hub, left).stats.rx_packets == 1
    left.take(hub, [datagram for _, datagram in back])
    assert [(a.source, a.icmp_type) for a in left.tun.parsed()] == [("10.0.0.1", 3)] * 2


def test_a_hub_takes_what_is_for_a_network_behind_it(net):
    hub, left, _ = net.star(routes=("172.16.0.0/12",))
    for address in ("172.16.0.9", "172.32.0.9", "10.0.0.3"):
        left.fib.cache[ip_address(address).packed] = left.fib.lookup(bytes((10, 0, 0, 1)))
        left.tun.inject(packets.udp("10.0.0.2", address, 1, 2, address.encode()))
    hub.take(left, [datagram for _, datagram in left.pump()])
    assert [p.payload for p in hub.tun.parsed()] == [b"172.16.0.9"]
    assert to_peer(hub, left).stats.drops == {Drop.DESTINATION: 1}
    assert hub.stats.drops == {Drop.NO_ROUTE: 1}


def test_an_address_nobody_has_is_answered_with_unreachable(net):
    hub, left, _ = net.star()
    left.tun.inject(packets.udp("10.0.0.2", "10.0.0.77", 1, 2, b"x"))
    left.tun.inject(packets.udp("fd00::2", "fd00::77", 1, 2, b"x"))
    back = hub.take(left, [datagram for _, datagram in left.pump()])
    left.take(hub, [datagram for _, datagram in back])
    answers = left.tun.parsed()
    assert [(a.source, a.icmp_type) for a in answers] == [("10.0.0.1", 3), ("fd00::1", 1)]
    assert hub.stats.drops == {Drop.NO_ROUTE: 2}
