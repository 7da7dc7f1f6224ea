"""The MTU between a node and its hub: each direction is watched by who sends there."""

import pytest

from ltunnel.control.path_mtu import LADDER
from ltunnel.control.way_table import BULK

HUB, NODE = "10.0.0.1", "10.0.0.2"


class Line:
    def __init__(self, net) -> None:
        self.net = net
        self.hub = net.hub()
        self.node = net.node("a", "10.0.0.2/24", transports=("udp", "tcp"))
        net.run(0.5)
        self.peers = {self.hub: self.hub.control.peers[self.node.settings.identity.public],
                      self.node: self.node.control.hub}  # fmt: skip

    def talk(self, seconds: float, *, size: int = 100, until=None) -> float:
        """Both send a packet each 50 ms; return how long it took until `until` held."""
        start = self.net.now
        while self.net.now - start < seconds and not (until is not None and until()):
            for host, to in ((self.node, HUB), (self.hub, NODE)):
                if host.send(to, bytes(size)):
                    self.peers[host].stats.tx_packets += 1
                    self.peers[host].stats.tx_bytes += size
            self.net.run(0.05)
        return self.net.now - start

    @property
    def mtus(self) -> set[int]:
        return {peer.mtu for peer in self.peers.values()}

    def large(self, since: float = 0.0) -> list[str]:
        """Who sent datagrams of full size."""
        return [entry[1] for entry in self.net.log if entry[0] >= since and len(entry[4]) == 1400 + 11 + 28]


@pytest.fixture
def line(net) -> Line:
    return Line(net)


def test_what_the_other_side_takes_is_used_from_the_start(line):
    assert line.mtus == {1400}


def test_nothing_is_probed_without_traffic(line):
    line.net.run(100)
    assert not line.large()
    line.talk(10)
    assert sorted(set(line.large())) == ["a", "hub"]


def test_little_is_probed_with_little_traffic(line):
    line.talk(10)
    start = line.net.now
    line.talk(60)
    assert len(line.large(start)) <= 2 * 2 * 2 + 2, "two rounds in a minute from each side, and the answers"


@pytest.mark.parametrize("largest", [1272, 1000, 700])
def test_a_black_hole_is_noticed_by_both_sides(line, largest):
    line.talk(10, size=1300)
    line.net.largest = largest
    took = line.talk(20, size=1300, until=lambda: max(line.mtus) <= LADDER[1])
    assert took <= 6.1, "before the connection inside waits longer than 3 s between its attempts"
    line.talk(30, size=400)
    assert all(largest - 39 - 16 <= mtu <= largest - 39 for mtu in line.mtus)
    (first, *_) = line.node.texts("path-mtu")
    assert first == "larger packets get lost on the way to hub: 1150 bytes at most from now on"


def test_it_is_found_even_if_nothing_follows_the_first_burst(line):
    """A connection that is stuck sends next to nothing."""
    line.talk(10, size=1300)
    line.net.largest = 1272
    line.talk(0.5, size=BULK // 4)
    took = line.talk(20, size=40, until=lambda: max(line.mtus) <= LADDER[1])
    assert took <= 6


def test_larger_packets_are_tried_again(line):
    line.talk(10, size=1300)
    line.net.largest = 1272
    line.talk(20, size=1300)
    line.net.largest = 65_535
    line.talk(600)
    line.talk(30)
    assert line.mtus == {1400}


def test_losses_are_no_black_hole(line):
    line.net.loss = 0.05
    line.talk(120, size=1300)
    assert len(line.node.texts("path-mtu")) + len(line.hub.texts("path-mtu")) <= 1


def test_another_transport_is_another_path(line):
    """What was learnt by UDP says nothing about TCP."""
    line.talk(10, size=1300)
    line.net.largest = 1272
    line.talk(10, size=1300)
    assert max(line.mtus) <= LADDER[0]
    line.net.largest = 65_535
    line.net.shut = {0}
    line.talk(20, size=1000)
    assert line.node.control.hub.path.transport == 1
    assert line.mtus == {1400}


def test_a_node_that_takes_less_gets_less(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24", mtu=1280)
    net.run(0.5)
    (peer,) = hub.control.peers.values()
    assert (peer.mtu, peer.limit) == (1280, 1280)
    assert node.control.hub.mtu == 1400


def test_rekeying_keeps_what_is_known(line):
    line.talk(10, size=1300)
    line.net.largest = 1272
    line.talk(20, size=1300)
    known = line.mtus
    line.talk(130, size=400)
    assert line.node.control.hub.last_handshake > line.net.now - 100
    assert line.mtus == known
