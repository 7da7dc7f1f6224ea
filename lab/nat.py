"""Sites behind routers that translate addresses: the kinds of NAT that there are, made of nftables rules.

======================  ======================  ==========================
kind                    mapping (RFC 4787)      filtering
======================  ======================  ==========================
full cone               endpoint-independent    endpoint-independent
address-restricted      endpoint-independent    address-dependent
port-restricted         endpoint-independent    address-and-port-dependent
symmetric               address-and-port-dep.   address-and-port-dependent
======================  ======================  ==========================

All of that is IPv4; a site may have IPv6, too, which is routed, behind a firewall that lets in only what was asked for.

Linux itself is port-restricted. For the cones a map remembers who has sent from a port, and lets others in by it; two
hosts of a site that send from the same port share it, so give them ports of their own.
"""

from enum import Enum

from lab.host import Host
from lab.internet import Lab

_TABLE = "table ip nat_site"
_TABLE6 = "table ip6 firewall"
_CUT = "table ip cut"


class Kind(Enum):
    """What a router does to UDP. The values are the usual names."""

    FULL_CONE = "full cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC = "symmetric"


_MASQUERADE = {Kind.SYMMETRIC: "masquerade fully-random"}
_SETS = """
    map cone { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 120s; }
    set seen { type inet_service . ipv4_addr; flags dynamic,timeout; timeout 120s; }
"""
_REMEMBER = {
    Kind.FULL_CONE: 'oifname "wan" meta l4proto udp update @cone { udp sport : ip saddr . udp sport }',
    Kind.ADDRESS_RESTRICTED: """oifname "wan" meta l4proto udp update @cone { udp sport : ip saddr . udp sport }
        oifname "wan" meta l4proto udp update @seen { udp sport . ip daddr }""",
}
_LET_IN = {
    Kind.FULL_CONE: 'iifname "wan" meta l4proto udp dnat ip to udp dport map @cone',
    Kind.ADDRESS_RESTRICTED: 'iifname "wan" udp dport . ip saddr @seen dnat ip to udp dport map @cone',
}


