"""A node with RAW ports: rules come with it and go with it, whatever its end."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab import Host, Lab, Tunnel, traffic
from lab.network import KEY
from lab.raw import inside
from lab.tunnel import PROGRAM, config_file
from ltunnel.runtime.raw_numbers import keep_numbers

pytestmark = pytest.mark.netns

HUB, HUB6 = "192.0.2.2", "2001:db8:1::2"
NODE, NODE6 = "198.51.100.2", "2001:db8:2::2"
THEIRS = """
table inet theirs {
    chain out { type filter hook output priority 0; policy accept; tcp flags rst counter accept; }
}
table ip ltunnel_tun1_theirs { }
"""


@pytest.fixture(params=["packet", "tun"])
def args(lab: Lab, request: pytest.FixtureRequest) -> list[str]:
    """Arguments that choose fake TCP with a backend."""
    content = {"transport": ["transport_faketcp"], "transport_faketcp": {"backend": request.param}}
    return ["-c", config_file(lab.folder / "raw.json", content)]


@pytest.fixture
def hub_host(lab: Lab) -> Host:
    host = lab.host("hub", ipv6=True)
    lab.attach(host, f"{HUB}/30", f"{HUB6}/64")
    host.nft(THEIRS)
    return host


@pytest.fixture
def node_host(lab: Lab) -> Host:
    host = lab.host("node", ipv6=True)
    lab.attach(host, f"{NODE}/30", f"{NODE6}/64")
    return host


def start_hub(host: Host, args: list[str], device: str = "tun0") -> Tunnel:
    hub = Tunnel.hub(host, "10.77.0.1/24", key=KEY, args=args, device=device)
    hub.wait_up()
    return hub


def run(
    host: Host, *args: str, wrap: list[str] | None = None, state: str = "other"
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, as when it cannot start."""
    env = {**os.environ, "LTUNNEL_STATE_DIR": str(host.folder / state), "LTUNNEL_KEY": KEY, "NO_COLOR": "1"}
    return host.run(*(wrap or []), PROGRAM, *args, check=False, env=env)


HUB_ARGS = ("-m", "server", "-l", "0.0.0.0:9000", "-t", "10.77.0.1/24", "--tun-name", "tun0")


