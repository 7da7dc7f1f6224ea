"""Probes over a transport with connections: met from the port that the hub knows, once it is known."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface, ip_network

import pytest

from ltunnel.control.asking import ASK_TIME, OPENING
from ltunnel.control.candidates import Dial, HangUp
from ltunnel.control.discovery import Discovering
from ltunnel.control.ways import Ways
from ltunnel.plugin import (
    Action,
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    LocalAddress,
    NextHop,
    PathClass,
    PathView,
    Probe,
    Query,
    Signal,
    SignalKind,
)
from ltunnel.wire.places import HubPlace
from ltunnel.wire.punch import Punch, PunchStage

UDP, TCP = 0, 1
HUB = ("198.51.100.1", 9000)
THERE = ("203.0.113.77", 9)


class Wish:
    """An agent that does as a test says, and keeps what it is told."""

    def __init__(self) -> None:
        self.todo: list[Action] = []
        self.told: list[Signal] = []

    def handle_signal(self, signal: Signal, now: float) -> None:
        self.told.append(signal)

    def actions(self, now: float) -> Sequence[Action]:
        todo, self.todo = self.todo, []
        return todo

    def next_timeout(self) -> float | None:
        return None

    def behaviour(self) -> Behaviour:
        return Behaviour()

    def candidates(self, now: float) -> Sequence[Candidate]:
        return ()

    def explain(self, now: float) -> Mapping[str, object]:
        return {}


class Still:
    """A policy that leaves everything as it is."""

    def decide(self, paths: Sequence[PathView], now: float) -> Mapping[bytes, NextHop] | None:
        return None


class Scene:
    """Two nodes that talk through the hub; `a` has an agent, and reaches the hub by its first transport."""

    def __init__(self, net, transports: tuple[str, ...], **changes) -> None:
        self.net, self.agent = net, Wish()
        net.hub(transports=transports, addresses=(ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")))
        tcp = transports.index("tcp")
        by = Discovering(self.agent, {Carrier.UDP: 1 - tcp, Carrier.TCP: tcp})
        self.a = net.node(
            "a", "10.0.0.2/24", relay=True, transports=transports, routing=Still(), discovery=by, **changes
        )  # fmt: skip
        self.b = net.node("b", "10.0.0.3/24", relay=True, transports=transports, routing=Still())
        net.run(0.5)
        for _ in range(5):
            self.a.send("10.0.0.3", b"there")
            net.run(0.2)
        self.key = self.b.settings.identity.public
        self.tcp = tcp

    def do(self, *actions: Action) -> list[Dial | HangUp]:
        """Let the agent have its way; return the orders that come of it."""
        before = len(self.net.calls)
        self.agent.todo += actions
        self.a.control._discovery.due(self.net.now)
        self.net.drain(self.a)
        return [call for _, who, call in self.net.calls[before:] if who == "a"]

    def start(self, *candidates: Candidate) -> None:
        """Let the hub name candidates."""
        frame = Punch(stage=PunchStage.START, key=self.key, round=0, candidates=candidates)
        self.a.control._discovery.punch(frame, self.net.now)

    def probe(self, carrier: Carrier = Carrier.TCP) -> list[Dial | HangUp]:
        return self.do(Probe(peer=self.key, to=THERE, carrier=carrier))


NAMED = Candidate(kind=CandidateKind.SRFLX, address=THERE, priority=1, carrier=Carrier.TCP)


@pytest.mark.parametrize("transports", [("tcp", "udp"), ("udp", "tcp")])
def test_a_peer_is_met_from_the_port_by_which_the_hub_was_asked(net, transports):
    """Whether the session with the hub goes by that transport or not; what it says goes to the agent."""
    scene = Scene(net, transports)
    scene.start(NAMED)
    assert scene.probe() == [], "nobody knows yet where we come from"
    asked = scene.do(Query(carrier=Carrier.TCP))
    assert [call[:2] for call in asked] == ([] if scene.tcp == 0 else [(scene.tcp, HUB)])
    net.run(0.2)
    (seen,) = [signal for signal in scene.agent.told if signal.kind is SignalKind.OBSERVED]
    assert (seen.carrier, seen.address) == (Carrier.TCP, scene.a.flow)
    (dial,) = scene.probe()
    assert (dial.transport, dial.address, dial.like) == (scene.tcp, THERE, HUB)


def test_the_hub_is_asked_over_udp_though_the_session_goes_by_tcp(net):
    scene = Scene(net, ("tcp", "udp"))
    assert scene.do(Query())[0][:2] == (1, HUB)
    net.run(0.2)
    assert [signal.carrier for signal in scene.agent.told if signal.kind is SignalKind.OBSERVED] == [Carrier.UDP]
    assert scene.a.control.hub.path.transport == 0, "the session stays where it is"
    scene.start(Candidate(kind=CandidateKind.SRFLX, address=THERE, priority=1))
    (dial,) = scene.probe(Carrier.UDP)
    assert (dial.transport, dial.like) == (1, None)


@pytest.fixture
def opening(net):
    """A scene whose flows by TCP to anybody but the hub never open, and its `Ways`."""
    scene = Scene(net, ("udp", "tcp"))
    scene.do(Query(carrier=Carrier.TCP))
    net.run(0.2)
    net.closed = {TCP}
    scene.start(NAMED)
    return scene, scene.a.control._ways


def hung_up(net) -> list[float]:
    return [when for when, who, call in net.calls if who == "a" and call == HangUp(TCP, THERE)]


def test_a_flow_that_does_not_open_is_closed(net, opening):
    scene, _ = opening
    began = net.now
    scene.probe()
    net.run(OPENING + 1)
    (when,) = hung_up(net)
    assert OPENING <= when - began < OPENING + 0.6
    assert not [entry for entry in net.log if entry[2] == "nobody"], "nothing was sent"


def test_it_is_kept_open_for_a_later_probe(net, opening):
    """Each waits for its time, and the flow is closed when the last has given up."""
    scene, ways = opening
    began = net.now
    scene.probe()
    net.run(2.0)
    scene.probe()
    net.run(OPENING + 2)
    (when,) = hung_up(net)
    assert OPENING + 2.0 <= when - began < OPENING + 2.6
    assert not table(ways, scene).opening


def test_what_has_opened_is_forgotten_as_opening(net, opening):
    scene, ways = opening
    scene.probe()
    net.run(1.0)
    assert list(table(ways, scene).opening) == [(TCP, THERE)]
    net.closed = set()
    for _ in range(int(ASK_TIME) + 6):
        scene.a.send("10.0.0.3", b"there")
        net.run(1.0)
    assert not table(ways, scene).opening
    assert len(hung_up(net)) == 1, "it opened and nobody answered"


def table(ways: Ways, scene: Scene):
    return ways.tables[scene.key]


def test_a_class_goes_with_it(net, opening):
    scene, ways = opening
    (dial,) = scene.probe()
    assert dial.whose.path_class is PathClass.PUBLIC
    assert dial.whose.table is table(ways, scene)


def test_nothing_goes_into_a_network_that_goes_into_the_tunnel(net):
    """Neither probes, nor hints that they come, nor questions to a hub that says it is there, too."""
    own = (ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64"))
    accepted = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    scene = Scene(net, ("udp", "tcp"), addresses=own, accept_routes=accepted)
    inside, outside = ("192.0.2.7", 9), ("203.0.113.78", 9)
    places = [HubPlace(Carrier.UDP, ("2001:db8::1", 9000)), HubPlace(Carrier.UDP, ("2001:db8:1::1", 9000))]
    scene.a.control._discovery.told(places, net.now)
    local = [LocalAddress(address=("2001:db8:2::2", 9), carrier=Carrier.UDP)]
    scene.a.control.set_interfaces(local, [], net.now)
    subnets = scene.a.control._p.subnets
    subnets.offer(scene.a.peers[scene.key], (ip_network("192.0.2.0/24"), ip_network("2001:db8::/48")))
    subnets.settle(net.now)
    scene.start(
        *(Candidate(kind=CandidateKind.SRFLX, address=to, priority=1, carrier=Carrier.UDP) for to in (inside, outside))
    )
    for hops in (0, 3):
        probes = [Probe(peer=scene.key, to=to, carrier=Carrier.UDP, hops=hops) for to in (inside, outside)]
        assert [call.address for call in scene.do(*probes)] == [outside]
    asked = [call.address for _ in range(4) for call in scene.do(Query(carrier=Carrier.UDP, version=6))]
    assert asked
    assert set(asked) == {("2001:db8:1::1", 9000)}
