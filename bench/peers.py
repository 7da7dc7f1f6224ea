"""What is measured: a plain link, wireguard-go and ltunnel. Each joins the three hosts of an arena of its own."""

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import Host, Lab, Program, ProgramError, Tunnel
from lab.traffic import ping
from lab.tunnel import PROGRAM

HUB, NODE, OTHER = 1, 2, 3
"""The last byte of a host's tunnel address."""


@dataclass
class Arena:
    """A hub with a link to each of two nodes, which have no other way to one another than through it."""

    hub: Host
    node: Host
    other: Host
    programs: dict[str, list[Program]] = field(default_factory=dict)
    """The VPN processes of hub, node and other."""

    hub_for_node = "192.0.2.1"
    hub_for_other = "192.0.2.5"
    node_outer = "192.0.2.2"
    other_outer = "192.0.2.6"

    @classmethod
    def build(cls, lab: Lab, name: str) -> "Arena":
        """Make the hosts and their links."""
        hub, node, other = (lab.host(f"{name}-{part}") for part in ("hub", "node", "other"))
        node.veth("eth0", hub, "eth1")
        other.veth("eth0", hub, "eth2")
        hub.add_address("eth1", f"{cls.hub_for_node}/30")
        node.add_address("eth0", f"{cls.node_outer}/30")
        hub.add_address("eth2", f"{cls.hub_for_other}/30")
        other.add_address("eth0", f"{cls.other_outer}/30")
        return cls(hub, node, other)

    def join_nodes(self) -> None:
        """Let the hub's kernel forward between the two links."""
        self.hub.sysctl({"net.ipv4.ip_forward": 1})
        self.node.add_route("0.0.0.0/0", self.hub_for_node)
        self.other.add_route("0.0.0.0/0", self.hub_for_other)

    def offload(self, features: Mapping[str, bool]) -> None:
        """Switch offloads on all ends of the links."""
        for host, device in ((self.hub, "eth1"), (self.hub, "eth2"), (self.node, "eth0"), (self.other, "eth0")):
            host.offload(device, features)

    def start(self, host: Host, name: str, argv: list[str | Path], env: dict[str, str] | None = None) -> Program:
        """Start a VPN process on a host, and count it as one."""
        program = host.start(name, argv, env)
        self.programs.setdefault(host.name.rsplit("-", 1)[1], []).append(program)
        return program


class Peer(ABC):
    """A way to join an arena."""

    name: str
    needs: tuple[str, ...] = ()
    """Programs that must be installed."""
    package: str = ""
    relays = True
    """Whether node and other reach each other through the hub."""
    neighbour: int | None = HUB
    """To which place the node has a direct path, for the measure of that; None: that is measured elsewhere."""
    measures: frozenset[str] | None = None
    """Names of the measures that it takes part in; None: all."""
    column: str | None = None
    """Name of the peer in whose column its figures stand; None: a column of its own."""

    arena: Arena

    def missing(self) -> str | None:
        """Say what is not installed; None: it can be measured."""
        absent = [program for program in self.needs if shutil.which(program) is None]
        return f"{', '.join(absent)} not installed (Debian package {self.package})" if absent else None

    @abstractmethod
    def start(self) -> None:
        """Bring the VPN up in `arena`."""

    @abstractmethod
    def address(self, place: int) -> str:
        """Return the address under which a place is reached through this peer."""

    def wait(self, timeout: float = 20.0) -> None:
        """Wait until traffic passes."""
        deadline = time.monotonic() + timeout
        for place in (HUB, OTHER) if self.relays else (HUB,):
            while not ping(self.arena.node, self.address(place), count=1).received:
                if time.monotonic() > deadline:
                    logs = [program.last_lines() for programs in self.arena.programs.values() for program in programs]
                    raise ProgramError(f"{self.name} does not reach {self.address(place)}:\n" + "\n".join(logs))
                time.sleep(0.2)

    def stop(self) -> None:
        """End the processes in good order: wireguard-go removes its control socket then."""
        for programs in self.arena.programs.values():
            for program in programs:
                program.stop()


class PlainLink(Peer):
    """The veth pairs themselves, forwarded by the hub's kernel: as fast as this machine gets."""

    name = "veth"
    neighbour = OTHER

    def start(self) -> None:
        """Route between the two links."""
        self.arena.join_nodes()

    def address(self, place: int) -> str:
        """Return an outer address."""
        return {HUB: self.arena.hub_for_node, OTHER: self.arena.other_outer}[place]


