"""Who is let in, who is not, and how both sides learn why."""

import pytest

from lab import Host, Lab, traffic
from lab.network import HUB_OUTER, KEY, Network

pytestmark = pytest.mark.netns

OTHER_KEY = "another passphrase altogether"


def reaches(host: Host, address: str, *options: str) -> bool:
    """Whether pings get through. Several: the first may wait for a session."""
    return host.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", *options, address, check=False).returncode == 0


def count_from_hub(network: Network) -> None:
    network.hub.host.nft("table ip watch { chain out { type filter hook output priority 0; oifname eth0 counter\n}\n}")


def packets_from_hub(network: Network) -> int:
    listing = network.hub.host.run("nft", "list", "table", "ip", "watch").stdout
    return int(listing.partition("counter packets ")[2].split()[0])


@pytest.mark.parametrize(("hub_key", "node_key"), [(KEY, OTHER_KEY), (KEY, None), (None, KEY)])
def test_a_wrong_key_is_silence_for_the_node_and_a_line_for_both_owners(
    lab: Lab, hub_key: str | None, node_key: str | None
) -> None:
    network = Network.build(lab, nodes=0, key=hub_key)
    count_from_hub(network)

    node = network.add_node(key=node_key)
    node.program.wait_for(r"info +node node0 is running", timeout=10)
    said = node.program.wait_for(r"warning +(no answer from .*)", timeout=5)[1]

    assert HUB_OUTER in said
    if node_key:
        assert node.status()["key_check"] in said
    assert node.status()["state"] == "connecting"
    assert network.hub.status()["drops"]["wrong key"] >= 3
    assert packets_from_hub(network) == 0
    network.hub.program.wait_for(r"warning .*198\.18\.0\.2.*wrong key\?", timeout=75)
    assert packets_from_hub(network) == 0


def test_a_hub_takes_no_more_than_max_clients(lab: Lab) -> None:
    network = Network.build(lab, nodes=2, hub_args=["-max-clients", "2"])
    third = network.add_node()

    status = third.wait_status(lambda status: status["state"] == "denied", "be denied")

    assert "it takes 2 nodes (max_clients)" in status["reason"]
    third.program.wait_for("it takes 2 nodes")
    assert all(reaches(network.host(number), network.hub_inner) for number in range(2))

    network.nodes[0].program.stop()  # it says goodbye, which makes room at once
    third.program.stop()
    third.start()
    third.wait_up()
    assert reaches(third.host, network.hub_inner)


def test_a_hub_for_a_single_client(lab: Lab) -> None:
    network = Network.build(lab, nodes=1, hub_args=["-multi-client=false"])
    second = network.add_node()

    status = second.wait_status(lambda status: status["state"] == "denied", "be denied")

    assert "multi_client is off" in status["reason"]
    assert reaches(network.host(0), network.hub_inner)


def test_isolated_clients_reach_the_hub_alone(lab: Lab) -> None:
    network = Network.build(lab, nodes=2, hub_args=["-client-isolation"])

    assert reaches(network.host(0), network.hub_inner)
    assert reaches(network.host(1), network.hub_inner)
    assert not reaches(network.host(0), network.inner(1))
    assert not reaches(network.host(1), network.inner6(0))
    for node in network.nodes:
        status = node.status()
        assert status["drops"]["no route"] >= 1, "the hub introduces nobody"
        assert [peer["name"] for peer in status["peers"]] == ["hub"]


def test_an_address_belongs_to_the_key_that_had_it_first(lab: Lab) -> None:
    network = Network.build(lab, nodes=1)
    thief = network.add_node(addresses=[f"{network.inner(0)}/24"])

    status = thief.wait_status(lambda status: status["state"] == "denied", "be denied")

    assert network.inner(0) in status["reason"]
    thief.program.wait_for(rf"{network.inner(0)}.*belongs to")
    assert reaches(network.host(0), network.hub_inner)
    assert reaches(network.hub.host, network.inner(0))

    network.nodes[0].program.kill()  # the address is still its own, also for a hub that has started again
    network.hub.program.stop()
    network.hub.start()
    network.hub.wait_up()
    network.nodes[0].start()
    network.nodes[0].wait_up()
    assert thief.status()["state"] == "denied"


def test_a_node_speaks_only_for_its_own_addresses(lab: Lab) -> None:
    network = Network.build(lab, nodes=2)
    liar, honest = network.host(0), network.host(1)
    for forged in ("10.0.0.99/24", f"{network.inner(1)}/24"):
        liar.add_address("tun0", forged)
        assert not reaches(liar, network.hub_inner, "-I", forged.split("/")[0])

    drops = network.hub.peer("node0")["drops"]  # type: ignore[index] # it is there
    assert drops["inner source"] >= 4
    assert reaches(liar, network.hub_inner, "-I", network.inner(0))
    assert reaches(honest, network.hub_inner)


def test_without_any_key_packets_flow_and_everybody_is_told(lab: Lab) -> None:
    network = Network.build(lab, nodes=1, key=None)

    assert reaches(network.host(0), network.hub_inner)
    assert traffic.transfer(network.host(0), network.hub.host, network.hub_inner, megabytes=5).seconds < 60
    for tunnel in (network.hub, network.nodes[0]):
        tunnel.program.wait_for(r"warning +NOT ENCRYPTED")
        assert tunnel.status()["encrypted"] is False
