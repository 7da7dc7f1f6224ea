"""Somebody who has the network's key and is not the hub: what he cannot do to nodes that are introduced to him.

Where a test says that nothing comes of it, another datagram of the same make that is allowed does arrive.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from ltunnel.control.handshake import Initiator, Responder
from ltunnel.keys.identity import Identity
from ltunnel.keys.mac import seal_time
from ltunnel.plugin import Behaviour
from ltunnel.testing import packets
from ltunnel.wire.frames import (
    Bye,
    ByeCode,
    Deny,
    DenyCode,
    Frame,
    PeerEntry,
    Peers,
    Welcome,
)  # fmt: skip
from ltunnel.wire.messages import Time
from ltunnel.wire.payloads import ConfirmPayload, stack_fingerprint
from ltunnel.wire.punch import Punch, PunchStage
from ltunnel.wire.relay import RelayTrailer, node_name
from ltunnel.wire.types import FrameType, MessageType
from tests.sim.mallory import BEHIND_B, STRANGER, MakeWorld, Scene, key


@pytest.fixture
def scene(make_world: MakeWorld) -> Scene:
    return Scene(make_world(3))


def test_he_talks_to_others_as_himself(scene: Scene) -> None:
    """The reason why the other tests mean something: his frames and packets do arrive."""
    scene.acquaint()
    a, mallory = scene.a, scene.mallory
    mallory.packet(a, mallory.machine.inner(), a.inner())
    scene.world.run(0.2)
    assert scene.arrived(a, 7)
    mallory.say(a, Bye(ByeCode.STOPPED))
    scene.world.run(0.2)
    assert scene.told(a, mallory.machine)["state"] == "idle"


def test_he_can_make_a_handshake_by_hand(scene: Scene) -> None:
    """As above, for the tests that make one."""
    a, mallory = scene.a, scene.mallory
    claim = ConfirmPayload(name="mallory", mtu=1400, stack=mallory.machine.settings.stack)
    assert mallory.handshake(scene.hub, a, claim, source=bytes(8))
    assert scene.told(a, mallory.machine)["state"] == "established"


# -------------------------------------------------------------------- addresses and names


@pytest.mark.parametrize("what", ["address", "name"])
def test_a_taken_address_or_name_is_denied_by_the_hub(make_world: MakeWorld, what: str) -> None:
    world = make_world(3)
    hub, b, thief = world.add_hub(), world.add_node("b"), world.add_node("thief")
    hub.start()
    b.start()
    assert world.run(5, until=world.all_up)
    thief.settings = replace(
        thief.settings, **{"addresses": b.settings.addresses} if what == "address" else {"name": "b"}
    )
    thief.start()
    assert world.run(5, until=lambda: thief.state == "denied")
    (peer,) = hub.status()["peers"]
    assert peer["key"] == key(b).hex()
    assert world.ping(hub, b) is not None


def test_what_he_claims_in_a_handshake_with_a_node_is_not_read(scene: Scene) -> None:
    """His CONFIRM names b, and b's addresses; to a he is who the hub introduced."""
    a, b, mallory = scene.a, scene.b, scene.mallory
    before = scene.beliefs(a)
    claim = ConfirmPayload(
        name="b", mtu=1400, addresses=b.settings.addresses, routes=(ip_interface("192.168.66.0/24").network, BEHIND_B),
        stack=mallory.machine.settings.stack,
    )  # fmt: skip
    assert mallory.handshake(scene.hub, a, claim, source=bytes(8))
    (changed,) = [now for now, was in zip(scene.beliefs(a), before, strict=True) if now != was]
    assert (changed[1], changed[6]) == ("mallory", "established")
    assert changed[2] == frozenset(interface.packed for interface in mallory.machine.settings.addresses)
    assert changed[3] == ()
    assert a.node.networks == (BEHIND_B,)
    assert a.node.control.fib.lookup(ip_address(b.inner()).packed).key == key(b)
    assert scene.world.ping(a, b) is not None


