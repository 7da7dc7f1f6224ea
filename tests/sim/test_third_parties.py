"""Whoever has the network's key cannot make other nodes send probes to a third party.

`Mallory` lies about addresses in every way there is; what arrives at the machine that is named is counted. Each time an
address that is its own is probed, so the lie would have worked.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ltunnel.plugin import Behaviour, Candidate, CandidateKind, Dependence, Signal, SignalKind
from ltunnel.testing import Packet
from ltunnel.wire.frames import Ping
from ltunnel.wire.observe import Observe
from ltunnel.wire.punch import Punch, PunchStage
from tests.sim.mallory import Mallory, key
from tests.sim.sites import BOTH, LINE, new_world

VICTIM = "198.51.100.250"
OWN_PORT = 7777
HARD = Behaviour(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT)


class Scene:
    """A hub, a node at home with a printer on its LAN, Mallory, and somebody who has nothing to do with any of them."""

    def __init__(self) -> None:
        self.world = world = new_world("third parties", trace=True)
        self.hub = world.add_hub(quality=LINE)
        self.home = world.add_nat("home", quality=LINE, filtering=BOTH)
        self.a = world.add_node("a", behind=self.home, addresses=["192.168.1.10"], quality=LINE)
        self.mallory = Mallory(world)
        self.victim = world.add_stranger(address=VICTIM)
        self.printer = world.add_stranger("printer", "198.51.100.251")
        self.printer.move(self.home, "192.168.1.20", quality=LINE)
        self.heard: list[Packet] = []
        for host in (self.victim, self.printer):
            host.receive = self._hear  # type: ignore[method-assign]
        world.start()
        assert world.run(5, until=world.all_up)
        assert world.ping(self.mallory.machine, self.a) is not None
        world.run(2)
        self.sent: list[tuple[str, int]] = []
        send = self.a.link.send

        def count(device, packet: Packet) -> None:
            if device is self.a.host:
                self.sent.append(packet.destination)
            send(device, packet)

        self.a.link.send = count  # type: ignore[method-assign]

    def _hear(self, packet: Packet, _link: object) -> None:
        self.heard.append(packet)

    @property
    def lies(self) -> tuple[Candidate, ...]:
        """Addresses that are not Mallory's, in every form, and one that is."""
        lan = self.lan
        own = self.mallory.machine.host.addresses[0]
        named = [
            (CandidateKind.SRFLX, (VICTIM, 53), b""), (CandidateKind.HOST, (VICTIM, 80), lan),
            (CandidateKind.PRFLX, (VICTIM, 5000), b""), (CandidateKind.HOST, ("192.168.1.20", 9100), lan),
            (CandidateKind.SRFLX, ("192.168.1.20", 631), b""), (CandidateKind.RELAY, ("203.0.113.1", 9001), b""),
            (CandidateKind.SRFLX, (own, OWN_PORT), b""),
        ]  # fmt: skip
        return tuple(
            Candidate(kind=kind, address=address, priority=1000 - place, network=network)
            for place, (kind, address, network) in enumerate(named)
        )

    @property
    def lan(self) -> bytes:
        """What stands for a's LAN, which Mallory has learnt somehow."""
        return next(own.network for own in self.a.node.control._discovery._local)

    def hush(self, hear: Callable[[Punch], object] = lambda _frame: None) -> None:
        """Keep Mallory's own program out of it; what the hub says about paths is heard by `hear`."""
        roles = self.mallory.machine.node.control._dispatch._roles
        roles.discovery = SimpleNamespace(punch=lambda frame, _now: hear(frame), observed=lambda *_: None)

    def say(self, stage: PunchStage, *, number: int = 0, behaviour: Behaviour | None = None) -> None:
        self.mallory.say(
            self.hub, Punch(stage=stage, key=key(self.a), round=number, behaviour=behaviour or Behaviour(),
                            candidates=self.lies),
        )  # fmt: skip

    def check(self, *, probed: bool = True) -> None:
        """Nothing has reached a third party, nor was anything sent to one; what is Mallory's was probed."""
        own = self.mallory.machine.host.addresses[0]
        assert [packet for packet in self.heard if packet.source[0] != "203.0.113.1"] == []
        assert {host for host, _ in self.sent} <= {"203.0.113.1", own}
        assert ((own, OWN_PORT) in self.sent) is probed


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_asking_for_a_path_to_somebody_elses_address(scene: Scene):
    for number in range(3):
        scene.say(PunchStage.REQUEST, number=number)
        scene.world.run(5)
    scene.check()
    assert not scene.heard


