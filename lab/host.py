"""A machine of a lab: one network namespace, with links, addresses, routes, firewall rules and programs."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns

from lab import owner
from lab.program import Program

_TABLE_DUMPS = ("iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save")
_COUNTS = re.compile(r"(?<=counter) packets \d+ bytes \d+|(?<= )\[\d+:\d+\]|^#.*$", re.MULTILINE)


class LabError(Exception):
    """The machine refuses something that a lab needs; the text ends with what the program said."""


class Host:
    """A namespace and what is in it. Made by `Lab.host`, removed with the lab."""

    def __init__(self, name: str, namespace: str, folder: Path, *, ipv6: bool) -> None:
        self.name = name
        self.namespace = namespace
        self.folder = folder
        self.programs: list[Program] = []
        folder.mkdir()
        owner.create_namespace(namespace)
        self.netlink = _netlink_inside(namespace)
        self.sysctl(
            {
                "net.ipv6.conf.all.disable_ipv6": int(not ipv6),
                "net.ipv6.conf.default.disable_ipv6": int(not ipv6),
                "net.ipv6.conf.default.accept_dad": 0,  # addresses work at once
                "net.ipv4.conf.all.rp_filter": 0,
                "net.ipv4.conf.default.rp_filter": 0,
                "net.bridge.bridge-nf-call-iptables": 0,  # where br_netfilter is there it is on
                "net.bridge.bridge-nf-call-ip6tables": 0,
            }
        )
        self.up("lo")

    def __repr__(self) -> str:
        return f"Host({self.name})"

    # Programs

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs `argv` inside, and ends it with the process that starts it."""
        inside = ["ip", "netns", "exec", self.namespace, "setpriv", "--pdeathsig", "KILL"]
        return [*inside, *map(str, argv)]

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Program:
        """Start a program; its output goes to a file in the host's folder."""
        log = self.folder / f"{name}.{len(self.programs)}.log"
        program = Program(f"{name} on {self.name}", self.command(argv), log, env or {})
        self.programs.append(program)
        return program

    def run(
        self,
        *argv: str | Path,
        timeout: float = 30,
        check: bool = True,
        text: str = "",
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, with `text` as its input. With `check`, a failure raises `LabError`."""
        done = subprocess.run(
            self.command(argv), input=text, capture_output=True, text=True, timeout=timeout, env=env, check=False
        )
        if check and done.returncode:
            words = " ".join(map(str, argv))
            raise LabError(
                f"{words!r} on {self.name}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    # Settings

    def sysctl(self, values: Mapping[str, int | str]) -> None:
        """Set kernel settings; those that this kernel has not got are passed over."""
        self.run("sysctl", "-qe", *(f"{key}={value}" for key, value in values.items()))

    def nft(self, rules: str) -> str:
        """Load nftables rules, or list them: the text is what `nft -f -` reads. Returns what it prints."""
        return self.run("nft", "-f", "-", text=rules).stdout

    def offload(self, device: str, features: Mapping[str, bool]) -> None:
        """Switch offloads by the names that ethtool knows them by: ``{"tso": False, "gso": False, "gro": True}``."""
        words = [word for name, on in features.items() for word in (name, "on" if on else "off")]
        self.run("ethtool", "-K", device, *words)

    # Links, addresses, routes

    def index(self, device: str) -> int:
        """Return the interface index of a device."""
        found = self.netlink.link_lookup(ifname=device)
        if not found:
            raise LabError(f"{self.name} has no device {device!r}")
        return int(found[0])

    def up(self, device: str, mtu: int | None = None) -> None:
        """Bring a device up."""
        self.netlink.link("set", index=self.index(device), state="up", **({"mtu": mtu} if mtu else {}))

    def down(self, device: str) -> None:
        """Take a device down."""
        self.netlink.link("set", index=self.index(device), state="down")

    def veth(self, device: str, other: "Host", other_device: str, mtu: int = 1500) -> None:
        """Join this host to another by a veth pair; both ends are up."""
        peer = {"ifname": other_device, "net_ns_fd": other.namespace}
        self.netlink.link("add", kind="veth", ifname=device, peer=peer)
        self.up(device, mtu)
        other.up(other_device, mtu)

    def add_address(self, device: str, address: str) -> None:
        """Give a device an address with its prefix: ``192.0.2.1/30``."""
        self._address("add", device, address)

    def delete_address(self, device: str, address: str) -> None:
        """Take an address from a device."""
        self._address("del", device, address)

    def _address(self, verb: str, device: str, address: str) -> None:
        interface = ip_interface(address)
        prefix = interface.network.prefixlen
        self.netlink.addr(verb, index=self.index(device), address=str(interface.ip), prefixlen=prefix)

    def add_route(self, destination: str, gateway: str) -> None:
        """Route a network (``0.0.0.0/0``: everything) through a gateway."""
        self.netlink.route("replace", dst=str(ip_network(destination)), gateway=gateway)

    def addresses(self, device: str) -> list[str]:
        """Return the addresses of a device with their prefixes; link-local ones are left out."""
        return [
            f"{entry.get('address')}/{entry['prefixlen']}"
            for entry in self.netlink.get_addr(index=self.index(device))
            if not str(entry.get("address")).startswith("fe80:")
        ]

    # Hardship

    def lose(self, device: str, percent: float) -> None:
        """Drop this share of the frames that arrive on a device, at random; 0 takes the rule away."""
        table = f"table netdev loss_{device}"
        rules = f"{table}\ndelete {table}\n"  # the first line makes the second one valid
        if percent:
            some = f"numgen random mod 10000 < {round(percent * 100)}" if percent < 100 else ""
            rules += f"""{table} {{
                chain drops {{
                    type filter hook ingress device "{device}" priority 0
                    {some} counter drop
                }}
            }}"""
        self.nft(rules)

    def limit_rate(self, device: str, rate: str) -> None:
        """Limit what leaves a device: ``10mbit``."""
        shape = ("tbf", "rate", rate, "burst", "32kb", "latency", "50ms")
        self.run("tc", "qdisc", "replace", "dev", device, "root", *shape)

    # Looking

    def traces(self) -> dict[str, list[str]]:
        """Return what a program could have left behind: links, addresses, routes, rules, filters, settings.

        Counts of packets are left out.
        """
        views = {
            "links": "ip -o link",
            "addresses": "ip -o address",
            "routes": "ip route show table all",
            "routes6": "ip -6 route show table all",
            "rules": "ip rule",
            "rules6": "ip -6 rule",
            "nft": "nft list ruleset",
            **{program: program for program in _TABLE_DUMPS if shutil.which(program)},
            "settings": "sysctl -ea --pattern ^net\\.(ipv4|ipv6)\\.",
        }
        return {what: _COUNTS.sub("", self.run(*line.split()).stdout).splitlines() for what, line in views.items()}


def _netlink_inside(namespace: str) -> Any:
    """Open a netlink socket inside a namespace: it stays there, this thread comes back."""
    netns.pushns(namespace)
    try:
        return IPRoute()
    finally:
        netns.popns()
