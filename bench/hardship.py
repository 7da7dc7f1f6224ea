"""Fake TCP beside UDP where it is hard: on a line that loses packets, and under a flood of SYNs.

    .venv/bin/python -m bench.hardship [--rounds 5] [--seconds 2]

Both nodes belong to one hub, and take turns. The flood is 20,000 SYNs a second from made-up sources to the hub's port.
"""

import argparse
import sys
from collections.abc import Callable
from statistics import median

from lab import Lab, LabError, ProgramError, become_root, missing_ability, traffic
from lab.network import HUB_OUTER, Network
from lab.tunnel import PORT

TRANSPORTS = ("transport_udp", "transport_faketcp")
LOSSES = (1, 5)
FLOOD = 20_000
STREAMS = 4
_WHOLE = {"tso": False, "gso": False, "tx-udp-segmentation": False}


def build(lab: Lab) -> Network:
    """Start a hub and a node for each transport, on links whose frames are of MTU size: each is lost by itself."""
    network = Network.build(lab, nodes=0, hub_args=["--transport", ",".join(TRANSPORTS)])
    for transport in TRANSPORTS:
        network.add_node(args=["--transport", transport]).wait_up()
    for tunnel in (network.hub, *network.nodes):
        tunnel.host.offload("eth0", _WHOLE | {"gro": True})
        # What GRO joined on the way would be lost as a whole, and GRO joins TCP alone.
        lab.internet.offload(f"to-{tunnel.host.name}", _WHOLE | {"gro": False})
    lab.internet.run("ip", "route", "add", "blackhole", "100.64.0.0/10")  # where answers to the flood go
    return network


def stream(network: Network, number: int, seconds: int) -> float:
    """Return the Gbit/s from a node to the hub."""
    host = network.host(number)
    return traffic.tcp(host, network.hub.host, network.hub_inner, seconds=seconds, streams=STREAMS).gbit_s


def flooded(network: Network, number: int, seconds: int) -> float:
    """Return the Gbit/s from a node to the hub while SYNs rain down on it."""
    words = [*traffic.INSIDE["flood"], HUB_OUTER, str(PORT), str(FLOOD), str(seconds + 1)]
    flood = network.lab.internet.start("flood", words)
    flood.wait_for("ready")
    try:
        return stream(network, number, seconds)
    finally:
        flood.wait()


def compare(rounds: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    """Return the medians of two measurements that take turns."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.hardship", description="Measure fake TCP where it is hard.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="for each stream")
    options = parser.parse_args()
    become_root()
    if reason := missing_ability():
        sys.exit(f"The benchmark cannot run: {reason}.")
    rounds, seconds = options.rounds, options.seconds
    try:
        with Lab() as lab:
            network = build(lab)
            before = network.hub.program.memory_mb()
            quiet, loud = compare(rounds, lambda: stream(network, 1, seconds), lambda: flooded(network, 1, seconds))
            more = network.hub.program.memory_mb(peak=True) - before
            print(f"{FLOOD} SYNs/s: {loud:.3f} Gbit/s of {quiet:.3f}: {loud / quiet:.2f} (goal >= 0.5), ", end="")
            print(f"hub's memory +{more:.0f} MB (goal <= 20)", flush=True)
            for percent in LOSSES:
                for tunnel in (network.hub, *network.nodes):
                    lab.internet.lose(f"to-{tunnel.host.name}", percent)
                udp, faketcp = compare(rounds, lambda: stream(network, 0, seconds), lambda: stream(network, 1, seconds))
                print(f"{percent} % loss: faketcp {faketcp:.3f} Gbit/s, udp {udp:.3f}: ", end="")
                print(f"{faketcp / udp:.2f} (goal >= 0.9)", flush=True)
    except (LabError, ProgramError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
