"""The documents' command lines as they stand, and what the program says about itself while it runs."""

import json
import os
import re
import stat
import subprocess
import time

import pytest

from lab import Host, Lab, Program, traffic
from lab.network import HUB_OUTER, Network, attach_node
from lab.tunnel import PROGRAM

pytestmark = pytest.mark.netns

PASSPHRASE = "a-passphrase-of-some-length"


class Place:
    """A host whose user types commands."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.env = {"LTUNNEL_STATE_DIR": str(host.folder / "state"), "NO_COLOR": "1"}

    def start(self, *words: str, **env: str) -> Program:
        # Each machine has a host name of its own, as machines have.
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.host.name]
        return self.host.start("ltunnel", [*named, PROGRAM, *words], self.env | env)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.host.run(PROGRAM, *words, check=False, env={**os.environ, **self.env})


@pytest.fixture
def places(lab: Lab) -> tuple[Place, Place]:
    hub = lab.host("hub")
    lab.attach(hub, f"{HUB_OUTER}/24")
    return Place(hub), Place(attach_node(lab, 0))


def assert_connected(places: tuple[Place, Place]) -> None:
    hub, node = places
    deadline = time.monotonic() + 15
    while not traffic.ping(node.host, "10.0.0.1", count=1).received:
        assert time.monotonic() < deadline, [
            program.last_lines() for place in places for program in place.host.programs
        ]
    assert traffic.ping(hub.host, "10.0.0.2").received == 3


def test_the_documents_command_lines(places: tuple[Place, Place]) -> None:
    hub, node = places
    hub.start("-m", "server", "-l", "0.0.0.0:9000", "-t", "10.0.0.1/24", "-k", PASSPHRASE)
    node.start("-m", "client", "-r", f"{HUB_OUTER}:9000", "-t", "10.0.0.2/24", "-k", PASSPHRASE)
    assert_connected(places)


def test_the_documents_configuration_file(places: tuple[Place, Place]) -> None:
    hub, node = places
    configs = [
        {
            "mode": "server",
            "local_addr": "0.0.0.0:9000",
            "tunnel_addr": "10.0.0.1/24",
            "key": "your-secret-key",
            "mtu": 1400,
            "fec_data": 10,
            "fec_parity": 3,
            "timeout": 30,
            "keepalive": 10,
            "send_queue_size": 1000,
            "recv_queue_size": 1000,
            "multi_client": True,
            "max_clients": 100,
            "client_isolation": False,
        },
        {
            "mode": "client",
            "remote_addr": f"{HUB_OUTER}:9000",
            "tunnel_addr": "10.0.0.2/24",
            "key": "your-secret-key",
            "p2p_enabled": True,
            "mtu": 1400,
        },
    ]
    for place, config in zip((hub, node), configs, strict=True):
        file = place.host.folder / "config.json"
        file.write_text(json.dumps(config))
        file.chmod(0o600)
        place.start("-c", str(file))
    assert_connected(places)


def test_the_key_from_the_environment(places: tuple[Place, Place]) -> None:
    hub, node = places
    key = hub.run("genkey").stdout.strip()
    hub.start("-m", "server", "-t", "10.0.0.1/24", LTUNNEL_KEY=key)
    node.start("-m=client", "--remote-addr", f"{HUB_OUTER}:9000", "-tunnel-addr=10.0.0.2/24", LTUNNEL_KEY=key)
    assert_connected(places)
    with_key = [line for line in hub.host.run("ps", "-eo", "args").stdout.splitlines() if key in line]
    assert with_key == []


PEER_FIELDS = {
    "name": str,
    "key": str,
    "addresses": list,
    "endpoint": str,
    "transport": str,
    "state": str,
    "last_handshake": float,
    "last_seen": float,
    "rtt_ms": float,
    "mtu": int,
    "rx_bytes": int,
    "tx_bytes": int,
    "rx_packets": int,
    "tx_packets": int,
    "drops": dict,
}
FIELDS = {
    "role": str,
    "version": str,
    "name": str,
    "network": str,
    "key_check": str,
    "encrypted": bool,
    "stack": dict,
    "tun": dict,
    "uptime": float,
    "state": str,
    "counters": dict,
    "drops": dict,
    "peers": list,
}


def test_status_tells_of_the_node_and_of_every_peer(lab: Lab) -> None:
    network = Network.build(lab, nodes=2)
    size = 300_000
    before = network.hub.peer("node0")
    sent = traffic.ping(network.host(0), network.hub_inner, count=100, interval=0.01, size=size // 100)
    assert sent.received == 100

    answer = network.hub.run("status", "--json")
    assert answer.returncode == 0
    status = json.loads(answer.stdout)

    assert {field: type(status[field]) for field in FIELDS} == FIELDS
    assert len(status["peers"]) == 2
    peers = sorted(status["peers"], key=lambda peer: str(peer["name"]))
    for number, peer in enumerate(peers):
        assert {field: type(peer[field]) for field in PEER_FIELDS} == PEER_FIELDS
        assert peer["name"] == f"node{number}"
        assert set(peer["addresses"]) == {network.inner(number), network.inner6(number)}
        assert peer["endpoint"].startswith(f"198.18.{number}.2:")
        assert peer["transport"] == status["stack"]["transports"][0] == "transport_faketcp"
        assert peer["state"] == "established"
        assert re.fullmatch(r"[0-9a-f]{64}", peer["key"])
    assert before is not None
    assert peers[0]["rx_bytes"] - before["rx_bytes"] >= size
    assert peers[0]["tx_bytes"] - before["tx_bytes"] >= size
    assert network.hub.status()["key_check"] == network.nodes[1].status()["key_check"]


def test_status_for_people_and_for_programs_that_watch(lab: Lab) -> None:
    network = Network.build(lab, nodes=1)
    shown = network.hub.run("status").stdout
    for word in ("hub", "node0", network.inner(0), network.hub.status()["key_check"]):
        assert word in shown

    watch = network.hub.host.start("watch", [PROGRAM, "status", "--json", "--watch"], network.hub.env)
    watch.wait_for(r"(?s)\{.*\}\n\{.*\}\n")
    watch.kill()
    lines = watch.output().splitlines()[:2]
    assert [json.loads(line)["state"] for line in lines] == ["up", "up"]


def test_the_control_socket_is_for_its_owner_alone(lab: Lab) -> None:
    network = Network.build(lab, nodes=0)
    (socket,) = network.hub.state.glob("*.sock")
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    network.hub.program.stop()
    assert not socket.exists()
    answer = network.hub.run("status", "--json")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "server", "-t", "10.0.0.300/24"), r"-t: .*10\.0\.0\.300/24"),
        (("-m", "client", "-t", "10.0.0.2/24"), r"remote_addr"),
        (("-m", "server", "-l", "0.0.0.0:99999"), r"-l: .*99999"),
        (("-m", "server", "-mtu", "100"), r"mtu"),
        (("-c", "{folder}/broken.json"), r"broken\.json.*line 2"),
        (("-c", "{folder}/unknown.json"), r"unknown\.json.*keyy"),
        (("-c", "{folder}/missing.json"), r"missing\.json"),
        (("-m", "server", "-cipher", "crypto_none"), r"crypto_none"),
    ],
)
def test_what_cannot_start_says_so_in_a_line_and_leaves_nothing(
    places: tuple[Place, Place], words: tuple[str, ...], said: str
) -> None:
    place = places[0]
    folder = place.host.folder
    (folder / "broken.json").write_text('{\n "mode": server\n}\n')
    (folder / "unknown.json").write_text('{"mode": "server", "keyy": "x"}')
    before = place.host.traces()

    done = place.run(*(word.format(folder=folder) for word in words))

    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith("ltunnel: ")]) == 1
    assert re.search(said, lines[-1]), lines
    assert "Traceback" not in done.stderr
    assert place.host.traces() == before
    assert not (folder / "state").exists() or not list((folder / "state").glob("*.sock"))