def test_introductions_by_anybody_but_the_hub_are_dropped(scene: Scene) -> None:
    """PEERS that give him b's address and name, or say that b is gone: to nodes, and to the hub."""
    scene.acquaint()
    a, b, hub, mallory = scene.a, scene.b, scene.hub, scene.mallory
    own = mallory.machine.settings.identity.public
    for target in (a, hub):
        before, drops = scene.beliefs(target), target.drops().get("unknown type", 0)
        mallory.say(target, Peers((PeerEntry(own, "b", b.settings.addresses),)))
        mallory.say(target, Peers((PeerEntry(key(b), "b"),)))
        mallory.say(target, Peers((PeerEntry(bytes(32), "eve", (ip_interface("10.0.0.66/24"),)),)))
        scene.world.run(0.2)
        assert scene.beliefs(target) == before
        assert target.drops()["unknown type"] == drops + 3
    assert scene.world.ping(a, b) is not None


# -------------------------------------------------------------------- networks behind others


def test_what_is_behind_another_is_not_his(scene: Scene) -> None:
    """He offers the network behind b, a part of it and one around it, and sends packets that come from there."""
    scene.acquaint()
    a, b, hub, mallory = scene.a, scene.b, scene.hub, scene.mallory
    part, around = next(BEHIND_B.subnets()), BEHIND_B.supernet()
    mallory.machine.kill()
    mallory.machine.settings = replace(mallory.machine.settings, routes=(part, around, BEHIND_B))
    mallory.machine.start()
    assert scene.world.run(5, until=scene.world.all_up)
    scene.world.run(5)
    for machine in (a, hub):
        assert machine.node.networks == (BEHIND_B,)
        assert scene.told(machine, b)["networks"] == [str(BEHIND_B)]
        assert scene.told(machine, mallory.machine)["networks"] == []
        assert scene.world.ping(mallory.machine, machine) is not None
        dropped = machine.drops().get("inner source", 0)
        mallory.packet(machine, "192.168.7.20", machine.inner(), 77)
        scene.world.run(0.2)
        assert machine.drops()["inner source"] == dropped + 1
        assert not scene.arrived(machine, 77)
    a.tun.inject(packets.echo(a.inner(), "192.168.7.20", 78, 1))
    scene.world.run(1)
    assert scene.arrived(b, 78)
    assert not scene.arrived(mallory.machine, 78)


# -------------------------------------------------------------------- posing as the hub


def test_he_cannot_say_what_only_the_hub_says(scene: Scene) -> None:
    """Every frame of the hub, in his own session with a."""
    scene.acquaint()
    a, b, mallory = scene.a, scene.b, scene.mallory
    before, drops = scene.beliefs(a), a.drops().get("unknown type", 0)
    frames: list[Frame] = [
        Welcome(name="hub", mtu=1280, addresses=a.settings.addresses, hub_addresses=b.settings.addresses),
        Welcome(name="hub", mtu=1280, networks=(ip_interface("0.0.0.0/0").network,), isolated=True),
        Peers(()),
        Welcome(name="hub", mtu=1280, behind=(ip_interface("192.168.66.0/24").network,)),
        Deny(DenyCode.OTHER, "go away"),
        *(
            Punch(stage=stage, key=key(b), round=0, delay=0.1, behaviour=Behaviour(), candidates=(STRANGER,))
            for stage in PunchStage
        ),
    ]
    for frame in frames:
        mallory.say(a, frame)
        scene.world.run(0.05)
    assert a.drops()["unknown type"] == drops + len(frames)
    assert a.state == "up"
    assert scene.beliefs(a) == before
    assert scene.world.ping(a, b) is not None


def test_he_cannot_relay(scene: Scene) -> None:
    """RELAY frames in his session with a, under b's name: a takes them from its hub only."""
    scene.acquaint()
    a, b, mallory = scene.a, scene.b, scene.mallory
    dropped = sum(a.drops().values())
    initiator = Initiator(mallory.machine.settings, mallory.machine._random.randbytes, 5)
    trailer = RelayTrailer(node_name(key(a)), node_name(key(b)), 8).pack()
    mallory.seal(a, FrameType.RELAY, mallory.init(initiator) + trailer[:-1])
    mallory.heard.clear()
    scene.world.run(0.3)
    assert sum(a.drops().values()) == dropped + 1
    assert not mallory.heard


