"""The program's start, end and mishaps on a real kernel: what it says, what it leaves behind, how it comes back."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pyroute2 import netns

from lab import Host, Lab, Tunnel, traffic
from lab.network import KEY
from lab.tunnel import PROGRAM, UDP_ONLY

pytestmark = pytest.mark.netns

HUB, NODE = "192.0.2.2", "198.51.100.2"


@pytest.fixture
def hub_host(lab: Lab) -> Host:
    host = lab.host("hub", ipv6=True)
    lab.attach(host, f"{HUB}/30")
    return host


@pytest.fixture
def node_host(lab: Lab) -> Host:
    host = lab.host("node", ipv6=True)
    lab.attach(host, f"{NODE}/30")
    return host


def start_hub(host: Host, key: str | None = KEY, *args: str) -> Tunnel:
    hub = Tunnel.hub(host, "10.77.0.1/24", "fd77::1/64", key=key, args=args)
    hub.wait_up()
    return hub


def start_node(host: Host, key: str | None = KEY, *args: str, hub: str = HUB) -> Tunnel:
    return Tunnel.node(host, hub, "10.77.0.2/24", "fd77::2/64", key=key, args=args)


def run(
    host: Host, *args: str, state: Path | None = None, wrap: list[str] | None = None, key: str = KEY
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, as when it cannot start."""
    env = {**os.environ, "LTUNNEL_STATE_DIR": str(state or host.folder / "state"), "LTUNNEL_KEY": key, "NO_COLOR": "1"}
    return host.run(*(wrap or []), PROGRAM, *args, check=False, env=env)


HUB_ARGS = ("-m", "server", "-l", "0.0.0.0:9000", "-t", "10.77.0.1/24", "--tun-name", "tun0")


