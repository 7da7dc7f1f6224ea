"""No encryption: what runs when no key is given.

Anyone on the path can read and change what passes. The tag is 16 zero bytes; it only keeps the layout equal to that of
a real cipher. The core says so loudly, and a node without a key never joins a network that has one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.plugin import Buffer, CipherDescriptor, NoOptions, Options, PluginInfo, hookimpl

_TAG = bytes(16)


class Plain:
    """Copies. Its `open` accepts whatever ends in 16 zero bytes."""

    __slots__ = ()

    def seal(self, nonces: Sequence[Buffer], plain: Sequence[Buffer], sealed: Sequence[Buffer]) -> None:  # noqa: ARG002
        """Copy rows and append the empty tag; see `ltunnel.plugin.Aead`."""
        for source, target in zip(plain, sealed, strict=False):
            target[:-16] = source
            target[-16:] = _TAG

    def open(self, nonces: Sequence[Buffer], sealed: Sequence[Buffer], plain: Sequence[Buffer]) -> int:  # noqa: ARG002
        """Copy rows back until one lacks the empty tag; see `ltunnel.plugin.Aead`."""
        for opened, (source, target) in enumerate(zip(sealed, plain, strict=False)):
            if source[-16:] != _TAG:
                return opened
            target[:] = source[:-16]
        return len(sealed)

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:  # noqa: ARG002
        """Append the empty tag."""
        return data + _TAG

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:  # noqa: ARG002
        """Take the empty tag off; None when it is not there."""
        return data[:-16] if data[-16:] == _TAG else None


def _create(_options: Options, _key: bytes) -> Plain:
    return Plain()


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="crypto_plain", summary="no encryption, for tests on networks you trust", api=(1, 0))


@hookimpl
def ltunnel_cipher() -> CipherDescriptor:
    """Provide the absence of a cipher."""
    return CipherDescriptor(options=NoOptions, wire_name="PLAIN", key_size=32, create=_create, secure=False)
