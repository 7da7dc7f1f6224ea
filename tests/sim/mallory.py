"""Somebody who has the network's key and is not the hub, and the scene in which he acts.

`Mallory` is a node that was taken over: it has joined as anybody may, and then says and seals what it likes, with true
keys.
"""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

from ltunnel.control.handshake import Initiator
from ltunnel.keys.identity import Identity
from ltunnel.plugin import Candidate, CandidateKind
from ltunnel.session import Peer
from ltunnel.testing import Quality, SimNode, World, packets
from ltunnel.wire.frames import (
    Frame,
)  # fmt: skip
from ltunnel.wire.messages import Init, Resp, parse
from ltunnel.wire.payloads import ConfirmPayload, InitPayload, stack_fingerprint
from ltunnel.wire.relay import RelayTrailer, node_name
from ltunnel.wire.types import FrameType, MessageType

MakeWorld = Callable[..., World]
NO_OFFLOAD = bytes(10)
BEHIND_B = ip_network("192.168.7.0/24")
TRUSTING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""Accepts whatever it is offered."""
STRANGER = Candidate(kind=CandidateKind.SRFLX, address=("198.51.100.250", 4444), priority=1)


def key(machine: SimNode) -> bytes:
    return machine.settings.identity.public


class Mallory:
    """A node that joins, and then does as it likes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = world.add_node("mallory", quality=Quality(delay=0.01))
        self.heard: list[bytes] = []
        """Handshake messages that came to it through the relay."""
        self.deaf = False
        """Whether its own program hears nothing more of those."""

    @property
    def control(self):
        assert self.machine.node is not None
        return self.machine.node.control

    def listen(self) -> None:
        """Keep a copy of each handshake message from other nodes."""
        receive = self.control.receive

        def hear(transport: int, flow, data: bytes, now: float) -> None:
            if transport == self.machine.node.relay:
                self.heard.append(data)
                if self.deaf:
                    return
            receive(transport, flow, data, now)

        self.control.receive = hear

    def peer(self, machine: SimNode) -> Peer:
        peer = self.control.peers[key(machine)]
        assert peer.epoch is not None, f"no session with {machine.name}"
        return peer

    def say(self, machine: SimNode, frame: Frame) -> None:
        """Seal a control frame in the session with a machine."""
        self.seal(machine, frame.TYPE, frame.pack())

    def seal(self, machine: SimNode, frame_type: int, body: bytes) -> None:
        """Seal a frame of any kind in the session with a machine."""
        peer = self.peer(machine)
        self.control.outbox.append((peer.path.transport, peer.path.flow, peer.epoch.seal_frame(frame_type, body)))
        self._flush()

    def packet(self, machine: SimNode, source: str, destination: str, ident: int = 7) -> None:
        """Send a machine an inner packet (a ping) with any source, in the session with it."""
        self.seal(machine, FrameType.BUNDLE, NO_OFFLOAD + packets.echo(source, destination, ident, 1, bytes(56)))

    def relay(self, hub: SimNode, target: SimNode, datagram: bytes, *, source: bytes) -> None:
        """Have the hub pass on a datagram, under the name of anybody."""
        trailer = RelayTrailer(node_name(key(target)), source, 8).pack()
        self.seal(hub, FrameType.RELAY, datagram + trailer[:-1])

    def init(self, initiator: Initiator) -> bytes:
        settings = self.machine.settings
        time_ns = int((self.world.now + self.world.network.clock.wall_offset) * 1e9)
        return initiator.init(InitPayload(time_ns, stack_fingerprint(settings.stack)).pack(), None)

    def first_init(self) -> Init:
        """Return the first INIT that it heard."""
        init = next(parse(data) for data in self.heard if data[0] == MessageType.INIT)
        assert isinstance(init, Init)
        return init

    def handshake(self, hub: SimNode, target: SimNode, claim: ConfirmPayload, *, source: bytes,
                  identity: Identity | None = None) -> bool:  # fmt: skip
        """Make a whole handshake with a node through the relay; whether there was a RESP to confirm."""
        settings = self.machine.settings
        if identity is not None:
            settings = replace(settings, identity=identity)
        initiator = Initiator(settings, self.machine._random.randbytes, 77)
        self.heard.clear()
        self.relay(hub, target, self.init(initiator), source=source)
        self.world.run(0.3)
        for data in self.heard:
            message = parse(data)
            if isinstance(message, Resp) and message.receiver == 77:
                assert initiator.read_resp(message) is not None
                self.relay(hub, target, initiator.confirm(claim.pack())[0], source=source)
                self.world.run(0.3)
                return True
        return False

    def _flush(self) -> None:
        self.machine.node._send_messages(self.world.now)


class Scene:
    """A hub, two honest nodes and Mallory, all connected and introduced. Behind b is a network, for all who trust."""

    def __init__(self, world: World, **hub: object) -> None:
        self.world = world
        self.hub = world.add_hub(**{"accept_routes": TRUSTING, **hub})
        self.a = world.add_node("a", quality=Quality(delay=0.01), accept_routes=TRUSTING)
        self.b = world.add_node("b", quality=Quality(delay=0.01), routes=(BEHIND_B,))
        self.mallory = Mallory(world)
        world.start()
        assert world.run(5, until=world.all_up)
        world.run(0.5)
        self.mallory.listen()

    def acquaint(self) -> None:
        """Let all three nodes have sessions with each other."""
        for one, other in ((self.a, self.b), (self.mallory.machine, self.a), (self.mallory.machine, self.b)):
            assert self.world.ping(one, other) is not None

    def told(self, machine: SimNode, about: SimNode) -> dict:
        """What a machine's status says of another."""
        return next(peer for peer in machine.status()["peers"] if peer["key"] == key(about).hex())

    def beliefs(self, machine: SimNode) -> list:
        """All that a machine believes of others."""
        control = machine.node.control
        return [
            (peer.key, peer.name, peer.hosts, peer.networks, peer.is_hub, peer.mtu, control.peer_state(peer))
            for peer in control.peers.values()
        ]  # fmt: skip

    def arrived(self, machine: SimNode, ident: int) -> bool:
        """Whether a ping came out of a machine's TUN device."""
        return any(packet.is_echo_request and packet.echo_ident == ident for packet in machine.tun.parsed())