def test_another_hub_is_not_taken_for_the_one_that_is_known(make_world: MakeWorld) -> None:
    """He diverts a node to a hub of his own that has the network's key: the node stays away, and says so."""
    world = make_world(3)
    world.add_hub()
    a = world.add_node("a")
    world.start()
    assert world.run(5, until=world.all_up)
    fake = world.add_hub("fake", address="203.0.113.66")
    fake.settings = replace(fake.settings, name="hub")
    fake.start()
    a.kill()
    a.settings = replace(a.settings, hub=(fake.host.addresses[0], 9000))
    a.start()
    assert world.run(5, until=lambda: a.state == "denied")
    assert a.happened("hub-key-changed")
    assert not fake.happened("node-joined")


# -------------------------------------------------------------------- posing as another node


def test_the_hub_writes_the_name_of_the_sender(scene: Scene) -> None:
    """An INIT under b's name is one of his own; nothing of b's changes."""
    a, b, mallory = scene.a, scene.b, scene.mallory
    claim = ConfirmPayload(name="b", mtu=1400, stack=mallory.machine.settings.stack)
    assert mallory.handshake(scene.hub, a, claim, source=node_name(key(b)))
    assert scene.told(a, b)["state"] == "idle"
    assert scene.told(a, mallory.machine)["state"] == "established"


def test_a_key_that_was_not_introduced_is_refused(scene: Scene) -> None:
    """A handshake under his own name, but with another key: one of nobody, and one of a node that is gone."""
    a, mallory = scene.a, scene.mallory
    before, forged = scene.beliefs(a), a.drops().get("forged", 0)
    claim = ConfirmPayload(name="eve", mtu=1400, stack=mallory.machine.settings.stack)
    eve = Identity.from_private(bytes(range(32)))
    assert mallory.handshake(scene.hub, a, claim, source=node_name(eve.public), identity=eve)
    assert scene.beliefs(a) == before
    assert a.drops()["forged"] == forged + 1


def test_a_node_that_is_not_introduced_gets_no_answer(make_world: MakeWorld) -> None:
    """The hub isolates: whoever knows a's key and has his frames sent on by magic is not answered either."""
    scene = Scene(make_world(3), client_isolation=True)
    a, mallory = scene.a, scene.mallory
    claim = ConfirmPayload(name="mallory", mtu=1400, stack=mallory.machine.settings.stack)
    assert not mallory.handshake(scene.hub, a, claim, source=node_name(key(scene.b)))
    assert scene.hub.drops()["isolated"] == 1
    initiator = Initiator(mallory.machine.settings, mallory.machine._random.randbytes, 5)
    relay = a.node.relay
    a.node.control.receive(relay, node_name(key(mallory.machine)), mallory.init(initiator), scene.world.now)
    assert not a.node.control.outbox
    assert a.drops()["no session"] == 1


def test_he_cannot_answer_for_another(scene: Scene) -> None:
    """a calls b, and the hub (which has been taken over, too) brings it to him: a wants b's key, and no other."""
    a, b, mallory = scene.a, scene.b, scene.mallory
    names = scene.hub.node.control.fib.names
    names[node_name(key(b))] = names[node_name(key(mallory.machine))]
    stolen = node_name(key(b))
    mallory.machine.node._inbound._relays._name = stolen
    mallory.deaf = True
    assert scene.world.ping(a, b, timeout=0.2) is None
    init = mallory.first_init()
    responder = Responder(mallory.machine.settings, mallory.machine._random.randbytes)
    assert responder.read_init(init) is not None
    resp = responder.resp(9, init.sender, stack_fingerprint(mallory.machine.settings.stack))
    forged = a.drops().get("forged", 0)
    mallory.heard.clear()
    mallory.relay(scene.hub, a, resp, source=stolen)
    scene.world.run(0.1)
    assert a.drops()["forged"] == forged + 1
    assert scene.told(a, b)["state"] == "connecting"
    assert not [data for data in mallory.heard if data[0] == MessageType.CONFIRM], "a has not shown who it is"


# -------------------------------------------------------------------- inner sources


