"""TLS 1.3 over TCP, for networks that pass nothing else. Inside, the tunnel is encrypted as ever.

The ALPN that is offered by default is ``http/1.1``: a ClientHello to port 443 without any is rare and some proxies end
it, and unlike ``h2`` it does not promise a preface that something on the way might look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from ltunnel.errors import ConfigError
from ltunnel.plugin import (
    PluginInfo,
    Port,
    PortKind,
    PortSpec,
    TransportContext,
    TransportDescriptor,
    hookimpl,
)
from ltunnel_transport_tls.certificate import fingerprints, read_pin
from ltunnel_transport_tls.channel import Channel
from ltunnel_transport_tls.options import NAME, TlsOptions, client_context, server_context, warnings
from ltunnel_transport_tls.transport import TlsTransport, make_client, make_server


def _ports(options: TlsOptions, context: TransportContext) -> Sequence[PortSpec]:
    if context.listen is not None:
        host, port = context.listen
        return (_stream(host, options.port or port, listen=True),)
    assert context.remote is not None, "a node has a remote"  # noqa: S101
    wildcard = "::" if ip_address(context.remote[0]).version == 6 else "0.0.0.0"  # noqa: S104
    return (_stream(wildcard, 0, listen=False),)


def _stream(host: str, port: int, *, listen: bool) -> PortSpec:
    return PortSpec(kind=PortKind.STREAM, host=host, port=port, dual_stack=host == "::", extra={"listen": listen})


def _create(options: TlsOptions, ports: Sequence[Port], context: TransportContext) -> TlsTransport:
    (port,) = ports
    if context.listen is not None:
        return make_server(port, server_context(options))
    assert context.remote is not None  # noqa: S101
    pins = {read_pin(pin) for pin in options.pin}
    name = options.server_name or context.remote_name or context.remote[0]
    tls = client_context(options)
    try:
        Channel(tls, server_name=name)
    except ValueError:
        raise ConfigError(f"{NAME}.server_name: {name!r} is not a host name") from None
    return make_client(
        port,
        tls,
        server_name=name,
        trusts=(lambda der: not pins.isdisjoint(fingerprints(der))) if pins else None,
        number=options.port,
    )


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name=NAME, summary="TLS 1.3 over TCP, for networks that pass nothing else", api=(1, 0))


@hookimpl
def ltunnel_transport() -> TransportDescriptor:
    """Provide the transport."""
    return TransportDescriptor(
        options=TlsOptions,
        wire_name="tls",
        overhead=0,  # TCP cuts the stream wherever a packet is full, so a datagram of any size fits
        ports=_ports,
        create=_create,
        warnings=lambda options, context: tuple(warnings(options, context)),
        reliable=True,
    )
