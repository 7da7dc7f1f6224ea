"""Every byte arrives where it belongs, whatever devices, ports, MTUs and networks lie between."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.testing import PortSettings, Quality, SimNode, Transfer, World, packets
from ltunnel.testing.packets import SYN, TCP, UDP

MakeWorld = Callable[..., World]

RELAYED = DATA_OVERHEAD + RELAY_TRAILER
"""How much less goes into a datagram between nodes than into one to the hub."""

deterministic = settings(
    derandomize=True, max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ports = st.builds(PortSettings, gro=st.booleans(), gro_limit=st.sampled_from([2, 7, 64]))
devices = st.fixed_dictionaries({
    "offload": st.booleans(), "uso": st.booleans(), "mtu": st.sampled_from([1280, 1281, 1392, 1400]), "ports": ports,
})  # fmt: skip
bad = st.builds(
    Quality, delay=st.just(0.01), jitter=st.sampled_from([0.0, 0.003]), loss=st.sampled_from([0.0, 0.02, 0.2]),
    reorder=st.sampled_from([0.0, 0.05, 0.5]), duplicate=st.sampled_from([0.0, 0.1]), hold=st.just(0.01),
)  # fmt: skip
burst = st.tuples(
    st.integers(0, 3),  # which transfer
    st.one_of(st.integers(1, 3000), st.integers(3000, 63_000)),
    st.sampled_from([0, 0, 0, 1, 517, 900]),  # how much less than the largest segment
)


def build(make_world: MakeWorld, machines: list[dict[str, object]], quality: Quality) -> tuple[World, list[SimNode]]:
    world = make_world()
    world.add_hub(**machines[0])
    nodes = [
        world.add_node(name, quality=Quality(delay=0.01), **how) for name, how in zip("ab", machines[1:], strict=True)
    ]
    world.start()
    assert world.run(10, until=world.all_up)
    assert world.meet(*nodes)
    for node in nodes:
        node.link.up.quality = node.link.down.quality = quality
    return world, nodes


def send(transfer: Transfer, length: int, less: int, mtu: int, version: int) -> None:
    """Send a packet whose segments or datagrams fit every MTU on the way."""
    headers = (20 if version == 4 else 40) + (20 if transfer.protocol == TCP else 8)
    transfer.send(length, mss=mtu - headers - less)


@deterministic
@given(machines=st.lists(devices, min_size=3, max_size=3), quality=bad, bursts=st.lists(burst, min_size=1, max_size=25),
       pauses=st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.02]), min_size=1, max_size=5))  # fmt: skip
def test_byte_exact(make_world, machines, quality, bursts, pauses):
    """TCP and UDP, IPv4 and IPv6, node through hub to node and node to hub, mixed: right bytes, once each, or lost."""
    world, (a, b) = build(make_world, machines, quality)
    hub = world.nodes[0]
    mtu = min(machine.settings.mtu for machine in world.nodes) - RELAYED
    kinds = [(a, b, TCP, 4), (a, b, UDP, 4), (b, hub, TCP, 6), (a, b, UDP, 6)]
    transfers = [
        Transfer(one, other, protocol=protocol, version=version, port=5001 + i, seed=i)
        for i, (one, other, protocol, version) in enumerate(kinds)
    ]
    for i, (which, length, less) in enumerate(bursts):
        _, _, protocol, version = kinds[which]
        if protocol == UDP:
            length = min(length, 20 * (mtu - 48 - less))
        send(transfers[which], length, less, mtu, version)
        world.run(pauses[i % len(pauses)])
    world.run(2)
    for transfer in transfers:
        share = transfer.check()
        assert transfer.repeats == 0, "something arrived twice"
        if not quality.loss and transfer.received:
            assert share == 1.0
    for machine in world.nodes:
        assert not machine.tun.refused, machine.tun.refused
        assert set(machine.drops()) <= {"replayed"}, machine.drops()


@pytest.mark.parametrize("loss", [0.01, 0.1])
def test_loss_costs_what_is_lost_and_no_more(make_world: MakeWorld, loss: float):
    """A lost datagram costs one row of its super-packet, not the super-packet."""
    world, (a, b) = build(make_world, [{}, {}, {}], Quality(delay=0.01, loss=loss, reorder=0.01, hold=0.005))
    transfer = Transfer(a, b)
    for _ in range(60):
        transfer.send(60_000)
        world.run(0.05)
    assert transfer.check() == pytest.approx((1 - loss) ** 2, abs=0.012)


def test_super_packets_stay_super(make_world: MakeWorld):
    """On a clean path what leaves one device as a super-packet arrives at the other as one, through the hub."""
    world, (a, b) = build(make_world, [{}, {}, {}], Quality(delay=0.01))
    for protocol in (TCP, UDP):
        b.tun.clear()
        transfer = Transfer(a, b, protocol=protocol)
        transfer.send(50_000, mss=1300)
        world.run(1)
        assert transfer.check() == 1.0
        assert len(b.tun.writes) <= 2
        assert b.tun.writes[0][0].gso_size > 0


def test_many_transfers_at_once(make_world: MakeWorld):
    """Five nodes, each sends to the next one, large and small, at the same moments."""
    world = make_world()
    world.add_hub()
    nodes = [
        world.add_node(f"node{i}", offload=bool(i % 2), ports=PortSettings(gro=i % 3 > 0), quality=Quality(delay=0.01))
        for i in range(5)
    ]
    world.start()
    assert world.run(5, until=world.all_up)
    for one, other in pairwise([*nodes, nodes[0]]):
        assert world.meet(one, other)
    transfers = [
        Transfer(one, other, protocol=protocol, port=port)
        for port, (one, other) in enumerate(pairwise([*nodes, nodes[0]]), start=6000)
        for protocol in (TCP, UDP)
    ]
    for size in (1, 60_000, 100, 1399, 20_000):
        for transfer in transfers:
            transfer.send(min(size, 50_000 if transfer.protocol == TCP else 25_000), mss=1300)
        world.run(0.001)
    world.run(2)
    for transfer in transfers:
        assert transfer.check() == 1.0
        assert transfer.repeats == 0


@pytest.mark.parametrize("version", [4, 6])
def test_mss_is_clamped(make_world: MakeWorld, version: int):
    """A SYN that offers more than the far node's MTU takes, less what relaying costs, arrives offering just that."""
    world, (a, b) = build(make_world, [{}, {"mtu": 1400}, {"mtu": 1300}], Quality())
    for one, other in ((a, b), (b, a)):
        syn = packets.tcp(one.inner(version), other.inner(version), 1, 2, flags=SYN, options=packets.mss_option(1460))
        one.tun.inject(syn)
        world.run(1)
        (arrived,) = [packet for packet in other.tun.parsed() if packet.flags == SYN]
        assert arrived.options == packets.mss_option(1300 - RELAYED - (40 if version == 4 else 60))


@pytest.mark.parametrize("version", [4, 6])
def test_too_big_for_the_far_node(make_world: MakeWorld, version: int):
    """A packet that the far node's MTU does not take: the sender is told the MTU, the far node gets nothing."""
    world, (a, b) = build(make_world, [{}, {"mtu": 1400}, {"mtu": 1300}], Quality())
    a.tun.inject(packets.udp(a.inner(version), b.inner(version), 1, 2, bytes(1330)))
    world.run(1)
    (error,) = a.tun.parsed()
    assert (error.protocol, error.icmp_type) == ((packets.ICMP, 3) if version == 4 else (packets.ICMPV6, 2))
    assert error.echo_sequence == 1300 - RELAYED, "next-hop MTU (RFC 1191, RFC 4443)"
    assert not b.tun.packets
