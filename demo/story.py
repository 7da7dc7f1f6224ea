"""What the demo tells, step by step. Each step uses the programs as a user would, inside namespaces."""

import sys
import time

from demo.behind import ACCEPTS, offers, show_device
from demo.direct import Pair, forwarded_by, say_path, show_healing, show_meeting
from demo.lossy import line_of, show_repair
from demo.screen import Screen, Step, amount, curve
from lab import Host, Lab, LabError, ProgramError, Tunnel, become_root, missing_ability, traffic
from lab.firewall import Firewall
from lab.nat import Site
from lab.pings import Pings
from lab.tunnel import PROGRAM, Status

HUB_OUTER, ALICE_OUTER, BOB_OUTER = "198.51.100.2", "203.0.113.2", "192.0.2.2"
HUB, ALICE, BOB, CAROL, DAVE, ERIN, FRANK = (f"10.0.0.{number}" for number in range(1, 8))
HUB6, ALICE6, BOB6, CAROL6, DAVE6, ERIN6, FRANK6 = (f"fd00::{number}" for number in range(1, 8))
UDP, FAKETCP = "transport_udp", "transport_faketcp"
UDP_FIRST = ("--transport", f"{UDP},{FAKETCP}")
"""What alice is started with; without it fake TCP comes first."""
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
  dave ── bad line ───┤                              dave  {DAVE}  {DAVE6}
          20 Mbit/s, 40 ms, loses 5 % each way       erin  {ERIN}  {ERIN6}
  erin ───┬─ NAT ─────┤                              frank {FRANK}  {FRANK6}
  printer ┘           │                              not in it: the printer
  frank ── NAT ───────┘"""


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
    screen.title("ltunnel: a hub and six nodes", PICTURE)
    with screen.step("a small internet out of network namespaces") as step:
        hub_host, alice_host, bob_host = (lab.host(name, ipv6=True) for name in ("hub", "alice", "bob"))
        for host, outer in ((hub_host, HUB_OUTER), (alice_host, ALICE_OUTER), (bob_host, BOB_OUTER)):
            lab.attach(host, f"{outer}/24")
        firewall = Firewall(lab, 7, name="carol")
        firewall.allow(udp=False)
        carol_host = firewall.inside
        dave_host, line = line_of(lab, "dave", "198.18.9.2/24")
        sites = Site(lab, 1), Site(lab, 2)
        erin_host, frank_host = (site.add_host(name) for site, name in zip(sites, ("erin", "frank"), strict=True))
        printer_host = sites[0].add_host("printer")
        erin_host.sysctl({"net.ipv4.ip_forward": 1})
        step.say(f"{len(lab.hosts)} namespaces; alice pings the hub's public address: {_ping(alice_host, HUB_OUTER)}")

    key = hub_host.run(PROGRAM, "genkey").stdout.strip()
    with screen.step("the hub:   ltunnel -m server -l 0.0.0.0:9000 -t 10.0.0.1/24,fd00::1/64 -k KEY") as step:
        hub = Tunnel.hub(hub_host, f"{HUB}/24", f"{HUB6}/64", key=key, args=ACCEPTS)
        _describe(step, hub.wait_up())

    with screen.step(f"the nodes:   ltunnel -m client -r {HUB_OUTER}:9000 -t 10.0.0.N/24,fd00::N/64 -k KEY") as step:
        nodes = [
            Tunnel.node(host, HUB_OUTER, f"{address}/24", f"{address6}/64", key=key, args=args)
            for host, address, address6, args in (
                (alice_host, ALICE, ALICE6, UDP_FIRST),
                (bob_host, BOB, BOB6, ()),
                (carol_host, CAROL, CAROL6, ()),
                (dave_host, DAVE, DAVE6, ()),
                (erin_host, ERIN, ERIN6, offers(sites[0])),
                (frank_host, FRANK, FRANK6, ACCEPTS),
            )
        ]
        for node in nodes:
            step.going_on(f"waiting for {node.host.name}")
            status = node.wait_up()
            addresses = " ".join(status["tun"]["addresses"])
            step.say(f"{node.host.name:<5} {addresses}  {_handshake(status)}")
        step.say(f"alice: {' '.join(UDP_FIRST)}; by default it is fake TCP first")
    alice, bob, carol, dave, erin, frank = nodes

    with screen.step("pings through the tunnel") as step:
        for node, target, target_address in (
            (alice, hub, HUB),
            (bob, hub, HUB),
            (alice, bob, BOB),
            (bob, alice, ALICE6),
            (carol, alice, ALICE),
        ):
            step.going_on(f"{node.host.name} → {target_address}")
            answers = _ping(node.host, target_address)
            step.say(f"{node.host.name:<5} → {target_address:<9} {answers}; {_path(node, target)}")

    to_hub, to_bob = (
        _bulk(screen, hub, source, target, address)
        for source, target, address in ((alice, hub, HUB), (alice, bob, BOB))
    )
    pair = Pair(erin, frank, FRANK, sites)
    show_meeting(screen, hub, pair)
    show_device(screen, pair, sites[0], printer_host)
    silence = show_healing(screen, lab, hub, pair)
    _block_udp(screen, lab, alice, carol)
    without, repaired = show_repair(screen, dave, hub, HUB, line)

    with screen.step("what the hub counted:   ltunnel status --json"):
        answer = hub.run("status", "--json")
        if answer.returncode:
            raise ProgramError(f"ltunnel status: {answer.stderr.strip()}")
        status = hub.status()
    _show_counters(screen, status)
    _expect_clean(hub, *nodes)

    with screen.step("all seven end on SIGTERM"):
        for tunnel in (*nodes, hub):
            if code := tunnel.program.stop():
                raise ProgramError(f"{tunnel.program.name} ended with {code} on SIGTERM")
    screen.success(
        f"six nodes and a hub, sealed with {status['stack']['cipher']}; {to_hub:.2f} Gbit/s to the hub, "
        f"{to_bob:.2f} Gbit/s from node to node; two behind NATs direct, and {silence:.1f} s of silence when that was "
        f"cut; a printer in the LAN of one of them; {repaired:.1f} instead of {without:.1f} Mbit/s on the bad line"
    )


def _describe(step: Step, status: Status) -> None:
    tun = status["tun"]
    addresses = " ".join(tun["addresses"])
    offload = "with" if tun["offload"] else "without"
    step.say(f"{tun['name']} {addresses} mtu {tun['mtu']}, {offload} offloads; key check {status['key_check']}")


def _handshake(status: Status) -> str:
    peer = next(peer for peer in status["peers"] if peer["hub"])
    return f"handshake with {peer['name']} ({peer['transport']}, key {peer['key'][:16]}…)"


def _path(node: Tunnel, target: Tunnel) -> str:
    """Say how a node reaches another, or the hub."""
    peer = node.peer(target.host.name)
    if peer is None:
        raise LabError(f"{node.host.name} does not know {target.host.name}")
    return f"over {peer['transport']}" if peer["hub"] else say_path(peer)


def _ping(host: Host, target: str) -> str:
    result = traffic.ping(host, target, count=5, interval=0.1)
    if result.received < result.sent:
        raise LabError(f"{host.name} got {result.received} of {result.sent} answers from {target}")
    return f"{result.received} of {result.sent} answers, {result.average:.2f} ms"


def _bulk(screen: Screen, hub: Tunnel, source: Tunnel, target: Tunnel, address: str) -> float:
    with screen.step(f"{source.host.name} → {target.host.name}, one TCP stream for {SECONDS} s") as step:
        rates: list[float] = []

        def seen(rate: float) -> None:
            rates.append(rate)
            step.going_on(f"{curve(rates)} {rate:.2f} Gbit/s")

        forwarded = forwarded_by(hub, source)
        traffic.serve(target.host)
        total = traffic.watch(source.host, address, SECONDS, seen)
        step.say(f"{curve(rates)} {total:.2f} Gbit/s, {amount(total / 8 * 1e9 * SECONDS)}; {_path(source, target)}")
        if target is not hub:
            step.say(f"the hub forwarded {amount(forwarded_by(hub, source) - forwarded)} of it")
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
        peer = alice.peer("hub") or {"transport": "no hub"}
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
            amount(peer["rx_bytes"]),
            amount(peer["tx_bytes"]),
            amount(peer["relayed_bytes"]),
            ", ".join(f"{reason} {count}" for reason, count in peer["drops"].items()) or "none",
        )
        for peer in sorted(status["peers"], key=lambda peer: str(peer["name"]))
    ]
    screen.table(("peer", "addresses", "endpoint", ">received", ">sent", ">passed on", "drops"), rows)


def _expect_clean(*tunnels: Tunnel) -> None:
    """Fail if a program complained: a demo that hides errors is none."""
    for tunnel in tunnels:
        if "Traceback" in tunnel.program.output():
            raise ProgramError(f"{tunnel.program.name} had an exception")
