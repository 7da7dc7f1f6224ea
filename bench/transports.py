"""ltunnel over its other transports, beside its UDP: only as streams, since nothing else depends on the transport."""

from typing import ClassVar

from bench.peers import HUB, NODE, OTHER, Peer
from lab import Tunnel
from lab.tunnel import PROGRAM, config_file

STREAMS = frozenset({"tcp", "tcp_reverse", "tcp_segmented", "tcp_segmented_no_gro"})


class _Transport(Peer):
    """A hub and two nodes over one transport."""

    measures = STREAMS
    network: ClassVar[str]

    def settings(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return the configuration of the hub, and that of the nodes."""
        raise NotImplementedError

    def start(self) -> None:
        """Start a hub and two nodes."""
        arena = self.arena
        key = arena.hub.run(PROGRAM, "genkey").stdout.strip()
        hub, node = (
            ["-c", config_file(arena.hub.folder / f"{part}.json", content)]
            for part, content in zip(("hub", "node"), self.settings(), strict=True)
        )
        tunnels = {
            "hub": Tunnel.hub(arena.hub, f"{self.address(HUB)}/24", key=key, args=hub),
            "node": Tunnel.node(arena.node, arena.hub_for_node, f"{self.address(NODE)}/24", key=key, args=node),
            "other": Tunnel.node(arena.other, arena.hub_for_other, f"{self.address(OTHER)}/24", key=key, args=node),
        }
        for part, tunnel in tunnels.items():
            arena.programs[part] = [tunnel.program]
            tunnel.wait_up()

    def address(self, place: int) -> str:
        """Return an inner address."""
        return f"{self.network}.{place}"


class FakeTcpPacket(_Transport):
    """Fake TCP by packet sockets."""

    name = "faketcp-packet"
    network = "10.86.0"
    backend: ClassVar[str] = "packet"

    def settings(self) -> tuple[dict[str, object], dict[str, object]]:
        """Choose the backend at both ends."""
        both: dict[str, object] = {"transport": ["transport_faketcp"], "transport_faketcp": {"backend": self.backend}}
        return both, both


class FakeTcpTun(FakeTcpPacket):
    """Fake TCP by a second TUN device."""

    name = "faketcp-tun"
    network = "10.87.0"
    backend = "tun"


class Tls(_Transport):
    """TLS over TCP."""

    name = "tls"
    network = "10.88.0"

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