class Site:
    """A router and the hosts behind it. `hosts` grows with `add_host`: 192.168.SUBNET.2, .3, ..."""

    def __init__(
        self,
        lab: Lab,
        number: int,
        kind: Kind = Kind.PORT_RESTRICTED,
        *,
        subnet: int | None = None,
        behind: "Site | None" = None,
        hairpin: bool = False,
        accepts_input: bool = False,
        ipv6: bool = False,
    ) -> None:
        """Build the site NUMBER: 198.18.NUMBER.2 outside, or an address of the site that it is `behind`.

        `subnet` is NUMBER unless given. With `hairpin` (of the cones) hosts inside reach each other by the outside
        address. With `accepts_input` what comes from outside unasked ends in the router, and leaves a trace in its
        table that makes the mapping of the same port another one; else it is dropped. With `ipv6` hosts are
        2001:db8:NUMBER::2, ::3, ... as well, and nothing translates that.
        """
        self.lab = lab
        self.kind = kind
        self.subnet = number if subnet is None else subnet
        self.network = f"192.168.{self.subnet}"
        self.router = lab.host(f"nat{number}", ipv6=ipv6)
        self.hosts: list[Host] = []
        self._number = number
        self._hairpin = hairpin
        self._accepts_input = accepts_input
        self._blocks_udp = False
        self._ipv6 = f"2001:db8:{number}" if ipv6 else ""
        if behind is None:
            self.outside = f"198.18.{number}.2"
            lab.attach(self.router, f"{self.outside}/24", device="wan")
        else:
            self.outside = behind.join(self.router, "wan")
        self.router.netlink.link("add", kind="bridge", ifname="lan0")
        self.router.up("lan0")
        self.router.add_address("lan0", f"{self.network}.1/24")
        self.router.sysctl({"net.ipv4.ip_forward": 1})
        if ipv6:
            self._route_ipv6()
        self._load()

    def join(self, host: Host, device: str = "eth0") -> str:
        """Join a host to the site; returns its address. Its default route leads out."""
        number = len(self.hosts) + 2
        self.hosts.append(host)
        port = f"lan0.{number}"
        host.veth(device, self.router, port)
        self.router.netlink.link("set", index=self.router.index(port), master=self.router.index("lan0"))
        address = f"{self.network}.{number}"
        host.add_address(device, f"{address}/24")
        host.add_route("0.0.0.0/0", f"{self.network}.1")
        if self._ipv6:
            host.add_address(device, f"{self._ipv6}::{number:x}/64")
            host.add_route("::/0", f"{self._ipv6}::1")
        return address

    def add_host(self, name: str) -> Host:
        """Add a host to the site."""
        host = self.lab.host(name, ipv6=True)
        self.join(host)
        return host

    def block_udp(self, blocked: bool = True) -> None:
        """Let no UDP pass, or let it pass again."""
        self._blocks_udp = blocked
        self._load()

    def track_strictly(self) -> None:
        """Drop TCP whose beginning the router has not seen, as the firewalls of companies do."""
        self.router.sysctl(
            {"net.netfilter.nf_conntrack_tcp_loose": 0, "net.netfilter.nf_conntrack_tcp_be_liberal": 0}
        )  # fmt: skip

    def forget(self) -> None:
        """Lose all mappings, as a router does that is started anew."""
        self._load()
        self.router.run("conntrack", "-F")

    def move(self, number: int) -> None:
        """Get another outside address, 198.18.NUMBER.2, as from a provider at night; connections are forgotten."""
        old, self.outside = self.outside, f"198.18.{number}.2"
        self.router.delete_address("wan", f"{old}/24")
        outer = f"to-{self.router.name}"[:15]
        self.lab.internet.delete_address(outer, f"{old.rpartition('.')[0]}.1/24")
        self.lab.address(self.router, f"{self.outside}/24", "wan")
        self.forget()

    def _route_ipv6(self) -> None:
        """Join the internet over IPv6."""
        link = f"2001:db8:f:{self._number}"
        self.lab.address(self.router, f"{link}::2/64", "wan")
        self.lab.internet.add_route(f"{self._ipv6}::/64", f"{link}::2")
        self.router.add_address("lan0", f"{self._ipv6}::1/64")
        self.router.sysctl({"net.ipv6.conf.all.forwarding": 1})

    def _load(self) -> None:
        barred = "meta l4proto udp counter drop" if self._blocks_udp else ""
        let_in = _LET_IN.get(self.kind, "")
        back_in = back_out = ""
        if self._hairpin:
            back_in = 'iifname "lan0" meta l4proto udp fib daddr type local dnat ip to udp dport map @cone'
            back_out = f'oifname "lan0" ip saddr {self.network}.0/24 ct status dnat snat to {self.outside}'
        self.router.nft(f"""{_TABLE}
            delete {_TABLE}
            {_TABLE} {{
                {_SETS}
                chain arriving {{
                    type nat hook prerouting priority -100
                    {let_in}
                    {back_in}
                }}
                chain leaving {{
                    type nat hook postrouting priority 100
                    {_REMEMBER.get(self.kind, "")}
                    {back_out}
                    oifname "wan" {_MASQUERADE.get(self.kind, "masquerade")}
                }}
                chain passing {{
                    type filter hook forward priority 0; policy drop;
                    {barred}
                    ct state invalid counter drop
                    ct state established,related accept
                    iifname "lan0" accept
                    iifname "wan" ct status dnat accept
                }}
                chain own {{
                    type filter hook input priority 0; policy {"accept" if self._accepts_input else "drop"};
                    iifname "lan0" accept
                    ct state established,related accept
                }}
            }}
            {_TABLE6}
            delete {_TABLE6}
            {_TABLE6} {{
                chain passing {{
                    type filter hook forward priority 0; policy drop;
                    {barred}
                    ct state invalid counter drop
                    ct state established,related accept
                    iifname "lan0" accept
                }}
            }}""")


def cut(lab: Lab, one: str, other: str, *, both: bool = True) -> None:
    """Drop UDP and TCP in the internet that goes from one address to another, or both ways; a later cut replaces it."""
    rules = f"ip saddr {one} ip daddr {other} counter drop"
    if both:
        rules += f"\nip saddr {other} ip daddr {one} counter drop"
    _forward(lab, rules)


def narrow(lab: Lab, one: str, other: str, longest: int) -> None:
    """Drop packets of more than `longest` bytes between two addresses without a word: a black hole (RFC 2923)."""
    ends = f"{{ {one}, {other} }}"
    _forward(lab, f"ip saddr {ends} ip daddr {ends} meta length > {longest} counter drop")


def heal(lab: Lab) -> None:
    """Take away what `cut` and `narrow` did."""
    _forward(lab, "")


def _forward(lab: Lab, rules: str) -> None:
    lab.internet.nft(f"""{_CUT}
        delete {_CUT}
        {_CUT} {{
            chain passing {{
                type filter hook forward priority -10
                {rules}
            }}
        }}""")
