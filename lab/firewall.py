"""A firewall between a site and the internet: translates addresses, tracks connections, lets pass what is allowed."""

import re

from lab.internet import Lab

_TABLE = "table inet firewall"


class Firewall:
    """The router of a site with one host behind it.

    What connection tracking calls invalid is dropped, and so is TCP whose beginning was not seen (strict tracking), as
    on the firewalls of companies. At first everything may go out; `allow` says what may from then on, also of
    connections that are there already.
    """

    def __init__(self, lab: Lab, number: int, *, name: str = "", translates: bool = True) -> None:
        """Build the site NUMBER: 198.18.NUMBER.2 outside, 192.168.NUMBER.0/24 inside.

        Without `translates` the host has the address 198.18.(100 + NUMBER).2, which the internet routes here.
        """
        self.inside = lab.host(name or f"node{number}", ipv6=True)
        self.host = lab.host(f"fw{number}")
        self.to_internet = lab.attach(self.host, f"198.18.{number}.2/24", device="wan")
        self.inside.veth("eth0", self.host, "lan")
        network = f"192.168.{number}" if translates else f"198.18.{100 + number}"
        self.host.add_address("lan", f"{network}.1/24")
        self.inside.add_address("eth0", f"{network}.2/24")
        self.inside.add_route("0.0.0.0/0", f"{network}.1")
        if not translates:
            lab.internet.add_route(f"{network}.0/24", f"198.18.{number}.2")
        self._translates = translates
        self.host.sysctl({"net.ipv4.ip_forward": 1})
        self.allow()
        # Tracking is there from the first rule that asks for it.
        self.host.sysctl({"net.netfilter.nf_conntrack_tcp_loose": 0, "net.netfilter.nf_conntrack_tcp_be_liberal": 0})

    def allow(self, *, udp: bool = True, tcp: bool = True, only_port: int | None = None) -> None:
        """Let UDP and TCP pass or not; of TCP, if wanted, `only_port` outside alone."""
        barred = [] if udp else ["meta l4proto udp counter drop"]
        if not tcp:
            barred.append("meta l4proto tcp counter drop")
        elif only_port is not None:
            barred += [
                f'iifname "lan" tcp dport != {only_port} counter drop',
                f'iifname "wan" tcp sport != {only_port} counter drop',
            ]
        lines = "\n".join(barred)
        address = 'oifname "wan" masquerade' if self._translates else ""
        self.host.nft(f"""{_TABLE}
            delete {_TABLE}
            {_TABLE} {{
                chain passing {{
                    type filter hook forward priority 0; policy drop;
                    {lines}
                    ct state invalid counter drop
                    ct state established,related accept
                    iifname "lan" accept
                }}
                chain leaving {{
                    type nat hook postrouting priority 100
                    {address}
                }}
            }}""")

    def connections(self, protocol: str = "tcp") -> list[str]:
        """Return what connection tracking knows: a line for each connection."""
        return self.host.run("conntrack", "-L", "-p", protocol).stdout.splitlines()

    def invalid(self) -> int:
        """Return how many packets were invalid so far."""
        return sum(map(int, re.findall(r"\binvalid=(\d+)", self.host.run("conntrack", "-S").stdout)))

    def forget(self) -> None:
        """Lose the state of all connections, as a firewall does that is started anew."""
        self.host.run("conntrack", "-F")