class WireguardGo(Peer):
    """WireGuard in user space, as Debian packages it."""

    name = "wireguard-go"
    needs = ("wireguard-go", "wg")
    package = "wireguard-go wireguard-tools"

    def start(self) -> None:
        """Start three processes and give them each other's keys."""
        arena = self.arena
        arena.hub.sysctl({"net.ipv4.ip_forward": 1})
        hosts = {HUB: arena.hub, NODE: arena.node, OTHER: arena.other}
        # The control socket is named after the device, in one folder for all namespaces: the name must be unique.
        device = {place: f"wg{os.getpid()}n{place}" for place in hosts}
        private = {place: host.run("wg", "genkey").stdout for place, host in hosts.items()}
        public = {place: host.run("wg", "pubkey", text=private[place]).stdout.strip() for place, host in hosts.items()}
        for place, host in hosts.items():
            arena.start(host, "wireguard-go", ["wireguard-go", "-f", device[place]], {"LOG_LEVEL": "error"})
            _wait_for(Path(f"/var/run/wireguard/{device[place]}.sock"))
            port = ["listen-port", "51820"] if place == HUB else []
            host.run("wg", "set", device[place], *port, "private-key", "/dev/stdin", text=private[place])
            host.add_address(device[place], f"{self.address(place)}/24")
            host.up(device[place], mtu=1420)
        for place, endpoint in ((NODE, arena.hub_for_node), (OTHER, arena.hub_for_other)):
            far = ["peer", public[HUB], "allowed-ips", "10.77.0.0/24", "endpoint", f"{endpoint}:51820"]
            hosts[place].run("wg", "set", device[place], *far, "persistent-keepalive", "25")
            arena.hub.run("wg", "set", device[HUB], "peer", public[place], "allowed-ips", f"{self.address(place)}/32")
            ping(hosts[place], self.address(HUB), count=1)  # the hub learns where its peers are

    def address(self, place: int) -> str:
        """Return an inner address."""
        return f"10.77.0.{place}"


class Ltunnel(Peer):
    """This project's program over UDP, with a key."""

    name = "ltunnel"
    neighbour: int | None = None
    args: tuple[str, ...] = ()
    node: Tunnel

    def arguments(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the arguments of the hub, and those of the nodes."""
        both = ("--transport", "transport_udp", *self.args)
        return both, both

    def start(self) -> None:
        """Start a hub and two nodes."""
        arena = self.arena
        key = arena.hub.run(PROGRAM, "genkey").stdout.strip()
        hub, node = self.arguments()
        tunnels = {
            "hub": Tunnel.hub(arena.hub, f"{self.address(HUB)}/24", key=key, args=hub),
            "node": Tunnel.node(arena.node, arena.hub_for_node, f"{self.address(NODE)}/24", key=key, args=node),
            "other": Tunnel.node(arena.other, arena.hub_for_other, f"{self.address(OTHER)}/24", key=key, args=node),
        }
        for part, tunnel in tunnels.items():
            arena.programs[part] = [tunnel.program]
            tunnel.wait_up()
        self.node = tunnels["node"]

    def address(self, place: int) -> str:
        """Return an inner address."""
        return f"10.78.0.{place}"


class LtunnelDirect(Ltunnel):
    """The same with a route between the nodes, a way that they are to find by themselves."""

    name = "ltunnel-direct"
    column = Ltunnel.name
    neighbour = OTHER
    measures = frozenset({"direct"})

    def start(self) -> None:
        """Let the hub's machine be a router first."""
        self.arena.join_nodes()
        super().start()

    def wait(self, timeout: float = 20.0) -> None:
        """Wait until the nodes have found it."""
        super().wait(timeout)
        deadline = time.monotonic() + timeout
        while (path := (self.node.peer(self.address(OTHER)) or {}).get("path")) not in ("lan", "public"):
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} goes by {path}:\n{self.node.run('nat').stdout}")
            time.sleep(0.2)


class LtunnelRs(Ltunnel):
    """The same with Reed-Solomon parity on everything, whether it is needed or not."""

    name = "ltunnel-rs"
    args = ("-fec", "fec_rs", "-fec-data", "10", "-fec-parity", "3")


class LtunnelXor(Ltunnel):
    """The same with XOR parity on everything."""

    name = "ltunnel-xor"
    args = ("-fec", "fec_xor", "-fec-data", "10", "-fec-parity", "1")


def _wait_for(path: Path) -> None:
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.01)
    raise ProgramError(f"{path} did not appear")
