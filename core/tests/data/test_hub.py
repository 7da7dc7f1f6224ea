"""What comes to a hub in the session with a node, and is not for the hub."""

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
    assert [p.payload for p in hub.tun.parsed()] == [b"y", b"z"], "what is for elsewhere is for the hub's kernel"
    assert hub.stats.drops == {Drop.NO_ROUTE: 2}
    left.take(hub, [datagram for _, datagram in back])
    assert [(a.source, a.icmp_type) for a in left.tun.parsed()] == [("10.0.0.1", 3)] * 2


def test_an_address_nobody_has_is_answered_with_unreachable(net):
    hub, left, _ = net.star()
    left.tun.inject(packets.udp("10.0.0.2", "10.0.0.77", 1, 2, b"x"))
    left.tun.inject(packets.udp("fd00::2", "fd00::77", 1, 2, b"x"))
    back = hub.take(left, [datagram for _, datagram in left.pump()])
    left.take(hub, [datagram for _, datagram in back])
    answers = left.tun.parsed()
    assert [(a.source, a.icmp_type) for a in answers] == [("10.0.0.1", 3), ("fd00::1", 1)]
    assert hub.stats.drops == {Drop.NO_ROUTE: 2}
