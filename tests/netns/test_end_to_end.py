"""What nodes say to each other through their hub is in no capture there, and not in the hub's memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, Lab, Program, traffic
from lab.network import Network

pytestmark = pytest.mark.netns

FIRST = b"what node 0 told node 1, "
SECOND = b"what node 0 told the hub, "
PORT = 7070

_LISTEN = """
import socket, sys
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while wire.recv(65536):
    print("heard", flush=True)
"""
_SAY = """
import socket, sys, time
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(200):
    wire.sendto(sys.argv[3].encode() * 40, (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.002)
"""


def test_the_hub_holds_nothing_of_what_nodes_say(lab: Lab) -> None:
    network = Network.build(lab, node_args=("-p2p=false",))
    wire = lab.internet.start("dumpcap", ["dumpcap", "-q", "-P", "-i", "to-hub", "-w", lab.folder / "hub.pcap"])
    wire.wait_for("^File:")
    inside = network.hub.host.start("dumpcap", ["dumpcap", "-q", "-P", "-i", "tun0", "-w", lab.folder / "tun.pcap"])
    inside.wait_for("^File:")
    assert traffic.ping(network.host(0), network.inner(1)).received >= 2
    for host in (network.host(1), network.hub.host):
        host.start("listen", ["python3", "-c", _LISTEN, str(PORT)]).wait_for("ready")

    say(network.host(0), network.inner(1), FIRST)
    heard(network.host(1))
    say(network.host(0), network.hub_inner, SECOND)
    heard(network.hub.host)
    wire.stop()
    inside.stop()

    peer = network.nodes[0].peer("node1")
    assert peer is not None
    assert (peer["path"], peer["via"], peer["state"]) == ("hub", "hub", "established")
    captured = (lab.folder / "hub.pcap").read_bytes()
    assert len(captured) > 200 * 40 * len(FIRST), "what they said did pass the hub"
    assert FIRST not in captured
    assert FIRST not in (lab.folder / "tun.pcap").read_bytes()
    assert SECOND in (lab.folder / "tun.pcap").read_bytes(), "what is for the hub is seen there"
    for node in network.nodes:
        assert holds(node.program, FIRST), "a node's own memory has it"
    assert holds(network.hub.program, SECOND), "so has the hub's, of what it was told"
    assert not holds(network.hub.program, FIRST)


def say(host: Host, address: str, what: bytes) -> None:
    """Send a text to an address, many times."""
    host.run("python3", "-c", _SAY, address, str(PORT), what.decode())


def heard(host: Host) -> None:
    """Wait until the program that listens on a host has got something."""
    next(program for program in host.programs if program.name.startswith("listen")).wait_for("heard")


def holds(program: Program, marker: bytes) -> bool:
    """Whether the marker is anywhere in a program's memory, as it would be in its core dump."""
    return any(marker in memory for memory in mapped(program.pid))


def mapped(pid: int) -> Iterator[bytes]:
    """Read all memory that a process may read itself (proc(5), `maps` and `mem`)."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("r") or "[v" in line:  # pages of the kernel: vvar, vdso, vsyscall
                continue
            start, end = (int(word, 16) for word in span.split("-"))
            memory.seek(start)
            yield memory.read(end - start)