def test_an_inner_source_that_is_not_his_is_dropped(scene: Scene) -> None:
    """b's address, the hub's, a's own, and one from outside: to a, and to the hub."""
    scene.acquaint()
    a, b, hub, mallory = scene.a, scene.b, scene.hub, scene.mallory
    for target in (a, hub):
        dropped = target.drops().get("inner source", 0)
        others = {a.inner(), b.inner(), hub.inner(), "192.0.2.55"}
        for ident, source in enumerate(sorted(others), 1000):
            mallory.packet(target, source, target.inner(), ident)
            scene.world.run(0.2)
            assert not scene.arrived(target, ident), source
        assert target.drops()["inner source"] == dropped + len(others)


def test_a_packet_for_a_node_cannot_be_laundered_by_the_hub(scene: Scene) -> None:
    """He gives the hub, readable, a packet for a, with his own source or b's: a takes neither from its hub."""
    scene.acquaint()
    a, b, hub, mallory = scene.a, scene.b, scene.hub, scene.mallory
    for ident, source in enumerate((mallory.machine.inner(), b.inner()), 2000):
        mallory.packet(hub, source, a.inner(), ident)
        scene.world.run(0.3)
        assert not scene.arrived(a, ident)


# -------------------------------------------------------------------- floods, clocks, goodbyes


def test_a_flood_of_inits_through_the_relay_is_bounded(scene: Scene) -> None:
    """500 true INITs a second for 10 s: some 2 a second are answered; others reach a as quickly as ever."""
    world, a, b, mallory = scene.world, scene.a, scene.b, scene.mallory
    mallory.deaf = True
    start = world.now
    for turn in range(100):
        for _ in range(50):
            initiator = Initiator(mallory.machine.settings, mallory.machine._random.randbytes, 1 + turn)
            mallory.relay(scene.hub, a, mallory.init(initiator), source=bytes(8))
        world.run(0.1)
        if turn == 50:
            assert world.ping(b, a, timeout=1.0) is not None, "b, which had no session with a, makes one"
    seconds = world.now - start
    answered = [data for data in mallory.heard if data[0] == MessageType.RESP]
    assert 10 <= len(answered) <= 8 + 2 * seconds + 1
    assert len(a.node.control._p.acceptance) <= 8 + 2 * 6 + 1
    assert a.drops()["no session"] >= 4500
    assert world.ping(a, scene.hub) is not None


def test_his_clock_is_not_ours(scene: Scene) -> None:
    """He answers a's INIT with a TIME a year ahead: a goes on by its own clock, with the hub and with b."""
    world, a, b, mallory = scene.world, scene.a, scene.b, scene.mallory
    mallory.deaf = True
    assert world.ping(a, mallory.machine, timeout=0.2) is None
    init = mallory.first_init()
    settings = mallory.machine.settings
    year = int((world.now + world.network.clock.wall_offset + 31_536_000.0) * 1e9)
    salt = bytes(16)
    sealed = seal_time(settings.keys.time, salt, year, init.mac1, settings.new_aead)
    before = a.node.control._ctx.wall(world.now)
    mallory.relay(scene.hub, a, Time(init.sender, salt, sealed).pack(), source=bytes(8))
    world.run(0.2)
    assert a.node.control._ctx.wall(world.now) - before == pytest.approx(0.2, abs=0.01)
    assert not a.happened("clock")
    assert [data for data in mallory.heard if data[0] == MessageType.INIT][1:], "the TIME was taken, for him"
    assert world.ping(a, b) is not None
    a.restart()
    assert world.run(5, until=lambda: a.state == "up")


def test_his_goodbye_is_his_own(scene: Scene) -> None:
    """BYE of any code ends his session, and no other; garbage ends none."""
    scene.acquaint()
    a, b, mallory = scene.a, scene.b, scene.mallory
    for frame_type in range(0x10, 0x30):
        if frame_type != FrameType.BYE:
            mallory.seal(a, frame_type, b"\xff" * 40)
            scene.world.run(0.02)
    assert scene.told(a, mallory.machine)["state"] == "established"
    mallory.say(a, Bye(ByeCode.REMOVED))
    scene.world.run(0.2)
    assert scene.told(a, mallory.machine)["state"] == "idle"
    assert scene.told(a, b)["state"] == "established"
    assert a.state == "up"
    mallory.world.run(1)
    assert scene.world.ping(a, b) is not None
