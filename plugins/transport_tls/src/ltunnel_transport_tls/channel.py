"""One TLS connection without a socket: records in, records and plaintext out."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import cast

from ltunnel.plugin import Buffer

RECORD = 16_384
"""Bytes of plaintext in a record, at most (RFC 8446, section 5.1)."""
RECORD_COST = 22
"""What a record carries besides: header 5, content type 1, tag 16."""

_ALL = 1 << 30


class Channel:
    """TLS over two memory buffers. `trusts`, if given, decides on the far end's certificate (DER) in place of a chain.

    What comes from the far end may leave something in `output` that has to be sent, also when it was the end: an alert.
    """

    __slots__ = ("_in", "_out", "_tls", "_trusts", "ended", "ready")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_name: str | None = None,
        trusts: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.ready = False
        """Whether the handshake is done and the far end trusted."""
        self.ended: str | None = None
        """Why the connection cannot go on; nothing in it was chosen by the far end."""
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=server_name)
        self._trusts = trusts

    def start(self) -> bytes:
        """Return the first flight of the end that speaks first."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self.output()

    def receive(self, records: Buffer, target: Buffer, at: int) -> int:
        """Take bytes from the far end and put what they say into ``target[at:]``: its end.

        The target must have room for all of `records` and one record more. See `ended` afterwards.
        """
        incoming, tls = self._in, self._tls
        incoming.write(records)
        try:
            if not self.ready:
                tls.do_handshake()
                self._check()
            while self.ended is None and (incoming.pending or tls.pending()):
                size = cast(int, tls.read(_ALL, target[at:]))  # with a buffer it returns the number of bytes
                if not size:
                    self.ended = "the far end closed it"
                at += size
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.ended = _explain(error)
        return at

    def seal(self, data: Buffer) -> bytes:
        """Return the records that carry `data`; what is in `output` comes before them and is taken along."""
        self._tls.write(data)
        return self._out.read()

    def output(self) -> bytes:
        """Return what has to be sent."""
        return self._out.read()

    def finish(self) -> bytes:
        """Return what tells the far end that this is the end."""
        if self.ready:
            with contextlib.suppress(ssl.SSLError):  # it wants an answer, for which nobody waits
                self._tls.unwrap()
        return self.output()

    def _check(self) -> None:
        if self._trusts is None or self._trusts(self._tls.getpeercert(binary_form=True) or b""):
            self.ready = True
        else:
            self.ended = "the server's certificate has none of the pinned fingerprints"


def _explain(error: ssl.SSLError) -> str:
    """Say in words why OpenSSL gave up: its own texts, none of the far end's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message.rstrip('.')}"
    return (error.reason or "TLS error").lower().replace("_", " ")
