"""Options of the transport, and the TLS contexts that follow from them."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ltunnel.errors import ConfigError
from ltunnel.plugin import FileName, Options, TransportContext
from ltunnel_transport_tls.certificate import read_pin

NAME = "transport_tls"


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _protocol(value: str) -> str:
    if not value.isascii() or not 0 < len(value) < 256:
        raise ValueError("should be a protocol name of 1 to 255 ASCII characters")
    return value


def _pin(value: str) -> str:
    read_pin(value)
    return value


class TlsOptions(Options):
    """What an operator may choose."""

    port: int | None = Field(
        None, ge=1, le=65_535, description="TCP port of the server, where it is not that of local_addr or remote_addr"
    )
    cert: FileName | None = Field(None, description="server: file of its certificate and what leads to the CA's, PEM")
    key: FileName | None = Field(None, description="server: file of the certificate's private key, PEM, not encrypted")
    ca: FileName | None = Field(
        None, description="client: file of the CAs it trusts, PEM; without it, those of the system"
    )
    server_name: str | None = Field(
        None, min_length=1, description="client: name that it asks for and checks, where it is not that of remote_addr"
    )
    alpn: Annotated[tuple[Annotated[str, AfterValidator(_protocol)], ...], BeforeValidator(_one_or_more)] = Field(
        ("http/1.1",), description="protocols it claims to speak inside TLS (ALPN); an empty list sends none"
    )
    pin: Annotated[tuple[Annotated[str, AfterValidator(_pin)], ...], BeforeValidator(_one_or_more)] = Field(
        (), description="client: SHA-256 of the server's public key or certificate; replaces CA, name and dates"
    )
    skip_verify: bool = Field(False, description="client: takes any certificate, so anybody may be at the other end")

    @model_validator(mode="after")
    def _one_way_of_trust(self) -> Self:
        if self.pin and self.skip_verify:
            raise ValueError("pin and skip_verify exclude each other")
        if self.ca and (self.pin or self.skip_verify):
            raise ValueError(f"with {'pin' if self.pin else 'skip_verify'}, ca has no effect; leave one out")
        return self


def warnings(options: TlsOptions, context: TransportContext) -> Iterator[str]:
    """Give what an operator must hear at each start."""
    if context.listen is not None:
        unused = [field for field in ("ca", "server_name", "pin", "skip_verify") if getattr(options, field)]
        if options.key is not None and _is_readable_by_all(options.key):
            yield f"{NAME}.key: {options.key} can be read by everybody; run: chmod 600 {options.key}"
    else:
        unused = [field for field in ("cert", "key") if getattr(options, field)]
        if options.skip_verify:
            yield f"{NAME}.skip_verify: the server's certificate is NOT CHECKED; the tunnel's own key still protects it"
    if unused:
        mode = "client" if context.listen is None else "server"
        yield f"{NAME}: {', '.join(unused)}: not in effect in {mode} mode"


def _is_readable_by_all(path: str) -> bool:
    try:
        return bool(Path(path).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context of a hub. Raises `ConfigError`."""
    if options.cert is None or options.key is None:
        missing = "cert" if options.cert is None else "key"
        raise ConfigError(
            f"{NAME}.{missing}: is needed in server mode; `ltunnel-tls-cert` makes a certificate and its key"
        )
    for field, path in (("cert", options.cert), ("key", options.key)):
        _require_readable(field, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.cert, options.key, password=b"")  # or OpenSSL would ask on the terminal
    except ssl.SSLError as error:
        reason = (error.reason or "unreadable").lower().replace("_", " ")
        raise ConfigError(
            f"{NAME}.cert: {options.cert} and {options.key} are not a certificate and its key: {reason}"
        ) from None
    context.num_tickets = 0  # nobody resumes
    return _finished(context, options)


def client_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context of a node. Raises `ConfigError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.pin or options.skip_verify:  # a pin is checked when the handshake is done
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca is not None:
        _require_readable("ca", options.ca)
        try:
            context.load_verify_locations(options.ca)
        except ssl.SSLError:
            raise ConfigError(f"{NAME}.ca: {options.ca} holds no certificate in PEM form") from None
    else:
        context.load_default_certs()
    return _finished(context, options)


def _finished(context: ssl.SSLContext, options: TlsOptions) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    return context


def _require_readable(field: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{NAME}.{field}: cannot read {path}: {error.strerror}") from None
