"""ltunnel over its other transports, beside its UDP: only as streams, since nothing else depends on the transport."""

from collections.abc import Sequence
from typing import ClassVar

from bench.peers import Ltunnel, Peer
from lab.tunnel import PROGRAM, config_file

STREAMS = frozenset({"tcp", "tcp_reverse", "tcp_segmented", "tcp_segmented_no_gro"})


class _Transport(Ltunnel):
    """A hub and two nodes over one transport."""

    measures = STREAMS

    def settings(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return the configuration of the hub, and that of the nodes."""
        raise NotImplementedError

    def arguments(self) -> tuple[Sequence[str], Sequence[str]]:
        """Write the configuration to files."""
        hub, node = (
            ["-c", config_file(self.arena.hub.folder / f"{part}.json", content)]
            for part, content in zip(("hub", "node"), self.settings(), strict=True)
        )
        return hub, node


class FakeTcpPacket(_Transport):
    """Fake TCP by packet sockets."""

    name = "faketcp-packet"
    backend: ClassVar[str] = "packet"

    def settings(self) -> tuple[dict[str, object], dict[str, object]]:
        """Choose the backend at both ends."""
        both: dict[str, object] = {"transport": ["transport_faketcp"], "transport_faketcp": {"backend": self.backend}}
        return both, both


class FakeTcpTun(FakeTcpPacket):
    """Fake TCP by a second TUN device."""

    name = "faketcp-tun"
    backend = "tun"


class Tls(_Transport):
    """TLS over TCP."""

    name = "tls"

    def settings(self) -> tuple[dict[str, object], dict[str, object]]:
        """Make a certificate, and pin it."""
        folder = self.arena.hub.folder / "tls"
        make = PROGRAM.with_name("ltunnel-tls-cert")
        said = self.arena.hub.run(make, "--name", self.arena.hub_for_node, "--out", folder).stdout
        pin = said.split('"pin": "')[1].split('"')[0]
        chosen: dict[str, object] = {"transport": ["transport_tls"]}
        hub = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
        return chosen | {"transport_tls": hub}, chosen | {"transport_tls": {"pin": pin}}


TRANSPORTS: tuple[type[Peer], ...] = (FakeTcpPacket, FakeTcpTun, Tls)
