"""What the demo tells, step by step. Each step uses the programs as a user would, inside namespaces."""

import sys
import time

from demo.lossy import line_of, show_repair
from demo.screen import Screen, Step, amount, curve
from lab import Host, Lab, LabError, ProgramError, Tunnel, become_root, missing_ability, traffic
from lab.firewall import Firewall
from lab.pings import Pings
from lab.tunnel import PROGRAM, Status

HUB_OUTER, ALICE_OUTER, BOB_OUTER = "198.51.100.2", "203.0.113.2", "192.0.2.2"
HUB, ALICE, BOB, CAROL, DAVE = (f"10.0.0.{number}" for number in range(1, 6))
HUB6, ALICE6, BOB6, CAROL6, DAVE6 = (f"fd00::{number}" for number in range(1, 6))
UDP, FAKETCP = "transport_udp", "transport_faketcp"
TRANSPORTS = ["--transport", f"{UDP},{FAKETCP}"]
SECONDS = 3
"""Length of a bulk transfer."""
BLOCKED_AFTER, BLOCKED_SECONDS = 2, 12
"""The transfer that is disturbed: when, and how long it is in all."""
UDP_BLOCKED = """table inet blocked {
    chain passing {
        type filter hook forward priority 0
        iifname "to-alice" meta l4proto udp drop
        oifname "to-alice" meta l4proto udp drop
    }
}"""

PICTURE = f"""\
  alice {ALICE_OUTER} ──┐                              in the tunnel:
  bob   {BOB_OUTER} ────┼── internet ── {HUB_OUTER}   hub   {HUB}  {HUB6}
  carol ── firewall ──┤                hub           alice {ALICE}  {ALICE6}
           that drops │                              bob   {BOB}  {BOB6}
           all UDP    │                              carol {CAROL}  {CAROL6}
  dave ── bad line ───┘                              dave  {DAVE}  {DAVE6}
          20 Mbit/s, 40 ms, loses 5 % each way"""


def tell() -> int:
    """Tell it all. Returns the exit code."""
    become_root()
    if reason := missing_ability():
        sys.exit(f"The demo cannot run: {reason}.")
    screen = Screen()
    began = time.monotonic()
    lab = Lab()
    with lab:
        try:
            _tell(screen, lab)
        except (LabError, ProgramError) as error:
            logs = [(program.name, program.last_lines()) for host in lab.hosts.values() for program in host.programs]
            screen.failure(str(error).partition("\n")[0], logs)
            return 1
    screen.console.print(f"all of it is removed again; {time.monotonic() - began:.0f} s in all", style="dim")
    return 0


def _tell(screen: Screen, lab: Lab) -> None:
    screen.title("ltunnel: a hub and four nodes", PICTURE)
    with screen.step("a small internet out of network namespaces") as step:
        hub_host, alice_host, bob_host = (lab.host(name, ipv6=True) for name in ("hub", "alice", "bob"))
        for host, outer in ((hub_host, HUB_OUTER), (alice_host, ALICE_OUTER), (bob_host, BOB_OUTER)):
            lab.attach(host, f"{outer}/24")
        firewall = Firewall(lab, 7, name="carol")
        firewall.allow(udp=False)
        carol_host = firewall.inside
        dave_host, line = line_of(lab, "dave", "198.18.9.2/24")
        step.say(f"{len(lab.hosts)} namespaces; alice pings the hub's public address: {_ping(alice_host, HUB_OUTER)}")

    key = hub_host.run(PROGRAM, "genkey").stdout.strip()
    with screen.step("the hub:   ltunnel -m server -l 0.0.0.0:9000 -t 10.0.0.1/24,fd00::1/64 -k KEY") as step:
        hub = Tunnel.hub(hub_host, f"{HUB}/24", f"{HUB6}/64", key=key, args=TRANSPORTS)
        _describe(step, hub.wait_up())
        step.say(f"all of them with {' '.join(TRANSPORTS)}")

    nodes: list[Tunnel] = []
    places = ((alice_host, ALICE, ALICE6), (bob_host, BOB, BOB6), (carol_host, CAROL, CAROL6), (dave_host, DAVE, DAVE6))
    for host, address, address6 in places:
        name = f"{host.name}:".ljust(6)
        with screen.step(
            f"{name}     ltunnel -m client -r {HUB_OUTER}:9000 -t {address}/24,{address6}/64 -k KEY"
        ) as step:
            node = Tunnel.node(host, HUB_OUTER, f"{address}/24", f"{address6}/64", key=key, args=TRANSPORTS)
            status = node.wait_up()
            nodes.append(node)
            _describe(step, status)
            step.say(f"handshake with {_first_peer(status)} done")
    alice, _, carol, dave = nodes

    with screen.step("pings through the tunnel") as step:
        pairs = ((alice_host, HUB), (bob_host, HUB), (alice_host, BOB), (bob_host, ALICE6), (carol_host, ALICE))
        for host, target in pairs:
            step.going_on(f"{host.name} → {target}")
            step.say(f"{host.name:<5} → {target:<9} {_ping(host, target)}")

    totals = [
        _bulk(screen, f"{name}, one TCP stream for {SECONDS} s", source, target, address)
        for name, source, target, address in (
            ("alice → hub", alice_host, hub_host, HUB),
            ("alice → hub → bob", alice_host, bob_host, BOB),
        )
    ]
    _block_udp(screen, lab, alice, carol)
    without, repaired = show_repair(screen, dave, hub, HUB, line)

    with screen.step("what the hub counted:   ltunnel status --json"):
        answer = hub.run("status", "--json")
        if answer.returncode:
            raise ProgramError(f"ltunnel status: {answer.stderr.strip()}")
        status = hub.status()
    _show_counters(screen, status)
    _expect_clean(hub, *nodes)

    with screen.step("all five end on SIGTERM"):
        for tunnel in (*nodes, hub):
            if code := tunnel.program.stop():
                raise ProgramError(f"{tunnel.program.name} ended with {code} on SIGTERM")
    screen.success(
        f"four nodes and a hub, sealed with {status['stack']['cipher']}; "
        f"{totals[0]:.2f} Gbit/s to the hub, {totals[1]:.2f} Gbit/s from node to node through it; "
        f"{repaired:.1f} instead of {without:.1f} Mbit/s on the bad line"
    )


