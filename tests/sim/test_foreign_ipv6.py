"""Nobody is made to send to an IPv6 address that is not the node's which names it."""

from __future__ import annotations

from ltunnel.plugin import Candidate, CandidateKind, Carrier
from ltunnel.testing import Packet
from ltunnel.wire.observe import Observe
from ltunnel.wire.places import HubPlace
from ltunnel.wire.punch import Punch, PunchStage
from tests.sim.mallory import Mallory, key
from tests.sim.sites import LINE, new_world
from tests.sim.versions import A6, HUB4, HUB6, VICTIM, add_site, count_to


class Scene:
    """A hub that is reached over IPv4, a node that has IPv6, Mallory, and an address that is none of theirs."""

    def __init__(self) -> None:
        self.world = world = new_world("foreign ipv6")
        self.hub = world.add_hub(address=HUB4, others=[HUB6], quality=LINE)
        self.a = add_site(world, "home", "a", A6)
        self.mallory = Mallory(world)
        machine = self.mallory.machine
        self.own = machine.host.addresses[0]
        self.victim = world.add_stranger(address=VICTIM)
        self.heard: list[Packet] = []
        self.victim.receive = lambda packet, _link: self.heard.append(packet)  # type: ignore[method-assign]
        world.start()
        assert world.run(5, until=world.all_up)
        assert world.ping(machine, self.a) is not None
        world.run(2)
        self.probes = count_to(world, self.own)

    @property
    def lies(self) -> tuple[Candidate, ...]:
        named = [(VICTIM, 53), (VICTIM, 9000), (HUB6, 22), (self.own, 7777)]
        return tuple(
            Candidate(kind=kind, address=address, priority=100 - place, carrier=carrier)
            for place, address in enumerate(named)
            for kind, carrier in ((CandidateKind.HOST, Carrier.UDP), (CandidateKind.SRFLX, Carrier.TCP))
        )

    def ask(self, number: int = 0) -> None:
        """Have Mallory ask for a path, with addresses that are not its own."""
        punch = Punch(stage=PunchStage.REQUEST, key=key(self.a), round=number, candidates=self.lies)
        self.mallory.say(self.hub, punch)

    def check(self) -> None:
        assert [packet for packet in self.heard if packet.source[0] != HUB6] == []
        assert any(packet.destination[1] == 7777 for packet in self.probes), "what is Mallory's is probed"


def test_a_foreign_ipv6_address_gets_no_probes():
    scene = Scene()
    for number in range(3):
        scene.ask(number)
        scene.world.run(5)
    scene.check()
    assert not scene.heard


def test_a_spoofed_ipv6_source_binds_nothing():
    """OBSERVEs that seem to come from there are asked to prove it, and nobody answers."""
    scene = Scene()
    machine = scene.mallory.machine
    epoch = scene.mallory.peer(scene.hub).epoch
    sent = 0
    for port in range(5000, 5020):
        datagram = epoch.seal_frame(Observe.TYPE, Observe(bytes(8)).pack())
        machine.link.send(machine.host, Packet((VICTIM, port), (HUB6, 9000), datagram))
        sent += len(datagram)
        scene.world.run(0.05)
    scene.ask()
    scene.world.run(5)
    scene.check()
    assert 0 < sum(len(packet.payload) for packet in scene.heard) <= 3 * sent


def test_what_is_forged_or_repeated_binds_nothing():
    """The hub does not even answer to where it came from."""
    scene = Scene()
    machine = scene.mallory.machine
    session = scene.hub.node.control._ctx.sessions[key(scene.a)]
    hub = scene.a.node.control.hub
    before = dict(session.proved)
    for port in range(5000, 5010):
        datagram = hub.epoch.seal_frame(Observe.TYPE, Observe(bytes(8)).pack())
        forged = datagram[:-1] + bytes((datagram[-1] ^ 1,))
        machine.link.send(machine.host, Packet((VICTIM, port), (HUB6, 9000), forged))
        scene.a.node.control.outbox.append((hub.path.transport, hub.path.flow, datagram))
        scene.a.node._send_messages(scene.world.now)
        scene.world.run(0.2)
        machine.link.send(machine.host, Packet((VICTIM, port), (HUB6, 9000), datagram))
        scene.world.run(0.2)
    assert session.proved.keys() == before.keys()
    assert not scene.heard


def test_a_hub_that_names_no_public_address_as_its_own_is_not_asked_there():
    world = new_world("lying hub")
    hub = world.add_hub(address=HUB4, others=[HUB6], quality=LINE)
    a = add_site(world, "home", "a", A6)
    sent: set[str] = set()
    send = a.host.send

    def note(source: tuple[str | None, int], to: tuple[str, int], *rest: object, **more: object) -> bool:
        sent.add(to[0])
        return send(source, to, *rest, **more)  # type: ignore[arg-type]

    a.host.send = note  # type: ignore[assignment]
    lies = [HubPlace(Carrier.UDP, (host, 9)) for host in ("fd00::9", "::1", "ff02::1", "fe80::1")]
    hub._tell_places = lambda node: node.set_places(lies)  # type: ignore[method-assign]
    world.start()
    assert world.run(5, until=world.all_up)
    world.run(60)
    assert sent == {HUB4, "192.0.2.1"}, "besides the own address, to see whether the NAT turns packets around"
