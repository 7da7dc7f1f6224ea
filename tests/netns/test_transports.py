"""A list of transports finds its way through whatever is blocked, and nothing inside the tunnel notices."""

import time

import pytest

from lab import Lab, Program, Tunnel
from lab.firewall import Firewall
from lab.network import HUB_OUTER, KEY, Network
from lab.pings import Pings
from lab.traffic import INSIDE
from lab.tunnel import PROGRAM, config_file

pytestmark = pytest.mark.netns

TRANSPORTS = ["transport_udp", "transport_faketcp", "transport_tls"]
HTTPS = 443
RATE = 4_000_000  # bytes per second


def build(lab: Lab) -> tuple[Network, Firewall]:
    """Start a hub that listens on three transports, and a node behind a firewall that knows all three."""
    folder = lab.folder / "tls"
    made = lab.internet.run(PROGRAM.with_name("ltunnel-tls-cert"), "--name", HUB_OUTER, "--out", folder).stdout
    pin = made.split('"pin": "')[1].split('"')[0]
    tls = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem"), "port": HTTPS}
    hub = {"transport": TRANSPORTS, "transport_tls": tls}
    node = {"transport": TRANSPORTS, "transport_tls": {"pin": pin, "port": HTTPS}}
    network = Network.build(lab, nodes=0, hub_args=["-c", config_file(lab.folder / "hub.json", hub)])
    firewall = Firewall(lab, 0)
    args = ["-c", config_file(lab.folder / "node.json", node)]
    network.nodes.append(Tunnel.node(firewall.inside, HUB_OUTER, f"{network.inner(0)}/24", key=KEY, args=args))
    network.nodes[0].wait_up()
    return network, firewall


def start_stream(network: Network) -> tuple[Program, Program]:
    """Send at an even rate over one TCP connection from the node to the hub: sender and receiver."""
    receiver = network.hub.host.start("bulk", [*INSIDE["bulk"], "receive", "5300"])
    receiver.wait_for("ready")
    words = [*INSIDE["bulk"], "stream", network.hub_inner, "5300", str(RATE)]
    return network.host(0).start("stream", words), receiver


def wait_by(network: Network, transport: str, timeout: float) -> float:
    """Wait until both ends use a transport, and the hub receives; returns how long it took, in seconds."""
    began = time.monotonic()
    network.nodes[0].wait_status(lambda s: s["peers"][0]["transport"] == transport, f"use {transport}", timeout)
    network.hub.wait_status(lambda s: s["peers"][0]["transport"] == transport, f"use {transport}", timeout)
    received = network.hub.status()["counters"]["rx_bytes"]
    left = timeout - (time.monotonic() - began)
    network.hub.wait_status(lambda s: s["counters"]["rx_bytes"] > received + RATE, "receive", left)
    return time.monotonic() - began


def test_a_transfer_goes_on_whatever_is_blocked(lab: Lab) -> None:
    network, firewall = build(lab)
    node = network.nodes[0]
    assert node.status()["peers"][0]["transport"] == "transport_udp"
    sender, receiver = start_stream(network)
    pings = Pings(network.host(0), network.hub_inner)
    time.sleep(1)
    started = time.time()
    sealed = [node.status()["peers"][0]["datagrams_sealed"]]

    firewall.allow(udp=False)
    wait_by(network, "transport_faketcp", timeout=10)
    sealed.append(node.status()["peers"][0]["datagrams_sealed"])
    firewall.allow(udp=False, only_port=HTTPS)
    wait_by(network, "transport_tls", timeout=10)
    sealed.append(node.status()["peers"][0]["datagrams_sealed"])
    firewall.allow()
    wait_by(network, "transport_udp", timeout=90)
    sealed.append(node.status()["peers"][0]["datagrams_sealed"])

    assert pings.longest_silence(since=started) < 10
    assert sealed == sorted(set(sealed))  # the same keys all along: the count of their use grows
    for tunnel in (node, network.hub):
        (peer,) = tunnel.status()["peers"]
        assert peer["last_handshake"] > time.time() - started
        assert peer["drops"].keys() <= {"replayed"}, peer["drops"]
    sender.stop(timeout=20)
    receiver.wait()
    assert receiver.output().split()[-1] == sender.output().strip()
