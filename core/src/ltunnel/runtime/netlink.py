"""Setting up the TUN device: MTU, queue, addresses, up; and looking for clashes with the machine's other interfaces.

`configure_tun` does it by pyroute2 in a short-lived process of its own (this module run as a program, JSON in and out):
*measured*, pyroute2 would stay in memory with 9 MB, more than a tenth of what a node may take.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from ltunnel.errors import HostError
from ltunnel.wire.text import escape

Interface = IPv4Interface | IPv6Interface

GSO_MAX_SIZE = 60_000
"""Largest super-packet in bytes: what it becomes with all headers and tags must stay below a datagram's 65,507."""

_ADDR_GEN_MODE_NONE = 1  # IN6_ADDR_GEN_MODE_NONE: no link-local address, so no solicitations into the tunnel
_IFA_F_NODAD = 2


_TIMEOUT = 30.0


def configure_tun(
    name: str, *, mtu: int, queue: int, addresses: Sequence[Interface], gso_max_size: int = GSO_MAX_SIZE
) -> list[str]:
    """Set up device `name` and bring it up. Returns warnings: addresses that other interfaces hold too.

    `queue` is the length of its send queue in packets. Raises `HostError`.
    """
    words = [str(address) for address in addresses]
    order = {"name": name, "mtu": mtu, "queue": queue, "gso_max_size": gso_max_size, "addresses": words}
    command = [sys.executable, "-m", "ltunnel.runtime.netlink"]
    try:
        done = subprocess.run(  # noqa: S603 (ourselves)
            command, input=json.dumps(order), capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"cannot configure {name}: {error}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise HostError(f"cannot configure {name}: {escape(reason)}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise HostError(answer["error"])
    warnings: list[str] = answer["warnings"]
    return warnings


def _main() -> None:
    """Carry out the order on stdin, and answer on stdout."""
    order = json.load(sys.stdin)
    addresses = [ip_interface(address) for address in order["addresses"]]
    try:
        warnings = _configure(order["name"], order["mtu"], order["queue"], order["gso_max_size"], addresses)
        answer: dict[str, object] = {"warnings": warnings}
    except HostError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


def _configure(name: str, mtu: int, queue: int, gso_max_size: int, addresses: Sequence[Interface]) -> list[str]:
    from pyroute2 import IPRoute, NetlinkError

    step = "look for it"
    try:
        with IPRoute() as route:
            index = route.link_lookup(ifname=name)[0]
            warnings = _clashes(route, index, addresses)
            step = "switch off its own link-local addresses"
            try:
                inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE)]}
                route.link("set", index=index, IFLA_AF_SPEC={"attrs": [("AF_INET6", inet6)]})
            except NetlinkError as error:
                if error.code not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):  # no IPv6 here: all is well
                    raise
            step = f"set MTU {mtu} and a queue of {queue}"
            route.link("set", index=index, mtu=mtu, txqlen=queue)
            step = f"set gso_max_size {gso_max_size}"
            route.link("set", index=index, gso_max_size=gso_max_size)  # of IPv4 too: below 64 KB the kernel sets both
            for address in addresses:
                step = f"give it the address {address}"
                _add_address(route, index, address)
            step = "bring it up"
            route.link("set", index=index, state="up")
            return warnings
    except NetlinkError as error:
        raise HostError(_explain(error.code, name, step)) from None


def _add_address(route: object, index: int, address: Interface) -> None:
    flags = _IFA_F_NODAD if address.version == 6 else 0
    route.addr(  # type: ignore[attr-defined]
        "add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, flags=flags
    )


def _clashes(route: object, index: int, addresses: Sequence[Interface]) -> list[str]:
    """Say which tunnel prefixes overlap with what other interfaces have: traffic would go to either."""
    names: dict[int, str] = {}
    found = []
    for entry in route.get_addr():  # type: ignore[attr-defined]
        text = entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")
        if entry["index"] == index or text is None:
            continue
        other = ip_interface(f"{text}/{entry['prefixlen']}")
        for address in addresses:
            if other.version == address.version and other.network.overlaps(address.network):
                if entry["index"] not in names:
                    link = route.get_links(entry["index"])[0]  # type: ignore[attr-defined]
                    names[entry["index"]] = link.get_attr("IFLA_IFNAME")
                found.append(f"{address} overlaps with {other} of {names[entry['index']]}")
    return found


def _explain(code: int, name: str, step: str) -> str:
    if code == errno.EPERM:
        return f"no permission to configure {name}: run as root, or give CAP_NET_ADMIN"
    if code == errno.EACCES:
        return f"cannot {step} ({name}): IPv6 is switched off here (sysctl net.ipv6.conf.all.disable_ipv6)"
    return f"cannot configure {name}: could not {step} (error {code}, {errno.errorcode.get(code, 'unknown')})"


if __name__ == "__main__":
    _main()
