"""Asks the router to map a port: by PCP, by NAT-PMP, and by UPnP if the optional library is there. Blocks.

The one module of this plugin that opens sockets: the core calls it from a thread of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from ltunnel.plugin import Address, Carrier, read_target
from ltunnel_nat_punch import pcp
from ltunnel_nat_punch.pcp import Lease

WAITS = (0.25, 0.5, 1.0)
"""Seconds that a gateway gets for each try (RFC 6886, section 3.1, ends sooner here: most gateways are silent)."""
SEARCH = 1000
"""Milliseconds in which UPnP gateways may answer."""
_DESCRIPTION = "ltunnel"
_UP, _GATEWAY = 0x1, 0x2  # linux/route.h
_LARGEST = 1100  # RFC 6887, section 7

T = TypeVar("T")


def default_gateway(routes: Path = Path("/proc/net/route")) -> str | None:
    """Return the gateway of the IPv4 default route with the best metric, None without one."""
    found: list[tuple[int, str]] = []
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        _, destination, gateway, flags, _, _, metric, mask, *_ = line.split()
        if destination == mask == "00000000" and int(flags, 16) & (_UP | _GATEWAY) == _UP | _GATEWAY:
            found.append((int(metric), str(IPv4Address(bytes.fromhex(gateway)[::-1]))))
    return min(found)[1] if found else None


class Mapper:
    """See `ltunnel.plugin.PortMapper`. `gateway` says where to ask, `upnp` gives the UPnP library or None."""

    def __init__(
        self, gateway: Callable[[], str | None] = default_gateway, port: int = pcp.PORT,
        upnp: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._port = port
        self._upnp = upnp or _load_upnp
        self._nonces: dict[tuple[Carrier, int], bytes] = {}
        self._undo: dict[tuple[Carrier, int], Callable[[], object]] = {}
        self._order = [("PCP", self._pcp), ("NAT-PMP", self._pmp), ("UPnP", self._igd)]

    def map(self, carrier: Carrier, port: int, lifetime: float) -> tuple[Address, float, str] | None:
        """Map a local port, or renew: (outside address, seconds, protocol); what worked last is tried first."""
        for place, (name, ask) in enumerate(self._order):
            lease = ask(carrier, port, lifetime)
            if lease is not None and lease.lifetime > 0 and read_target(lease.address) is not None:
                self._order.insert(0, self._order.pop(place))
                return lease.address, lease.lifetime, name
        return None

    def close(self) -> None:
        """Undo what was mapped."""
        for undo in self._undo.values():
            undo()
        self._undo.clear()

    def _pcp(self, carrier: Carrier, port: int, lifetime: float) -> Lease | None:
        nonce = self._nonces.setdefault((carrier, port), os.urandom(pcp.NONCE))

        def question(seconds: float) -> Callable[[str], bytes]:
            return lambda own: pcp.pcp_map(carrier, port, seconds, own, nonce)

        lease = self._ask(question(lifetime), lambda data: pcp.read_pcp_map(data, carrier, port, nonce))
        if lease is not None:
            self._undo[carrier, port] = lambda: self._tell(question(0.0))
        return lease

    def _pmp(self, carrier: Carrier, port: int, lifetime: float) -> Lease | None:
        host = self._ask(lambda _own: pcp.ask_address(), pcp.read_address)
        if host is None:
            return None
        mapped = self._ask(
            lambda _own: pcp.pmp_map(carrier, port, lifetime), lambda data: pcp.read_pmp_map(data, carrier, port)
        )
        if mapped is None:
            return None
        self._undo[carrier, port] = lambda: self._tell(lambda _own: pcp.pmp_map(carrier, port, 0.0))
        return Lease((host, mapped[0]), mapped[1])

    def _igd(self, carrier: Carrier, port: int, lifetime: float) -> Lease | None:
        """By UPnP IGD. Some routers refuse leases that end, and get one that does not (until `close`)."""
        library = self._upnp()
        if library is None:
            return None
        device = library.UPnP()
        device.discoverdelay = SEARCH
        name = carrier.name
        try:
            if not device.discover() or not device.selectigd():
                return None
            host = device.externalipaddress()
            mapping = (port, name, device.lanaddr, port, _DESCRIPTION, "")
            try:
                good = device.addportmapping(*mapping, int(lifetime))
            except Exception:  # noqa: BLE001 - the library knows no narrower one
                good = device.addportmapping(*mapping)
        except Exception:  # noqa: BLE001 - as above: no gateway, or one that refuses
            return None
        if not good or not host:
            return None

        def undo() -> None:
            with contextlib.suppress(Exception):  # as above: the router has forgotten it, or is gone
                device.deleteportmapping(port, name, "")

        self._undo[carrier, port] = undo
        return Lease((host, port), lifetime)

    def _ask(self, question: Callable[[str], bytes], read: Callable[[bytes], T | None]) -> T | None:
        """Ask the gateway until it answers; None if it refuses or does not. `question` is made for the own address."""
        gateway = self._gateway()
        if gateway is None:
            return None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            try:
                port.connect((gateway, self._port))  # what others send is not even received
                data = question(port.getsockname()[0])
                for wait in WAITS:
                    port.send(data)
                    port.settimeout(wait)
                    try:
                        return read(port.recv(_LARGEST))
                    except TimeoutError:
                        continue
            except OSError:  # nobody listens, or there is no way
                return None
        return None

    def _tell(self, question: Callable[[str], bytes]) -> None:
        """Send the gateway something without waiting for what it says."""
        gateway = self._gateway()
        if gateway is None:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            try:
                port.connect((gateway, self._port))
                port.send(question(port.getsockname()[0]))
            except OSError:
                return


def _load_upnp() -> Any:
    """Return the library, None where it is not installed."""
    try:
        return importlib.import_module("miniupnpc")
    except ImportError:
        return None
