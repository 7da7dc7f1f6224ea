"""Two nodes behind hard NATs and one that both reach: they go through it, with the hub or without."""

import time

import pytest

from lab import Lab, traffic
from lab.meeting import ONE, OTHER, UDP, Meeting
from lab.nat import Kind, Site, cut
from lab.network import HUB_OUTER, KEY, attach_node
from lab.pings import Pings
from lab.tunnel import Tunnel

pytestmark = pytest.mark.netns

THIRD = "10.0.0.4"
DIRECT, THROUGH = 30, 15
"""Seconds until paths should be there, with room for a busy machine."""


class Mesh:
    """`one` and `other` behind symmetric NATs, `third` with an address of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sites = [Site(lab, number, Kind.SYMMETRIC) for number in range(2)]
        self.pair = Meeting.build(lab, self.sites[0].add_host("one"), self.sites[1].add_host("other"))
        self.third = Tunnel.node(attach_node(lab, 2), HUB_OUTER, f"{THIRD}/24", key=KEY, args=UDP)
        self.third.wait_up()
        for node in (self.pair.one, self.pair.other):
            assert traffic.ping(node.host, THIRD, count=3).received
            self.wait(node, THIRD, "public", DIRECT)
        assert traffic.ping(self.pair.one.host, OTHER, count=3).received
        self.pair.wait_path("mesh", THROUGH)

    @staticmethod
    def wait(node: Tunnel, address: str, kind: str, timeout: float) -> None:
        def goes(status: dict) -> bool:
            return any(address in peer["addresses"] and peer["path"] == kind for peer in status["peers"])

        node.wait_status(goes, f"go by {kind}", timeout)

    @property
    def relayed(self) -> int:
        return sum(peer["relayed_bytes"] for peer in self.third.status()["peers"])


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return Mesh(lab)


def test_traffic_goes_on_through_a_node_when_the_hub_is_cut_off(mesh: Mesh) -> None:
    pair = mesh.pair
    assert pair.one.peer(OTHER)["via"] == pair.other.peer(ONE)["via"] == mesh.third.host.name  # type: ignore[index]
    pings = Pings(pair.one.host, OTHER)
    time.sleep(1)
    began = time.time()
    cut(mesh.lab, mesh.sites[0].outside, HUB_OUTER)
    before, hub = mesh.relayed, pair.hub.status()["counters"]["rx_bytes"]
    assert traffic.transfer(pair.one.host, pair.other.host, OTHER, megabytes=5).sent
    assert mesh.relayed - before >= 5_000_000
    pair.one.wait_status(lambda status: status["state"] == "connecting", "miss the hub", 45)
    assert pair.path == ("mesh", "mesh")
    assert pings.longest_silence(since=began) < 2
    assert pair.hub.status()["counters"]["rx_bytes"] - hub < 100_000
    assert "mesh: linked to " in mesh.third.run("status", "--tun-name", "tun0").stdout
    (line,) = [line for line in pair.one.program.output().splitlines() if "Routing stats" in line][-1:]
    assert "2 peers, 1 direct, 1 relay, 0 server" in line


def test_the_hub_takes_over_when_the_node_in_between_dies(mesh: Mesh) -> None:
    pair = mesh.pair
    pings = Pings(pair.one.host, OTHER)
    time.sleep(3)
    began = time.time()
    mesh.third.program.kill()
    pair.wait_path("hub", 10)
    time.sleep(2)
    assert pings.longest_silence(since=began) < 7.5
    assert "DUP!" not in pings.output()
