"""20,000 SYNs a second from sources that do not exist: nodes that are there go on, and others still get in."""

from statistics import fmean

import pytest

from lab import Lab, Program, traffic
from lab.network import HUB_OUTER, KEY, Network
from lab.tunnel import PORT, config_file

pytestmark = [pytest.mark.netns, pytest.mark.alone]

RATE = 20_000
BACKENDS = ["packet", "tun"]


def build(lab: Lab, backend: str) -> tuple[Network, list[str]]:
    """Start a hub and a node; the answers to the flood end at the internet's router."""
    content = {"transport": ["transport_faketcp"], "transport_faketcp": {"backend": backend}}
    args = ["-c", config_file(lab.folder / "config.json", content)]
    network = Network.build(lab, nodes=1, hub_args=args, node_args=args)
    lab.internet.run("ip", "route", "add", "blackhole", "100.64.0.0/10")
    return network, args


def flood(lab: Lab, seconds: int) -> Program:
    """Begin to flood the hub's port."""
    program = lab.internet.start("flood", [*traffic.INSIDE["flood"], HUB_OUTER, str(PORT), str(RATE), str(seconds)])
    program.wait_for("ready")
    return program


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_transfer_goes_on_and_memory_stays(lab: Lab, backend: str) -> None:
    """At least half the throughput of the time before and after it, when the machine has other work, too."""
    network, _ = build(lab, backend)
    hub, node = network.hub, network.host(0)

    def rate(seconds: int) -> float:
        return traffic.tcp(node, hub.host, network.hub_inner, seconds=seconds).gbit_s

    rate(1)
    memory = hub.program.memory_mb()
    before = rate(3)
    storm = flood(lab, 10)
    during = rate(9)
    storm.wait()
    after = rate(3)

    assert int(storm.output().split()[-1]) > 9 * RATE
    ratio = during / fmean((before, after))
    assert ratio >= 0.5, f"{during:.2f} Gbit/s beside {before:.2f} and {after:.2f}"
    assert hub.program.memory_mb(peak=True) - memory < 20
    (peer,) = hub.status()["peers"]
    assert peer["state"] == "established"
    assert network.nodes[0].program.output().count("event=connected") == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_new_node_gets_in(lab: Lab, backend: str) -> None:
    """One SYN in three to ten is taken, and a node sends five in five seconds."""
    network, args = build(lab, backend)
    storm = flood(lab, 60)

    node = network.add_node(KEY, args)
    node.wait_up(50)

    assert storm.returncode is None
    assert traffic.ping(node.host, network.hub_inner, count=5).received
    storm.kill()