def _describe(step: Step, status: Status) -> None:
    tun = status["tun"]
    addresses = " ".join(tun["addresses"])
    offload = "with" if tun["offload"] else "without"
    step.say(f"{tun['name']} {addresses} mtu {tun['mtu']}, {offload} offloads; key check {status['key_check']}")


def _first_peer(status: Status) -> str:
    peer = status["peers"][0]
    return f"{peer['name']} at {peer['endpoint']} ({peer['transport']}, key {peer['key'][:16]}…)"


def _ping(host: Host, target: str) -> str:
    result = traffic.ping(host, target, count=5, interval=0.1)
    if result.received < result.sent:
        raise LabError(f"{host.name} got {result.received} of {result.sent} answers from {target}")
    return f"{result.received} of {result.sent} answers, {result.average:.2f} ms on average"


def _bulk(screen: Screen, title: str, source: Host, target: Host, address: str) -> float:
    with screen.step(title) as step:
        rates: list[float] = []

        def seen(rate: float) -> None:
            rates.append(rate)
            step.going_on(f"{curve(rates)} {rate:.2f} Gbit/s")

        traffic.serve(target)
        total = traffic.watch(source, address, SECONDS, seen)
        step.say(f"{curve(rates)} {total:.2f} Gbit/s, {amount(total / 8 * 1e9 * SECONDS)}")
    return total


def _block_udp(screen: Screen, lab: Lab, alice: Tunnel, carol: Tunnel) -> None:
    """Drop UDP between one node and the internet while she sends; nobody may lose the tunnel."""
    with screen.step(
        f"alice sends to the hub for {BLOCKED_SECONDS} s; after {BLOCKED_AFTER} s all her UDP is dropped"
    ) as step:
        rates: list[float] = []
        pings = Pings(carol.host, HUB)
        began = time.time()

        def seen(rate: float) -> None:
            rates.append(rate)
            if len(rates) == BLOCKED_AFTER * 4:  # of a quarter second each
                lab.internet.nft(UDP_BLOCKED)
            step.going_on(f"{curve(rates, 4 * BLOCKED_SECONDS)} {rate:.2f} Gbit/s")

        traffic.serve(lab.hosts["hub"])
        traffic.watch(alice.host, HUB, BLOCKED_SECONDS, seen)
        peer = alice.status()["peers"][0]
        if peer["transport"] != FAKETCP or not rates[-1]:
            raise LabError(f"alice's transfer did not go on over {FAKETCP}: {peer['transport']}, {rates[-1]} Gbit/s")
        step.say(curve(rates, 4 * BLOCKED_SECONDS))
        step.say(
            f"goes on over {peer['transport']} ({peer['chosen']}), in the session of {peer['last_handshake']:.0f} s ago"
        )
        step.say(f"carol's pings meanwhile: at most {pings.longest_silence(since=began):.1f} s between two answers")


def _show_counters(screen: Screen, status: Status) -> None:
    rows = [
        (
            peer["name"],
            "\n".join(peer["addresses"]),
            f"{peer['endpoint']}\n{peer['transport']}",
            f"{peer['last_handshake']:.0f} s ago",
            amount(peer["rx_bytes"]),
            amount(peer["tx_bytes"]),
            ", ".join(f"{reason} {count}" for reason, count in peer["drops"].items()) or "none",
        )
        for peer in status["peers"]
    ]
    screen.table(("peer", "addresses", "endpoint", ">handshake", ">received", ">sent", "drops"), rows)


def _expect_clean(*tunnels: Tunnel) -> None:
    """Fail if a program complained: a demo that hides errors is none."""
    for tunnel in tunnels:
        if "Traceback" in tunnel.program.output():
            raise ProgramError(f"{tunnel.program.name} had an exception")
