"""What a peer sends reaches this machine's tunnel addresses and the networks that it offers, and nothing else."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.tests.data.pieces import peer_of
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.local import Local
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.testing.offload import complete, offload
from ltunnel_fec_rs import ReedSolomon

BEHIND = ("192.168.7.0/24", "2001:db8:7::/48")
FOREIGN = ("192.168.8.1", "10.0.0.1", "10.0.0.3", "8.8.8.8", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.255",
           "2001:db8:8::1", "fd00::1", "fd00::3", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.2")  # fmt: skip
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def towards(left, right, packet: bytes, seg: int | None = None) -> None:
    """Have a node send a packet to another one, whatever its destination is."""
    destination = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
    left.fib.cache[destination] = peer_of(left)
    left.tun.inject(packet, gso_size=seg)
    right.take(left, [datagram for _, datagram in left.pump()])


def kinds(address: str) -> list[tuple[bytes, int | None, int]]:
    """Packets for an address: alone, super-packets of TCP and UDP; each with its segment size and number of packets."""
    ends = ("fd00::1" if ":" in address else "10.0.0.1", address)
    return [
        (packets.udp(*ends, 1, 2, b"small"), None, 1),
        (packets.tcp(*ends, 1, 2, bytes(5000)), 1300, 4),
        (packets.udp(*ends, 1, 2, bytes(5000)), 1300, 4),
    ]


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("fec", [None, (Codes("rs", ReedSolomon), FecSettings(mode=FecMode.FIXED, data=4, parity=2))])
def test_what_is_for_others_does_not_reach_the_kernel(net, fec, records):
    left, right = net.pair(fec=fec, routes=BEHIND)
    if records:
        net.use_records(left)
    dropped = 0
    for address in FOREIGN:
        for packet, seg, count in kinds(address):
            towards(left, right, packet, seg)
            dropped += count
            assert peer_of(right).stats.drops == {Drop.DESTINATION: dropped}, (address, seg)
    assert right.tun.writes == []
    assert right.tun.refused == []
    assert (peer_of(right).stats.rx_packets, peer_of(right).stats.rx_bytes) == (0, 0)
    towards(left, right, packets.udp("10.0.0.1", "10.0.0.2", 1, 2, b"mine"))
    assert [packet.payload for packet in right.tun.parsed()] == [b"mine"]


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("address", ["192.168.7.0", "192.168.7.20", "192.168.7.255", "2001:db8:7::", "2001:db8:7:8::9"])
def test_what_is_for_a_network_behind_this_machine_does(net, address, records):
    left, right = net.pair(routes=BEHIND)
    if records:
        net.use_records(left)
    sent = kinds(address)
    for packet, seg, _ in sent:
        towards(left, right, packet, seg)
    assert sum(len(packet.payload) for packet in right.tun.parsed()) == len(b"small") + 2 * 5000
    assert {packet.destination for packet in right.tun.parsed()} == {address}
    assert peer_of(right).stats.drops == {}
    assert peer_of(right).stats.rx_packets == sum(count for *_, count in sent)


def test_a_run_of_datagrams_is_looked_at_as_one(net):
    left, right = net.pair(routes=BEHIND)
    for address in ("192.168.7.9", "192.168.8.9"):
        left.fib.cache[ip_address(address).packed] = peer_of(left)
        for number in range(20):
            left.tun.inject(packets.udp("10.0.0.1", address, 1, 2, bytes([number]) * 100))
    right.take(left, [datagram for _, datagram in left.pump()])
    assert {packet.destination for packet in right.tun.parsed()} == {"192.168.7.9"}
    assert sum(len(packet.payload) for packet in right.tun.parsed()) == 2000
    assert peer_of(right).stats.drops == {Drop.DESTINATION: 20}


def test_a_source_that_is_not_the_peers_is_said_first(net):
    left, right = net.pair()
    towards(left, right, packets.udp("10.0.0.9", "8.8.8.8", 1, 2, b"x"))
    towards(left, right, packets.tcp("10.0.0.9", "8.8.8.8", 1, 2, bytes(3000)), 1000)
    assert peer_of(right).stats.drops == {Drop.SOURCE: 4}


def test_on_a_node_nobody_is_told(net):
    left, right = net.pair()
    left.fib.cache[ip_address("10.0.0.3").packed] = peer_of(left)
    left.tun.inject(packets.udp("10.0.0.1", "10.0.0.3", 1, 2, b"x"))
    assert right.take(left, [datagram for _, datagram in left.pump()]) == []
    assert right.stats.drops == {}


TARGETS = ("10.0.0.2", "fd00::2", "192.168.7.1", "192.168.7.77", "2001:db8:7:1::1")


@SETTINGS
@given(st.data())
def test_mixed_traffic_is_parted(net, data):
    """Packets for this machine, behind it and for others, in common bundles: exactly the first two arrive."""
    left, right = net.pair(routes=BEHIND)
    expected: list[bytes] = []
    for serial in range(data.draw(st.integers(1, 30))):
        address = data.draw(st.sampled_from(TARGETS + FOREIGN))
        seg = data.draw(st.sampled_from((None, None, None, 700)))
        ends = ("fd00::1" if ":" in address else "10.0.0.1", address)
        packet = packets.tcp(*ends, 1, 2, bytes([serial]) * data.draw(st.integers(1, 1200)), seq=serial)
        left.fib.cache[ip_address(address).packed] = peer_of(left)
        left.tun.inject(packet, gso_size=seg)
        expected += complete(*offload(packet, seg)) if address in TARGETS else []
    right.take(left, [datagram for _, datagram in left.pump()])
    assert sorted(right.tun.packets) == sorted(expected)
    assert set(peer_of(right).stats.drops) <= {Drop.DESTINATION}


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.ip_addresses(network="192.168.6.0/23")))
def test_takes_is_membership(address):
    local = Local([ip_interface("10.0.0.2/24")], [ip_network(network) for network in BEHIND])
    inside = any(address in ip_network(network) for network in BEHIND if address.version == ip_network(network).version)
    for _ in range(2):
        assert local.takes(address.packed) == (inside or str(address) == "10.0.0.2")


def test_what_it_remembers_is_bounded():
    local = Local([ip_interface("10.0.0.2/24")], [ip_network("172.16.0.0/12")])
    first = int(ip_address("172.16.0.0"))
    for number in range(20_000):
        assert local.takes((first + number).to_bytes(4, "big"))
        assert not local.takes(number.to_bytes(4, "big"))
        assert len(local.taken) <= 4096
    assert ip_address("10.0.0.2").packed in local.taken
