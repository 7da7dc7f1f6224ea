"""What fake TCP looks like to Wireshark, beside a real TCP transfer over the same lossy line."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import Host, Lab, Tunnel, traffic
from lab.capture import Capture, Segments
from lab.network import HUB_OUTER, KEY, attach_node
from lab.tunnel import PORT, config_file

pytestmark = pytest.mark.netns

WHOLE = {"tx": False, "tso": False, "gso": False, "gro": False}
"""Every frame as it is on a wire: cut, and with its checksum."""
PLAIN = 5310
SYN, SYN_ACK, ACK = 2, 18, 16


def build(lab: Lab) -> dict[str, Host]:
    """Make the hosts of a hub and a node, on links that carry whole frames only."""
    hub, node = lab.host("hub", ipv6=True), attach_node(lab, 0)
    lab.attach(hub, f"{HUB_OUTER}/24")
    for host in (hub, node):
        host.offload("eth0", WHOLE)
        lab.internet.offload(f"to-{host.name}", WHOLE)
    return {"hub": hub, "node": node}


def connect(lab: Lab, hosts: dict[str, Host], backend: str) -> None:
    """Start a hub and a node that use fake TCP."""
    settings = {"transport": ["transport_faketcp"], "transport_faketcp": {"backend": backend}}
    args = ["-c", config_file(lab.folder / "config.json", settings)]
    hub = Tunnel.hub(hosts["hub"], "10.0.0.1/24", key=KEY, args=args)
    node = Tunnel.node(hosts["node"], HUB_OUTER, "10.0.0.2/24", key=KEY, args=args)
    for tunnel in (hub, node):
        tunnel.wait_up()


def send(hosts: dict[str, Host], address: str, port: int) -> None:
    """Move 10 MB from node to hub."""
    result = traffic.transfer(hosts["node"], hosts["hub"], address, megabytes=10, port=port)
    assert result.received == result.sent


def read(*captures: Capture) -> list[Segments]:
    """End captures and read them."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(Capture.stop, captures))


def expect_sound(segments: Segments) -> None:
    """Check that the stream begins as TCP does and that nothing is malformed."""
    assert len(segments.rows) > 7000
    assert segments.unsound == []
    assert segments.kinds[:3] == [SYN, SYN_ACK, ACK]
    assert not {SYN, SYN_ACK} & set(segments.kinds[3:])


@pytest.mark.parametrize("backend", ["packet", "tun"])
def test_a_clean_line(lab: Lab, backend: str) -> None:
    hosts = build(lab)
    capture = Capture(hosts["hub"], "eth0", f"tcp port {PORT}")
    connect(lab, hosts, backend)
    send(hosts, "10.0.0.1", PLAIN)

    (fake,) = read(capture)

    expect_sound(fake)
    assert fake.flags == {}


def test_a_line_that_loses_packets(lab: Lab) -> None:
    """Nothing is said of it that is not said of plain TCP on this line, in front of the loss or behind it.

    In front of it, at the sender, all is seen that was sent; behind it, at the receiver, what arrived. As nothing is
    sent again, what is missing stays missing, and acknowledgements wait in front of it. They do so for half a window,
    33 MB: in a longer capture they move on once in so many bytes, which Wireshark calls `ack_lost_segment`.
    """
    hosts = build(lab)
    captures = [Capture(host, "eth0", f"tcp port {port}") for host in hosts.values() for port in (PORT, PLAIN)]
    connect(lab, hosts, "auto")
    lab.internet.lose("to-node0", 1)  # on the way to the hub: a plain transfer has no data to lose on the way back
    send(hosts, "10.0.0.1", PLAIN + 1)
    send(hosts, HUB_OUTER, PLAIN)

    fake_received, plain_received, fake_sent, plain_sent = read(*captures)

    expect_sound(fake_sent)
    expect_sound(fake_received)
    assert plain_sent.flags.keys() >= {"retransmission", "duplicate_ack"}
    assert fake_sent.flags.keys() <= plain_sent.flags.keys()
    assert plain_received.flags["lost_segment"] > 20
    assert fake_received.flags["lost_segment"] > 20
    assert fake_received.flags.keys() <= plain_received.flags.keys()
