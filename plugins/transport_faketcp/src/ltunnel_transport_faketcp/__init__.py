"""Datagrams that a firewall takes for TCP: as real TCP segments, or as UDP whose payload begins with a TCP header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self, cast

from pydantic import Field, model_validator

from ltunnel.plugin import (
    Carrier,
    HostRule,
    HostRuleKind,
    Options,
    PluginInfo,
    Port,
    PortKind,
    PortSpec,
    RawPort,
    Transport,
    TransportContext,
    TransportDescriptor,
    hookimpl,
)
from ltunnel_transport_faketcp.framed import HEADER, FramedTransport, is_framed
from ltunnel_transport_faketcp.slots import PREFIX
from ltunnel_transport_faketcp.transport import FakeTcpTransport

__all__ = ["FakeTcpOptions", "FakeTcpTransport", "FramedTransport", "is_framed", "ltunnel_plugin_info",
           "ltunnel_transport"]  # fmt: skip

TCP = 6
NODE_NUMBERS = 8
"""Port numbers of a node: each lost connection is followed by one from the next."""

TCP_OVERHEAD = 32 + PREFIX
"""TCP header with timestamps, and a length."""
UDP_OVERHEAD = 8 + HEADER


class FakeTcpOptions(Options):
    """How datagrams are dressed up."""

    framing: Literal["tcp", "udp"] = Field(
        "tcp",
        description="tcp: real TCP segments, for firewalls that let only TCP pass; "
        "udp: UDP datagrams that begin with a TCP header, for firewalls that only look at bytes",
    )
    backend: Literal["auto", "packet", "tun"] = Field(
        "auto",
        description="how segments reach the network: packet sockets, a second TUN device (needs forwarding), "
        "or whichever works without changing the host's settings; only with framing tcp",
    )

    @model_validator(mode="after")
    def _backend_has_a_meaning(self) -> Self:
        if self.framing == "udp" and self.backend != "auto":
            raise ValueError(f"backend {self.backend} goes with framing tcp")
        return self


def _overhead(options: FakeTcpOptions) -> int:
    return TCP_OVERHEAD if options.framing == "tcp" else UDP_OVERHEAD


def _direct(options: FakeTcpOptions) -> Carrier | None:
    return Carrier.TCP if options.framing == "tcp" else None


def _ports(options: FakeTcpOptions, context: TransportContext) -> Sequence[PortSpec]:
    kind = PortKind.RAW if options.framing == "tcp" else PortKind.UDP
    extra: dict[str, object] = {"protocol": TCP, "backend": options.backend} if kind is PortKind.RAW else {}
    if context.listen is not None:
        host, port = context.listen
        accepts = is_framed if kind is PortKind.UDP else None
        return (PortSpec(kind=kind, host=host, port=port, dual_stack=host == "::", accepts=accepts, extra=extra),)
    if options.backend == "tun" or _direct(options) is None:  # that backend has each version forwarded by the machine
        context = replace(context, both_versions=False)
    host = context.wildcard
    if extra:
        extra["numbers"] = NODE_NUMBERS
    return (PortSpec(kind=kind, host=host, port=0, dual_stack=host == "::", extra=extra),)


def _host_rules(options: FakeTcpOptions, ports: Sequence[Port]) -> Sequence[HostRule]:
    """Stop the resets with which the kernel would answer segments that it knows nothing of."""
    if options.framing != "tcp":
        return ()
    raw = cast(Sequence[RawPort], ports)
    kind = HostRuleKind.DROP_RESETS
    return tuple(HostRule(kind=kind, port=number, host=port.local[0]) for port in raw for number in port.numbers)


def _create(options: FakeTcpOptions, ports: Sequence[Port], context: TransportContext) -> Transport:
    (port,) = ports
    if options.framing == "udp":
        return FramedTransport(port)
    return FakeTcpTransport(cast(RawPort, port), listen=context.listen is not None)


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="transport_faketcp", summary="TCP segments without TCP; UDP that looks like TCP", api=(1, 0))


@hookimpl
def ltunnel_transport() -> TransportDescriptor:
    """Provide the transport."""
    return TransportDescriptor(
        options=FakeTcpOptions, wire_name="faketcp", overhead=_overhead, ports=_ports, create=_create,
        host_rules=_host_rules, needs_root=True, direct=_direct,
    )  # fmt: skip
