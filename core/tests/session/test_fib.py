"""Who is behind an inner address: hosts before networks, longer prefixes before shorter."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from ltunnel.session import Fib, Peer
from ltunnel.session import fib as fib_module


def packed(text: str) -> bytes:
    return ip_address(text).packed


@pytest.fixture
def peers():
    a, b, c = (Peer(bytes((number,)) * 32, name) for number, name in enumerate("abc"))
    a.hosts = frozenset((packed("10.0.0.2"), packed("fd00::2")))
    b.networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/64"))
    c.networks = (ip_network("10.1.0.0/16"), ip_network("0.0.0.0/0"))
    return a, b, c


@pytest.mark.parametrize(
    ("address", "name"),
    [("10.0.0.2", "a"), ("10.0.0.3", "b"), ("10.1.2.3", "c"), ("8.8.8.8", "c"), ("fd00::2", "a"), ("fd00::3", "b"),
     ("fd01::3", None)],
)  # fmt: skip
def test_the_most_specific_wins(peers, address, name):
    table = Fib()
    for peer in peers:
        table.set(peer)
    found = table.lookup(packed(address))
    assert (found and found.name) == name
    assert table.cache[packed(address)] is found


def test_changes_reach_the_cache(peers):
    a, b, _ = peers
    table = Fib()
    table.set(a)
    assert table.lookup(packed("10.0.0.9")) is None
    table.set(b)
    assert packed("10.0.0.9") not in table.cache
    assert table.lookup(packed("10.0.0.9")) is b
    a.hosts = frozenset((packed("10.0.0.5"),))
    table.set(a)
    assert table.lookup(packed("10.0.0.2")) is b
    table.remove(b)
    assert table.lookup(packed("10.0.0.2")) is None
    assert table.lookup(packed("10.0.0.5")) is a


def test_a_scan_does_not_fill_memory(peers, monkeypatch):
    monkeypatch.setattr(fib_module, "_CACHE_LIMIT", 100)
    table = Fib()
    table.set(peers[1])
    for number in range(1000):
        table.lookup(number.to_bytes(4, "big"))
    assert len(table.cache) <= 100


def test_a_peer_owns_its_hosts_and_networks(peers):
    a, b, _ = peers
    assert a.owns(packed("10.0.0.2"))
    assert not a.owns(packed("10.0.0.3"))
    assert b.owns(packed("10.9.9.9"))
    assert b.owns(packed("fd00::9"))
    assert not b.owns(packed("11.0.0.1"))
    assert not b.owns(packed("::a00:1"))


def test_what_a_peer_owned_once_it_does_not_own_for_ever(peers):
    _, b, _ = peers
    assert b.owns(packed("10.9.9.9"))
    b.networks = b.networks[1:]
    assert not b.owns(packed("10.9.9.9"))
    assert b.owns(packed("fd00::9"))


def test_many_sources_behind_a_peer_cost_no_memory(peers):
    _, b, _ = peers
    for number in range(10_000):
        assert b.owns((0x0A << 24 | number).to_bytes(4, "big"))
    assert len(b._known) <= 4096
