"""What comes from outside the network: it is counted and dropped, whatever it is."""

import pytest

from lab import Lab, Program, traffic
from lab.network import HUB_OUTER, Network, attach_node
from lab.traffic import INSIDE
from lab.tunnel import PORT, UDP_ONLY, Status

pytestmark = pytest.mark.netns

COUNT = 10_000


def capture(lab: Lab, network: Network) -> Program:
    """Begin to write down what node 0 sends to the hub."""
    program = lab.internet.start("capture", [*INSIDE["capture"], "to-node0", str(PORT)])
    program.wait_for("ready")
    return program


def test_strangers_get_no_answer_and_do_no_harm(lab: Lab) -> None:
    network = Network.build(lab, nodes=1, node_args=UDP_ONLY)
    captured = capture(lab, network)
    node = network.nodes[0]
    node.program.kill()
    node.start()
    node.wait_up()  # a handshake for the record
    assert traffic.ping(node.host, network.hub_inner).received == 3
    captured.kill()
    real = captured.output().split()[1:]
    assert {int(line[:2], 16) for line in real} >= {1, 3, 6}  # INIT, CONFIRM, DATA
    file = lab.folder / "captured"
    file.write_text("\n".join(real))
    stranger = attach_node(lab, 50)
    watch = "table inet watch { chain out { type filter hook output priority 0; ip daddr 198.18.50.2 counter\n}\n}"
    network.hub.host.nft(watch)
    before = network.hub.status()

    words = [*INSIDE["strangers"], HUB_OUTER, str(PORT), str(COUNT), "7", str(file)]
    answers = stranger.run(*words, timeout=60).stdout

    after = network.hub.status()
    assert answers.strip() == "0"
    assert "counter packets 0 " in network.hub.host.run("nft", "list", "table", "inet", "watch").stdout
    assert dropped(after) - dropped(before) > 0.99 * COUNT
    assert len([word for word in after["drops"] if after["drops"][word] > before["drops"].get(word, 0)]) >= 3
    said = network.hub.program.output()
    assert "Traceback" not in said
    assert " error " not in said
    assert len(said.splitlines()) < 50
    assert after["peers"][0]["endpoint"] == before["peers"][0]["endpoint"]
    assert traffic.ping(node.host, network.hub_inner).received == 3


def dropped(status: Status) -> int:
    counts: list[dict[str, int]] = [status["drops"], *(peer["drops"] for peer in status["peers"])]
    return sum(sum(drops.values()) for drops in counts)


def test_replayed_datagrams_are_dropped(lab: Lab) -> None:
    network = Network.build(lab, nodes=1, node_args=UDP_ONLY)
    captured = capture(lab, network)
    assert traffic.ping(network.host(0), network.hub_inner, count=20, interval=0.02).received == 20
    captured.kill()
    real = captured.output().split()[1:]
    assert len(real) >= 20
    before = network.hub.status()
    peer_before = network.hub.peer("node0")
    stranger = attach_node(lab, 50)
    send = "import socket, sys\nwire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    send += "for line in sys.stdin:\n wire.sendto(bytes.fromhex(line), (sys.argv[1], int(sys.argv[2])))\n"

    stranger.run("python3", "-c", send, HUB_OUTER, str(PORT), text="\n".join(real) + "\n")
    assert traffic.ping(network.host(0), network.hub_inner, count=3).received == 3

    after, peer_after = network.hub.status(), network.hub.peer("node0")
    assert peer_before is not None
    assert peer_after is not None
    assert dropped(after) - dropped(before) >= len(real)
    assert peer_after["endpoint"] == peer_before["endpoint"]