def assert_refused(done: subprocess.CompletedProcess[str], pattern: str) -> None:
    """One line, exit 2."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ltunnel:")]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    assert re.search(pattern, lines[0]), lines[0]


def test_a_hub_and_a_node_meet_and_leave_nothing_behind(hub_host, node_host):
    before = hub_host.traces(), node_host.traces()
    hub, node = start_hub(hub_host), start_node(node_host)
    node.wait_up()
    for address in ("10.77.0.1", "fd77::1"):
        node_host.run("ping", "-c", "3", "-i", "0.05", "-W", "2", address)
    assert node.program.stop() == 0
    assert hub.program.stop() == 0
    assert (hub_host.traces(), node_host.traces()) == before
    assert {path.name for path in hub.state.iterdir()} == {"identity.key", "bindings.json"}
    assert {path.name for path in node.state.iterdir()} == {"identity.key", "pins.json"}


def test_the_start_is_told_in_one_line_with_what_two_people_compare(hub_host):
    hub = start_hub(hub_host)
    check = hub.status()["key_check"]
    line = hub.program.wait_for(r"^\S+Z info +hub \S+ is running, key check (\S+) .*$")
    assert line[1] == check
    for field in (
        "role=hub",
        f"key_check={check}",
        "transport=transport_faketcp,transport_udp",
        "cipher=AESGCM",
        "mtu=1397",
        "0.0.0.0:9000,0.0.0.0:9000",
    ):
        assert field in line[0]
    assert "10.77.0.1/24,fd77::1/64" in line[0]


def test_without_a_key_the_warning_is_loud_and_stays_in_the_status(hub_host):
    hub = start_hub(hub_host, None)
    hub.program.wait_for(r"warning +NOT ENCRYPTED")
    status = hub.status()
    assert status["encrypted"] is False
    assert any("NOT ENCRYPTED" in warning for warning in status["warnings"])


def test_the_status_says_what_the_runtime_knows(hub_host, node_host):
    hub = start_hub(hub_host)
    node = start_node(node_host)
    status = node.wait_up()
    assert status["tun"] == {
        "name": "tun0",
        "mtu": 1397,
        "addresses": ["10.77.0.2/24", "fd77::2/64"],
        "offload": True,
        "refused": 0,
    }
    assert status["uptime"] > 0
    assert re.fullmatch(r"\d+\.\d+.*", status["version"])
    transports = [port["transport"] for port in status["ports"]]
    assert transports[:2] == ["transport_faketcp", "transport_udp"]
    assert set(transports[2:]) <= {"transport_udp"}, "ports that ask what kind of NAT there is"
    assert all(port["drops"] == {} for port in status["ports"])
    assert ports_of(hub) == ["0.0.0.0:9000", "0.0.0.0:9000", "0.0.0.0:9001", "[::]:9000", "[::]:9000"]


def ports_of(hub):
    return [port["local"] for port in hub.status()["ports"]]


def test_a_hub_goes_without_a_second_port_that_is_taken(hub_host):
    hold = "import socket; s = socket.socket(2, 2); s.bind(('', 9001)); print('held', flush=True); s.recv(1)"
    hub_host.start("holder", [sys.executable, "-c", hold]).wait_for("held")
    hub = start_hub(hub_host)
    hub.program.wait_for("goes without a second UDP port.*9001 is in use")
    assert ports_of(hub) == ["0.0.0.0:9000", "0.0.0.0:9000", "[::]:9000", "[::]:9000"]


def test_a_hub_goes_without_ports_for_ipv6_that_are_taken(hub_host):
    hold = (
        "import socket; s = socket.socket(10, 2); s.setsockopt(41, 26, 1); s.bind(('::', 9000)); "
        "print('held', flush=True); s.recv(1)"
    )
    hub_host.start("holder", [sys.executable, "-c", hold]).wait_for("held")
    hub = start_hub(hub_host)
    hub.program.wait_for("cannot be asked over IPv6.*UDP port .*9000 is in use")
    assert ports_of(hub) == ["0.0.0.0:9000", "0.0.0.0:9000", "0.0.0.0:9001", "[::]:9000"], "fake TCP has its own"


@pytest.mark.parametrize("args", [["-client-isolation"], ["-l", "127.0.0.1:9000"]])
def test_a_hub_that_has_no_use_for_ipv6_does_not_listen_to_it(hub_host, args):
    hub = Tunnel.hub(hub_host, "10.77.0.1/24", key=KEY, args=args)
    hub.wait_up()
    assert all(":9" in place and not place.startswith("[") for place in ports_of(hub))


def test_json_logs_are_json(hub_host):
    hub = Tunnel.hub(hub_host, "10.77.0.1/24", key=KEY, args=["-log-format", "json"])
    hub.wait_up()
    hub.program.stop()
    entries = [json.loads(line) for line in hub.program.output().splitlines()]
    assert entries[0]["event"] == "start"
    assert entries[0]["role"] == "hub"
    assert all({"time", "level", "event", "text"} <= entry.keys() for entry in entries)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_success(hub_host, number):
    hub = start_hub(hub_host)
    hub.program.signal(signal.SIGHUP)  # there is no file to read again
    hub.status()
    hub.program.signal(number)
    assert hub.program.wait(5) == 0


def test_after_a_kill_the_next_start_finds_its_place(hub_host):
    before = hub_host.traces()
    hub = start_hub(hub_host, KEY, *UDP_ONLY)
    identity = (hub.state / "identity.key").read_text()
    hub.program.kill()
    assert hub_host.traces() == before
    assert (hub.state / "tun0.sock").exists()
    hub.start()
    hub.wait_up()
    assert (hub.state / "identity.key").read_text() == identity
    assert hub.program.stop() == 0
    assert not (hub.state / "tun0.sock").exists()


def test_a_second_one_is_told_of_the_first(hub_host, node_host):
    start_hub(hub_host)
    node = start_node(node_host)
    node.wait_up()
    done = node.run("-m", "client", "-r", f"{HUB}:9000", "-t", "10.77.0.9/24", "-k", KEY, "--tun-name", "tun0")
    assert_refused(done, "device tun0 is running already")
    done = run(hub_host, *HUB_ARGS[:-1], "tun1", state=hub_host.folder / "state-tun0")
    assert_refused(done, "another server uses the state folder")


def test_a_port_in_use_is_named_with_its_holder(hub_host):
    netns.pushns(hub_host.namespace)
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    netns.popns()
    with holder:
        holder.bind(("0.0.0.0", 9000))
        before = hub_host.traces()
        assert_refused(
            run(hub_host, *HUB_ARGS, *UDP_ONLY), rf"UDP port 0\.0\.0\.0:9000 is in use by .*\(pid {os.getpid()}\)"
        )
        assert hub_host.traces() == before


def test_an_address_that_is_not_ours_is_explained(hub_host):
    args = [arg.replace("0.0.0.0", "203.0.113.77") for arg in HUB_ARGS]
    assert_refused(run(hub_host, *args), "203.0.113.77 is not an address of this machine")


def test_a_device_name_in_use_is_explained(hub_host):
    before = hub_host.traces()
    assert_refused(run(hub_host, *HUB_ARGS[:-1], "eth0"), "interface named eth0 already")
    assert hub_host.traces() == before


def test_a_missing_tun_module_is_explained(hub_host):
    before = hub_host.traces()
    hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/net && exec "$@"', "sh"]
    assert_refused(run(hub_host, *HUB_ARGS, wrap=hide), r"/dev/net/tun is missing.*modprobe tun")
    assert hub_host.traces() == before


def test_missing_rights_are_explained(hub_host, lab):
    folder = lab.folder / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    lab.folder.chmod(0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    before = hub_host.traces()
    assert_refused(
        run(hub_host, *HUB_ARGS, state=folder, wrap=nobody), "no permission to create a TUN device: run as root"
    )
    assert hub_host.traces() == before
    assert_refused(
        run(hub_host, *HUB_ARGS, state=Path("/proc/theirs"), wrap=nobody), "cannot create folder /proc/theirs"
    )


@pytest.mark.parametrize("name", ["identity.key", "bindings.json"])
def test_damaged_state_stops_the_start_and_is_kept(hub_host, name):
    state = hub_host.folder / "state"
    state.mkdir()
    (state / name).write_text("rubbish")
    before = hub_host.traces()
    assert_refused(run(hub_host, *HUB_ARGS), f"{name} is damaged")
    assert (state / name).read_text() == "rubbish"
    assert hub_host.traces() == before


def test_a_link_too_small_for_the_tunnel_is_explained(lab):
    host = lab.host("small")
    lab.attach(host, f"{HUB}/30", mtu=600)
    assert_refused(run(host, *HUB_ARGS), "a link of 600 carries")


def test_the_mtu_follows_the_link(lab, hub_host):
    host = lab.host("small")
    lab.attach(host, f"{NODE}/30", mtu=1400)
    start_hub(hub_host)
    node = Tunnel.node(host, HUB, "10.77.0.2/24", key=KEY, args=[*UDP_ONLY, "-mtu", "1380"])
    status = node.wait_up()
    assert status["tun"]["mtu"] == 1400 - 20 - 8 - 28 - 11 - 10
    node.program.wait_for("mtu: lowered from 1380 to 1323")


def test_a_device_that_is_taken_away_ends_it_with_a_word(hub_host):
    hub = start_hub(hub_host)
    hub_host.run("ip", "link", "delete", "tun0")
    assert hub.program.wait(5) == 2
    assert hub.program.last_lines(1) == "ltunnel: the device tun0 was taken away"
    assert not (hub.state / "tun0.sock").exists()


def test_a_full_disk_is_reported_and_bindings_hold_in_memory(hub_host, node_host):
    state = hub_host.folder / "full"
    state.mkdir()
    fill = f'mount -t tmpfs -o size=16k tmpfs {state} && head -c 8192 /dev/zero > {state}/ballast; exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", fill, "sh", PROGRAM, *HUB_ARGS, "-k", KEY]
    hub = hub_host.start("hub", argv, {"LTUNNEL_STATE_DIR": str(state), "NO_COLOR": "1"})
    hub.wait_for("is running")
    inside = Path(f"/proc/{hub.pid}/root{state}")
    inside.joinpath("more").write_bytes(bytes(4096 * _free_blocks(inside)))
    node = Tunnel.node(node_host, HUB, "10.77.0.2/24", key=KEY)
    node.wait_up()
    hub.wait_for("error +cannot store bindings: No space left on device; trying again")
    node_host.run("ping", "-c", "1", "-W", "2", "10.77.0.1")
    node.program.stop()
    node.start()
    node.wait_up()  # the same key still owns the address
    assert not inside.joinpath("bindings.json").exists()


def _free_blocks(path: Path) -> int:
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize // 4096


def test_a_hub_forgets_a_binding_when_told(hub_host, node_host):
    hub = start_hub(hub_host)
    node = start_node(node_host)
    node.wait_up()
    assert ask(hub, {"command": "forget", "peer": "nobody"}) == {
        "error": "no client has the name, address or key nobody"
    }
    answer = ask(hub, {"command": "forget", "peer": "node"})
    assert "forgotten" in answer, answer
    forgotten = answer["forgotten"]
    assert forgotten["addresses"] == ["10.77.0.2", "fd77::2"]
    assert "left" in hub.program.output() or "removed" in hub.program.output()
    node.program.stop()
    ask(hub, {"command": "forget", "peer": "node"})  # it may have joined again meanwhile
    stored = json.loads((hub.state / "bindings.json").read_text())
    assert stored["bindings"] == []
    assert "no server is pinned" in ask(hub, {"command": "forget-pin", "name": "x"})["error"]


def test_a_node_forgets_a_pin_when_told(hub_host, node_host):
    start_hub(hub_host)
    node = start_node(node_host)
    node.wait_up()
    (name,) = json.loads((node.state / "pins.json").read_text())["pins"]
    assert ask(node, {"command": "forget-pin", "name": name}) == {"forgotten": name}
    assert json.loads((node.state / "pins.json").read_text())["pins"] == {}
    assert "no server is pinned" in ask(node, {"command": "forget-pin", "name": name})["error"]
    assert "only a server" in ask(node, {"command": "forget", "peer": "x"})["error"]


def ask(tunnel: Tunnel, request: dict[str, str]) -> dict:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(tunnel.state / f"{tunnel.device}.sock"))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            return json.loads(lines.readline())


def test_a_hub_that_moves_is_found_by_its_name(lab, hub_host, node_host):
    """Dynamic DNS: the name is looked up again while the hub is silent."""
    hosts = node_host.folder / "hosts"
    hosts.write_text("203.0.113.9 hub.test\n")
    start_hub(hub_host)
    wrap = ["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
    args = [PROGRAM, "-m", "client", "-r", "hub.test:9000", "-t", "10.77.0.2/24", "-k", KEY, "--tun-name", "tun0"]
    node = node_host.start(
        "node", [*wrap, *args], {"LTUNNEL_STATE_DIR": str(node_host.folder / "state"), "NO_COLOR": "1"}
    )
    node.wait_for("node .* is running")
    hosts.write_text(f"{HUB} hub.test\n")
    node.wait_for(rf"trying hub\.test at {HUB}:9000", timeout=20)
    node.wait_for("connected to", timeout=10)
    node_host.run("ping", "-c", "1", "-W", "2", "10.77.0.1")


def test_a_name_that_does_not_exist_is_explained(node_host):
    switch = node_host.folder / "nsswitch.conf"
    switch.write_text("hosts: files\n")
    wrap = ["unshare", "-m", "sh", "-c", f'mount --bind {switch} /etc/nsswitch.conf && exec "$@"', "sh"]
    args = ["-m", "client", "-r", "no-such-hub.test:9000", "-t", "10.77.0.2/24"]
    assert_refused(run(node_host, *args, wrap=wrap), r"cannot resolve no-such-hub\.test: .*check the server's name")


@pytest.mark.alone
def test_a_node_stays_below_80_mb_under_load(hub_host, node_host):
    hub, node = start_hub(hub_host), start_node(node_host)
    node.wait_up()
    traffic.transfer(node_host, hub_host, "10.77.0.1", megabytes=100)
    for tunnel in (hub, node):
        used = int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{tunnel.program.pid}/status").read_text())[1])
        assert used < 80_000, f"{tunnel.program.name}: {used} kB"
