"""Plain UDP. One datagram of ours is one UDP datagram; the port does segmentation and coalescing in the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from ltunnel.plugin import (
    Address,
    Buffer,
    Carrier,
    Endpoint,
    NoOptions,
    Options,
    PluginInfo,
    Port,
    PortKind,
    PortSpec,
    TransportContext,
    TransportDescriptor,
    hookimpl,
)

UDP_HEADER = 8


class UdpTransport:
    """A flow is the far end's socket address; there is no state of its own and so no timer."""

    __slots__ = ("_dual_stack", "_port", "_send", "ports", "prefix")

    def __init__(self, port: Port) -> None:
        self.ports: Sequence[Port] = (port,)
        self.prefix = 0
        self._port = port
        self._send = port.send
        self._dual_stack = len(port.local) == 4

    def connect(self, remote: Address, now: float) -> Endpoint:  # noqa: ARG002
        """Return the socket address for `remote`; an IPv6 port reaches IPv4 by its mapped address (RFC 4291)."""
        host, port = remote
        if not self._dual_stack:
            return (host, port)
        if ip_address(host).version == 4:
            host = f"::ffff:{host}"
        return (host, port, 0, 0)

    def send(self, flow: Endpoint, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:  # noqa: ARG002
        """Send a batch to a flow; see `ltunnel.plugin.Transport`."""
        return self._send(buf, start, end, seg, flow)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Endpoint, int, int, int]:  # noqa: ARG002
        """Receive a batch; see `ltunnel.plugin.Transport`."""
        start, end, seg, source = port.recv(buf, pos)
        return source, start, end, seg

    def describe(self, flow: Endpoint) -> str:
        """Name a flow as ``host:port``, mapped addresses as what they map."""
        host, port = str(flow[0]), flow[1]
        if ":" not in host:
            return f"{host}:{port}"
        mapped = IPv6Address(host).ipv4_mapped
        return f"{mapped}:{port}" if mapped else f"[{host}]:{port}"

    def close(self, flow: Endpoint, now: float) -> None:
        """Do nothing: a flow has no state."""

    def next_timeout(self) -> float | None:
        """Return None: there is no timer."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Do nothing."""


def _ports(_options: Options, context: TransportContext) -> Sequence[PortSpec]:
    if context.listen is not None:
        host, port = context.listen
        return (PortSpec(kind=PortKind.UDP, host=host, port=port, dual_stack=host == "::"),)
    host = context.wildcard
    return (PortSpec(kind=PortKind.UDP, host=host, port=context.local_port, dual_stack=host == "::"),)


def _create(_options: Options, ports: Sequence[Port], _context: TransportContext) -> UdpTransport:
    (port,) = ports
    return UdpTransport(port)


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="transport_udp", summary="UDP with segmentation offload, IPv4 and IPv6", api=(1, 0))


@hookimpl
def ltunnel_transport() -> TransportDescriptor:
    """Provide the transport."""
    return TransportDescriptor(
        options=NoOptions, wire_name="udp", overhead=UDP_HEADER, ports=_ports, create=_create, direct=Carrier.UDP
    )