def test_answering_a_request_with_somebody_elses_address(scene: Scene):
    scene.hush()
    wish = Signal(kind=SignalKind.SEEK, peer=key(scene.mallory.machine), direct=False)
    scene.a.node.control._discovery._tell(wish, scene.world.now)
    scene.a.node._send_messages(scene.world.now)
    scene.world.run(0.1)
    scene.say(PunchStage.READY)
    scene.world.run(5)
    scene.check()


def test_posing_as_a_hard_nat_so_that_ports_are_guessed(scene: Scene):
    """Guesses go to Mallory's own host at most, and not too many."""
    scene.say(PunchStage.REQUEST, behaviour=HARD)
    scene.world.run(20)
    scene.check()
    assert 0 < len(scene.sent) <= 1100


def test_asking_again_and_again(scene: Scene):
    """Rounds are limited, and so are probes to those addresses that are Mallory's."""
    own = scene.mallory.machine.host.addresses[0]
    for number in range(600):
        scene.say(PunchStage.REQUEST, number=number % 256, behaviour=HARD)
        scene.world.run(0.1)
    scene.check()
    assert sum(host == own for host, _ in scene.sent) <= 1300


def test_being_seen_at_a_spoofed_address(scene: Scene):
    """OBSERVEs that seem to come from the victim do not make its host Mallory's: it would have to answer."""
    mallory = scene.mallory
    epoch = mallory.peer(scene.hub).epoch
    for port in range(5000, 5020):
        datagram = epoch.seal_frame(Observe.TYPE, Observe(bytes(8)).pack())
        mallory.machine.link.send(mallory.machine.host, Packet((VICTIM, port), ("203.0.113.1", 9000), datagram))
        scene.world.run(0.05)
    scene.say(PunchStage.REQUEST)
    scene.world.run(5)
    scene.check()
    spoofed = 20 * len(datagram)
    assert 0 < sum(len(packet.payload) for packet in scene.heard) <= 3 * spoofed, "the hub answers little itself"


def test_moving_to_a_spoofed_address(scene: Scene):
    """The session with the hub follows a spoofed source, but that one is nobody's until it has answered."""
    mallory = scene.mallory
    datagram = mallory.peer(scene.hub).epoch.seal_frame(Ping.TYPE, Ping(bytes(8)).pack())
    mallory.machine.link.send(mallory.machine.host, Packet((VICTIM, 5000), ("203.0.113.1", 9000), datagram))
    epoch = mallory.peer(scene.hub).epoch
    frame = Punch(stage=PunchStage.REQUEST, key=key(scene.a), candidates=scene.lies)
    datagram = epoch.seal_frame(frame.TYPE, frame.pack())
    mallory.machine.link.send(mallory.machine.host, Packet((VICTIM, 5000), ("203.0.113.1", 9000), datagram))
    scene.world.run(0.05)
    scene.world.run(5)
    scene.check(probed=False)


def test_posing_as_the_hub(scene: Scene):
    """START and PREPARE count from the hub only, whoever else is known."""
    for stage in PunchStage:
        frame = Punch(stage=stage, key=key(scene.mallory.machine), delay=0.01, candidates=scene.lies)
        scene.mallory.say(scene.a, frame)
    scene.world.run(5)
    scene.check(probed=False)


def test_a_lan_is_shared_with_those_only_who_are_seen_there(scene: Scene):
    """A node behind the same router gets the private address; Mallory, who names the same LAN, does not."""
    got: list[Punch] = []
    scene.hush(got.append)
    scene.say(PunchStage.REQUEST)
    scene.world.run(1)
    (start,) = [frame for frame in got if frame.stage is PunchStage.START]
    assert {candidate.address[0] for candidate in start.candidates} == {"192.0.2.1"}


def test_a_deceived_hub_is_kept_from_the_own_machine(scene: Scene):
    """Whatever the hub names: never this machine itself, loopback, multicast, port 0, or another LAN's addresses."""
    discovery = scene.a.node.control._discovery
    hosts = ["127.0.0.1", "192.168.1.10", "224.0.0.251", "255.255.255.255", "0.0.0.0", "::1", "192.168.1.30"]
    bad = tuple(
        Candidate(
            kind=CandidateKind.HOST, address=(host, 9), priority=9, network=b"" if host[0] != "1" else b"elsewher"
        )
        for host in hosts
    )
    own = scene.mallory.machine.host.addresses[0]
    good = Candidate(kind=CandidateKind.SRFLX, address=(own, OWN_PORT), priority=1)
    zero = Candidate(kind=CandidateKind.SRFLX, address=(own, 0), priority=1)
    punch = Punch(stage=PunchStage.START, key=key(scene.mallory.machine), candidates=(*bad[:6], zero, good))
    discovery.punch(punch, scene.world.now)
    scene.world.run(3)
    scene.check()
