"""LANs behind machines of the internet, and nodes that offer them to the others, or accept what is offered."""

import time

from lab import traffic
from lab.host import Host, LabError
from lab.internet import Lab
from lab.network import KEY, Network, attach_node
from lab.tunnel import Status, Tunnel, config_file
from ltunnel.runtime.tunnel_routes import PROTOCOL

SOON = 15.0
"""Seconds until everybody has heard of something, with room for a busy machine."""
NOTICED = 60.0
"""Seconds until a machine is missed that ended without a word."""


class Lan:
    """A machine of the internet, `gate`, that forwards for a LAN, and a device in that LAN.

    192.168.SUBNET.1 and fdaa:SUBNET::1 are the gate, .20 and ::20 the device, which knows its LAN and nothing else.
    SUBNET is NUMBER + 7 unless given.
    """

    def __init__(self, lab: Lab, number: int, *, subnet: int | None = None, gate: Host | None = None) -> None:
        self.subnet = number + 7 if subnet is None else subnet
        self.gate = gate or attach_node(lab, number)
        self.device = lab.host(f"device{number}", ipv6=True)
        self.gate.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        self.gate.veth("lan0", self.device, "eth0")
        for host, link, last in ((self.gate, "lan0", "1"), (self.device, "eth0", "20")):
            host.add_address(link, f"192.168.{self.subnet}.{last}/24")
            host.add_address(link, f"fdaa:{self.subnet}::{last}/64")

    @property
    def networks(self) -> list[str]:
        """Its prefixes."""
        return [f"192.168.{self.subnet}.0/24", f"fdaa:{self.subnet}::/64"]

    @property
    def address(self) -> str:
        """The device's address."""
        return f"192.168.{self.subnet}.20"

    @property
    def address6(self) -> str:
        """The device's IPv6 address."""
        return f"fdaa:{self.subnet}::20"

    def lead_back(self, *networks: str) -> None:
        """Give the device routes through the gate."""
        for network in networks:
            self.device.add_route(network, f"fdaa:{self.subnet}::1" if ":" in network else f"192.168.{self.subnet}.1")

    def hears_from(self, source: str) -> int:
        """Return how many packets the device has got from an address, since this was first asked."""
        if "table inet heard" not in self.device.nft("list tables"):
            self.device.nft("table inet heard { chain in { type filter hook input priority 0; }; }")
        rules = self.device.nft("list chain inet heard in")
        match = f"ip{6 if ':' in source else ''} saddr {source} counter"
        if match not in rules:
            self.device.nft(f"add rule inet heard in {match}")
            return 0
        return int(rules.split(f"{match} packets ")[1].split()[0])


def config(lab: Lab, name: str, **fields: object) -> list[str]:
    """Return arguments that name a configuration file with these fields."""
    return ["-c", config_file(lab.folder / f"{name}.json", fields)]


def accepting(lab: Lab, *more: str) -> Network:
    """Start a hub that accepts whatever is offered, and wait until it is up."""
    return Network.build(lab, nodes=0, hub_args=[*config(lab, "hub", accept_routes="all"), *more])


def accept(network: Network, *more: str, host: Host | None = None, **fields: object) -> Tunnel:
    """Start a node that accepts whatever is offered."""
    args = [*config(network.lab, f"node{len(network.nodes)}", **{"accept_routes": "all", **fields}), *more]
    return network.add_node(KEY, args, host=host)


def offer(network: Network, lan: Lan, *more: str, **fields: object) -> Tunnel:
    """Start a node at the gate that offers its LAN."""
    return accept(network, *more, host=lan.gate, **{"routes": lan.networks, **fields})


def wait_routed(tunnel: Tunnel, *networks: str, timeout: float = SOON) -> None:
    """Wait until these networks, and no others, are accepted, and the kernel has routes for them."""
    tunnel.wait_status(
        lambda status: set(status["accepted_routes"]) == set(networks), f"accept {networks}", timeout
    )  # fmt: skip
    deadline = time.monotonic() + SOON
    while (found := routed(tunnel.host)) != sorted(networks):
        if time.monotonic() > deadline:
            raise LabError(f"{tunnel.host.name} routes {found}, not {networks}")
        time.sleep(0.02)


def routed(host: Host) -> list[str]:
    """Return the networks that the kernel sends into the tunnel for us."""
    found = []
    for family in ("-4", "-6"):
        found += host.run("ip", family, "route", "show", "proto", str(PROTOCOL), "dev", "tun0").stdout.splitlines()
    return sorted(line.split()[0] for line in found)


def path(node: Tunnel, other: str) -> str | None:
    """Return the kind of path to another node (``public``, ``hub``)."""
    peer = node.peer(other)
    return None if peer is None else peer["path"]


def reaches(host: Host, address: str) -> bool:
    """Whether pings come back, the first of them perhaps not."""
    return traffic.ping(host, address, count=5).received >= 4


def refused(tunnel: Tunnel, network: str) -> str:
    """Wait for the refusal of a network, and return its reason."""
    status = tunnel.wait_status(lambda status: bool(_reasons(status, network)), f"refuse {network}", SOON)
    return _reasons(status, network)[0]


def _reasons(status: Status, network: str) -> list[str]:
    return [entry["reason"] for entry in status["refused_routes"] if entry["network"] == network]
