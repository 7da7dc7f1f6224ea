"""The program over TLS, in namespaces."""

import concurrent.futures
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab, Tunnel, traffic
from lab.network import HUB_OUTER, KEY, attach_node
from lab.tunnel import config_file
from ltunnel_transport_tls.command import main as make_certificate

pytestmark = pytest.mark.netns

SLOW = 5_000_000  # bits per second


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
        for host in lab.hosts.values():
            for program in host.programs:
                request.node.add_report_section("teardown", program.name, program.last_lines(40))


def config(lab: Lab, name: str, **options: Any) -> list[str]:
    """Return the flags that select TLS with options."""
    content = {"transport": "transport_tls", "transport_tls": options}
    return ["-c", str(config_file(lab.folder / f"{name}.json", content))]


@pytest.fixture
def tunnels(lab: Lab) -> tuple[Tunnel, Tunnel]:
    """A hub and a node that is up."""
    folder = lab.folder / "pair"
    assert make_certificate(["--name", HUB_OUTER, "--out", str(folder)]) == 0
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    host = lab.host("hub")
    lab.attach(host, f"{HUB_OUTER}/24")
    hub = Tunnel.hub(host, "10.0.0.1/24", key=KEY, args=config(lab, "hub", cert=cert, key=key, port=443))
    hub.wait_up()
    flags = config(lab, "node", ca=cert, port=443)
    node = Tunnel.node(attach_node(lab, 0), HUB_OUTER, "10.0.0.2/24", key=KEY, args=flags)
    node.wait_up()
    return hub, node


def test_large_files_arrive_whole_through_port_443_alone(tunnels: tuple[Tunnel, Tunnel]) -> None:
    hub, node = tunnels
    node.host.nft(
        """
        table inet fence {
            chain out {
                type filter hook output priority 0
                oifname "eth0" tcp dport != 443 drop
                oifname "eth0" meta l4proto udp drop
            }
        }
        """
    )
    there = traffic.transfer(node.host, hub.host, "10.0.0.1", megabytes=100)
    back = traffic.transfer(hub.host, node.host, "10.0.0.2", megabytes=100)
    assert there.received == there.sent
    assert back.received == back.sent


def test_a_ping_does_not_wait_behind_a_transfer_on_a_slow_line(tunnels: tuple[Tunnel, Tunnel]) -> None:
    hub, node = tunnels
    shape = ["tbf", "rate", str(SLOW), "burst", "16k", "latency", "40ms"]
    node.host.run("tc", "qdisc", "add", "dev", "eth0", "root", *shape)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        busy = pool.submit(lambda: traffic.tcp(node.host, hub.host, "10.0.0.1", seconds=5))
        time.sleep(1)
        pings = traffic.ping(node.host, "10.0.0.1", count=60, interval=0.05)
        rate = busy.result().gbit_s
    assert rate > 0.5 * SLOW / 1e9, "the line is used"
    assert pings.received >= 55
    assert pings.average < 150, "50 ms here and 40 ms in the line, at most, and some for the machine"


def test_a_hub_that_is_killed_and_started_again_is_found_again(tunnels: tuple[Tunnel, Tunnel]) -> None:
    hub, node = tunnels
    hub.program.kill()
    time.sleep(1)
    hub.start()
    hub.wait_up()
    deadline = time.monotonic() + 30
    while not traffic.ping(node.host, "10.0.0.1", count=1).received:
        assert time.monotonic() < deadline
    assert node.program.returncode is None


def test_mistakes_end_the_start_in_one_line(lab: Lab) -> None:
    host = lab.host("hub")
    for options, said in (
        ({}, "transport_tls.cert: is needed in server mode"),
        ({"cert": "/nowhere", "key": "/nowhere"}, "transport_tls.cert: cannot read /nowhere"),
        ({"pin": "abc"}, "transport_tls.pin.0: should be sha256: and 64 hex digits"),
    ):
        tunnel = Tunnel.hub(host, "10.0.0.1/24", key=KEY, args=config(lab, "hub", **options))
        assert tunnel.program.wait(timeout=15) == 2
        *_, line = tunnel.program.output().strip().splitlines()
        assert said in line


def test_who_checks_nothing_is_told_so(lab: Lab) -> None:
    flags = config(lab, "node", skip_verify=True)
    node = Tunnel.node(attach_node(lab, 0), HUB_OUTER, "10.0.0.2/24", key=KEY, args=flags)
    status = node.wait_status(lambda status: True, "answer")
    assert any("NOT CHECKED" in text for text in status["warnings"])
    assert "NOT CHECKED" in node.program.output()
