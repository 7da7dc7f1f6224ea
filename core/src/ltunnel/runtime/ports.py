"""Opening the ports that transports ask for, and saying why one cannot be had."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

from ltunnel.errors import HostError
from ltunnel.plugin import Endpoint, Port, PortKind, PortSpec, write_address
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.raw import open_raw
from ltunnel.runtime.shared import Sharing
from ltunnel.runtime.stream import open_stream
from ltunnel.runtime.udp import RECEIVE_BUFFER, UdpPort, open_udp
from ltunnel.runtime.udp_sources import SourcedPort, has_choice
from ltunnel.wire.text import escape

_PROTOCOLS = {PortKind.UDP: "UDP", PortKind.STREAM: "TCP", PortKind.RAW: "TCP"}
_TCP_LISTEN = "0A"  # state in /proc/net/tcp


class OpenPort(Port, Protocol):
    """A port as the runtime sees it: to be polled, closed, and asked what it lost."""

    drops: dict[str, int]

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        ...

    def close(self) -> None:
        """Close the descriptor."""
        ...


def open_ports(
    specs: Sequence[PortSpec],
    host: HostChanges,
    receive_buffer: int = RECEIVE_BUFFER,
    sharing: Sharing | None = None,
) -> list[OpenPort]:
    """Open all ports that a transport asks for, in order, or none. Raises `HostError`.

    `host` is changed as some of them need it. `receive_buffer` is how many bytes the kernel keeps for each port until
    they are read; those of streams it sizes itself. `sharing` knows which ports other transports ask for, too.
    """
    sharing = sharing or Sharing([])
    with ExitStack() as stack:
        ports: list[OpenPort] = []
        for spec in specs:
            port = _open(spec, host, receive_buffer, sharing)
            stack.callback(port.close)
            ports.append(port)
        stack.pop_all()
        return ports


def _open(spec: PortSpec, host: HostChanges, receive_buffer: int, sharing: Sharing) -> OpenPort:
    try:
        match spec.kind:
            case PortKind.UDP:
                return sharing.open(spec, partial(_open_udp, spec, receive_buffer))
            case PortKind.STREAM:
                listen = bool(spec.extra.get("listen"))
                return open_stream(spec.host, spec.port, listen=listen, dual_stack=spec.dual_stack)
            case PortKind.RAW:
                return open_raw(spec, host, receive_buffer)
    except OSError as error:
        raise HostError(_explain(error, spec)) from None


def _open_udp(spec: PortSpec, receive_buffer: int) -> UdpPort:
    answers = spec.port and has_choice(spec.host, dual_stack=spec.dual_stack)
    make = SourcedPort if answers else UdpPort
    return open_udp(spec.host, spec.port, dual_stack=spec.dual_stack, receive_buffer=receive_buffer, make=make)


def taken_by(spec: PortSpec, name: str) -> str:
    """Say that another transport of ours has a port already."""
    protocol, where = _PROTOCOLS[spec.kind], name_address((spec.host, spec.port))
    return f"{protocol} port {where} is that of {name} here: give one of the two another port"


def _explain(error: OSError, spec: PortSpec) -> str:
    protocol, where = _PROTOCOLS[spec.kind], name_address((spec.host, spec.port))
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(protocol, spec.port)
        by = f" by {holder}" if holder else ""
        return f"{protocol} port {where} is in use{by}: stop it, or listen on another port (-l)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: {spec.host} is not an address of this machine; 0.0.0.0 takes them all (-l)"
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "run as root, give CAP_NET_BIND_SERVICE or take a port above 1023"
        return f"no permission to listen on {protocol} port {where}: {remedy}"
    if error.errno == errno.EAFNOSUPPORT:
        return f"cannot listen on {where}: this machine has no IPv6"
    return f"cannot listen on {protocol} port {where}: {error.strerror}"


def name_address(address: Endpoint) -> str:
    """Write a socket address as ``host:port``, IPv6 in brackets."""
    return write_address((address[0], address[1]))


def find_holder(protocol: str, port: int) -> str | None:
    """Name the process that holds a port, "UDP" or "TCP": ``dnsmasq (pid 812)``; None if /proc does not tell."""
    inodes = set()
    for version in ("", "6"):
        table = f"/proc/net/{protocol.lower()}{version}"
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:  # sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...
            columns = line.split()
            listens = protocol == "UDP" or columns[3] == _TCP_LISTEN
            if listens and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{columns[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) in inodes for link in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{escape(name)} (pid {process.name})"
        except OSError:  # gone, or another user's
            continue
    return None