def assert_refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """One line, exit 2."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ltunnel:")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert text in lines[0], lines[0]


def tables(host: Host) -> str:
    return host.run("nft", "list", "tables").stdout


def test_after_a_kill_the_next_start_takes_the_leftovers_away(hub_host, args):
    before = hub_host.traces()
    hub = start_hub(hub_host, args)
    hub.program.kill()
    assert "table inet ltunnel_tun0" in tables(hub_host)
    left = hub_host.traces()
    assert left != before
    start_hub(hub_host, args, "tun1").program.stop()  # another node's leftovers are not its business
    assert hub_host.traces() == left
    hub.start()
    hub.wait_up()
    assert tables(hub_host).count("ltunnel_tun0") == 1
    assert hub.program.stop() == 0
    assert hub_host.traces() == before


def test_a_start_that_needs_no_rules_takes_the_leftovers_away_too(hub_host, args):
    before = hub_host.traces()
    hub = start_hub(hub_host, args)
    hub.program.kill()
    hub.args = [
        *hub.args[: hub.args.index("-c")],
        *hub.args[hub.args.index("-c") + 2 :],
        "--transport",
        "transport_udp",
    ]
    hub.start()
    hub.wait_up()
    assert "ltunnel_tun0" not in tables(hub_host)
    assert hub.program.stop() == 0
    assert hub_host.traces() == before


def test_two_on_one_machine_have_rules_of_their_own(hub_host, node_host, args):
    before = hub_host.traces()
    hub = start_hub(hub_host, args)
    second = Tunnel.node(hub_host, NODE, "10.78.0.9/24", key=KEY, args=args, device="my-tun.1")
    second.program.wait_for("is running")
    assert "table inet ltunnel_my.2d.tun.2e.1" in tables(hub_host)
    assert second.program.stop() == 0
    assert "table inet ltunnel_tun0" in tables(hub_host)
    assert "ltunnel_my" not in tables(hub_host)
    node = Tunnel.node(node_host, HUB, "10.77.0.2/24", key=KEY, args=args)
    node.wait_up()
    assert traffic.ping(node_host, "10.77.0.1").received == 3
    assert hub.program.stop() == 0
    assert hub_host.traces() == before


def test_a_start_that_fails_late_leaves_nothing(hub_host, args):
    before = hub_host.traces()
    assert_refused(run(hub_host, *HUB_ARGS[:-1], "eth0", *args), "interface named eth0 already")
    assert hub_host.traces() == before
    assert not list((hub_host.folder / "other").glob("*.undo"))


def test_missing_nftables_is_explained(hub_host, args):
    before = hub_host.traces()
    places = [path for path in ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft") if Path(path).exists()]
    hide = " && ".join(f"mount --bind /dev/null {path}" for path in dict.fromkeys(os.path.realpath(p) for p in places))
    wrap = ["unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh"]
    assert_refused(run(hub_host, *HUB_ARGS, *args, wrap=wrap), "install nftables")
    assert hub_host.traces() == before


def test_a_number_that_somebody_else_has_is_explained(hub_host, args):
    before = hub_host.traces()
    with inside(hub_host):
        numbers = keep_numbers("0.0.0.0", 9000)
    assert_refused(run(hub_host, *HUB_ARGS, *args), "TCP port 0.0.0.0:9000 is in use")
    numbers.close()
    assert hub_host.traces() == before


def test_missing_rights_are_explained(hub_host, lab):
    lab.folder.chmod(0o755)
    folder = lab.folder / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    env = {**os.environ, "LTUNNEL_STATE_DIR": str(folder), "LTUNNEL_KEY": KEY, "NO_COLOR": "1"}
    before = hub_host.traces()
    done = hub_host.run(*nobody, PROGRAM, *HUB_ARGS, "--transport", "transport_faketcp", check=False, env=env)
    assert_refused(done, "no permission to open packet sockets: run as root, or give CAP_NET_RAW")
    assert hub_host.traces() == before


def test_over_ipv6(hub_host, node_host, args):
    before = hub_host.traces(), node_host.traces()
    words = ["-m", "server", "-l", "[::]:9000", "-t", "10.77.0.1/24", *args]
    hub = Tunnel(hub_host, words, key=KEY)
    hub.wait_up()
    node = Tunnel.node(node_host, f"[{HUB6}]", "10.77.0.2/24", key=KEY, args=args)
    status = node.wait_up()
    assert status["peers"][0]["endpoint"] == f"[{HUB6}]:9000"
    done = traffic.transfer(node_host, hub_host, "10.77.0.1", megabytes=20)
    assert done.sent == done.received
    node.program.stop()
    node = Tunnel.node(node_host, HUB, "10.77.0.2/24", key=KEY, args=args)
    node.wait_up()  # the same hub, the other version
    assert traffic.ping(node_host, "10.77.0.1").received == 3
    assert node.program.stop() == 0
    assert hub.program.stop() == 0
    assert (hub_host.traces(), node_host.traces()) == before


def test_a_node_that_changes_its_network_goes_on(lab, hub_host, node_host, args):
    start_hub(hub_host, args)
    node = Tunnel.node(node_host, HUB, "10.77.0.2/24", key=KEY, args=args)
    node.wait_up()
    assert traffic.ping(node_host, "10.77.0.1").received == 3
    node_host.delete_address("eth0", f"{NODE}/30")
    lab.address(node_host, "203.0.113.2/30")
    assert traffic.ping(node_host, "10.77.0.1", count=20, interval=0.5).received >= 8
    assert "203.0.113.2" in node_host.run("ip", "address").stdout


def test_two_capabilities_are_enough(hub_host, args):
    """All others are taken from root: what is left is what systemd gives (see the guide)."""
    rights = "-all,+net_admin,+net_raw"
    before = hub_host.traces()
    words = ["setpriv", "--inh-caps", rights, "--bounding-set", rights, PROGRAM, *HUB_ARGS, *args]
    env = {"LTUNNEL_STATE_DIR": str(hub_host.folder / "bounded"), "LTUNNEL_KEY": KEY, "NO_COLOR": "1"}
    hub = hub_host.start("hub", words, env)
    hub.wait_for("is running")
    assert int(re.search(r"CapEff:\s+(\w+)", Path(f"/proc/{hub.pid}/status").read_text())[1], 16) == 1 << 12 | 1 << 13
    assert "ltunnel_tun0" in tables(hub_host)
    assert hub.stop() == 0
    assert hub_host.traces() == before
