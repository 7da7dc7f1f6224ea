"""Rules in the kernel's packet filter: one nftables table that is ours alone, loaded and deleted as a whole.

`nft` does it, as a program: it is there wherever rules are, understands every kernel, and loads a file whole or not at
all. (pyroute2 knows of nftables only single netlink messages; libnftables' binding comes with the system's Python.)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from ltunnel.errors import HostError
from ltunnel.plugin import HostRule
from ltunnel.session.peer import Network
from ltunnel.wire.text import escape

_TIMEOUT = 20.0
_FIRST = -300  # before connection tracking
_PREFIX = "ltunnel_"
_IP = {4: "ip", 6: "ip6"}
_OPENINGS = "2000/second burst 400 packets"
"""SYNs that are passed on, each of which costs a place in connection tracking for a minute; a flood brings more."""
_COMMENT = "ltunnel: these ports are its own"
_BEHIND = "ltunnel: networks behind this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Port numbers of this machine that the kernel passes on to an address behind a device, and back."""

    device: str
    inside: Mapping[int, str]
    """Address behind the device by IP version."""
    numbers: Sequence[int]
    bound: str | None
    """The local address that is passed on, None for all."""
    opened: Mapping[int, Sequence[str]]
    """By IP version, devices that forward only because of this: what else comes in there is not forwarded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masquerade:
    """What comes in by a device for these networks leaves with this machine's own address there."""

    device: str
    networks: Sequence[Network]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in the table."""

    rules: Sequence[HostRule] = ()
    forwarding: Forwarding | None = None
    masquerade: Masquerade | None = None


def table_name(device: str) -> str:
    """Return the name of the table of the node with this TUN device; no two devices have the same."""
    return _PREFIX + re.sub(r"[^A-Za-z0-9_]", lambda match: f".{ord(match[0]):x}.", device)


def load_table(name: str, content: Content) -> None:
    """Put the table in force, in the place of one with its name. Raises `HostError`."""
    _nft("".join(f"{line}\n" for line in _lines(name, content)))


def delete_table(name: str) -> None:
    """Delete the table if it is there. Raises `HostError`."""
    _nft(f"table inet {name}\ndelete table inet {name}\n")  # the first line makes the second one valid


def _lines(name: str, content: Content) -> Iterator[str]:
    rules = content.rules
    yield f"table inet {name}"
    yield f"delete table inet {name}"
    yield f"table inet {name} {{"
    yield 'comment "made by ltunnel, which deletes it when it ends"'
    if rules:  # there is but one kind: HostRuleKind.DROP_RESETS
        # What the kernel does not see it does not answer. Other rules can make a RST too ("reject with tcp reset").
        yield from _chain("segments", f"filter hook input priority {_FIRST}", _of_ports(rules, "tcp", "d"))
        resets = _of_ports(rules, "tcp flags rst tcp", "s")
        yield from _chain("resets", f"filter hook output priority {_FIRST}", resets)
    if content.forwarding is not None:
        yield from _forwarding(content.forwarding)
    if content.masquerade is not None:
        yield from _chain("behind", "nat hook postrouting priority 100", _behind(content.masquerade), _BEHIND)
    yield "}"


def _chain(name: str, hook: str, rules: Iterable[str], comment: str = _COMMENT) -> Iterator[str]:
    yield f"chain {name} {{"
    yield f"type {hook}; policy accept;"
    yield from (f'{rule} comment "{comment}"' for rule in rules)
    yield "}"


def _of_ports(rules: Sequence[HostRule], match: str, end: str) -> Iterator[str]:
    """Drop packets with one of the rules' ports and addresses at this end, "s" or "d"."""
    for host in sorted({rule.host for rule in rules}):
        ports = ", ".join(str(rule.port) for rule in rules if rule.host == host)
        yield f"{_address(host, end)} {match} {end}port {{ {ports} }} drop"


def _address(host: str, end: str) -> str:
    """Match a local address. The wildcard of IPv6 stands for IPv4 too."""
    address = ip_address(host)
    if not address.is_unspecified:
        return f"{_IP[address.version]} {end}addr {host}"
    return "meta nfproto ipv4" if address.version == 4 else ""


def _forwarding(way: Forwarding) -> Iterator[str]:
    ports = ", ".join(map(str, way.numbers))
    ours = "fib daddr type local" if way.bound is None else f"{_IP[ip_address(way.bound).version]} daddr {way.bound}"
    inward, outward, passing = [], [], [f'iifname "{way.device}" ct state invalid drop']
    to_us = f'iifname != "{way.device}" {ours} tcp dport {{ {ports} }}'  # `fib` takes long, so only SYNs get that far
    openings = [f"tcp flags & (syn | ack) == syn {to_us} limit rate over {_OPENINGS} drop"]
    for version, host in way.inside.items():
        ip = _IP[version]
        inward.append(
            f'iifname != "{way.device}" meta nfproto ipv{version} {ours} tcp dport {{ {ports} }} dnat {ip} to {host}'
        )
        outward.append(f"{ip} saddr {host} " + ("masquerade" if way.bound is None else f"snat {ip} to {way.bound}"))
        if way.opened[version]:
            devices = ", ".join(f'"{device}"' for device in way.opened[version])
            passing.append(f'meta nfproto ipv{version} iifname {{ {devices} }} oifname != "{way.device}" drop')
    yield from _chain("openings", f"filter hook prerouting priority {_FIRST}", openings)
    yield from _chain("inward", "nat hook prerouting priority -100", inward)
    yield from _chain("outward", "nat hook postrouting priority 100", outward)
    yield from _chain("passing", f"filter hook forward priority {_FIRST}", passing)


def _behind(masquerade: Masquerade) -> Iterator[str]:
    """Match what comes out of the tunnel; interfaces that packets came in by are known there since Linux 5.7."""
    for version, ip in _IP.items():
        networks = ", ".join(str(network) for network in masquerade.networks if network.version == version)
        if networks:
            yield f'iifname "{masquerade.device}" {ip} daddr {{ {networks} }} masquerade'


def _nft(text: str) -> None:
    program = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        raise HostError("nft is missing, with which rules are set: install nftables")
    try:
        done = subprocess.run(  # noqa: S603 (found where programs are)
            [program, "-f", "-"], input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"cannot set rules with nft: {error}") from None
    if done.returncode:
        raise HostError(_explain(done.stderr))


def _explain(said: str) -> str:
    if "Operation not permitted" in said:
        return "no permission to set nftables rules: run as root, or give CAP_NET_ADMIN"
    if "Protocol not supported" in said or "Operation not supported" in said:
        return "cannot set nftables rules: this kernel lacks nf_tables (or nf_nat, for backend tun and masquerade)"
    reason = (said.strip().splitlines() or ["it says nothing"])[0]
    return f"cannot set nftables rules: {escape(reason)}"
