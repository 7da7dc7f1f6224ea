"""The part of the demo with a device that runs no ltunnel: a node in its LAN brings the others to it."""

import re
import time

from demo.direct import Pair, say_path
from demo.screen import Screen
from lab import Host, LabError, traffic
from lab.nat import Site

PRIVATE = "192.168.0.0/16"
"""Within this hub and nodes accept what is offered."""
ACCEPTS = ("-accept-routes", PRIVATE)
PATIENCE = 15
"""Seconds until everybody knows what is behind whom."""


def offers(site: Site) -> tuple[str, str]:
    """Return the flags of a node that offers the LAN of its site."""
    return "-routes", f"{site.network}.0/24"


def show_device(screen: Screen, pair: Pair, site: Site, device: Host) -> None:
    """Let the far node of a pair ping a device in the LAN of the near one, and say whom the device has seen."""
    gateway, far = pair.one, pair.other
    network, address, inside = f"{site.network}.0/24", _address(device), _address(gateway.host)
    with screen.step(
        f"{far.host.name} → {device.name} {address}, in {gateway.host.name}'s LAN, without ltunnel"
    ) as step:
        step.say(f"{gateway.host.name}: {' '.join(offers(site))}; {far.host.name} and the hub: {' '.join(ACCEPTS)}")
        far.wait_status(lambda status: network in status["accepted_routes"], f"accept {network}", PATIENCE)
        step.say(f"{far.host.name}'s kernel: {_route(far.host, network)}")
        device.nft(
            f"table ip heard {{ chain in {{ type filter hook input priority 0; ip saddr {inside} counter; }}; }}"
        )
        pings = traffic.ping(far.host, address, count=5, interval=0.1)
        if pings.received < pings.sent:
            raise LabError(f"{far.host.name} got {pings.received} of {pings.sent} answers from {device.name}")
        peer = far.peer(gateway.host.name)
        path = "" if peer is None else f"; {say_path(peer)}"
        step.say(f"{pings.received} of {pings.sent} answers, {pings.average:.2f} ms{path}")
        found = re.search(r"counter packets (\d+)", device.nft("list table ip heard"))
        if found is None or int(found[1]) < pings.sent:
            raise LabError(f"{device.name} has not heard of {inside}")
        step.say(f"{device.name} saw {inside} ({gateway.host.name}) ask, so it needs no route into the tunnel")


def _address(host: Host) -> str:
    (address,) = host.addresses("eth0")
    return address.partition("/")[0]


def _route(host: Host, network: str) -> str:
    """Return the kernel's route to a network, as soon as there is one."""
    deadline = time.monotonic() + PATIENCE
    while not (route := host.run("ip", "route", "show", network).stdout.strip()):
        if time.monotonic() > deadline:
            raise LabError(f"{host.name} has no route to {network}")
        time.sleep(0.02)
    return route
