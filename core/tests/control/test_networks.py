"""Networks behind machines, from an offer to those who accept it: hub and nodes on a wire."""

from ipaddress import ip_network

import pytest

from ltunnel.wire.frames import PeerEntry, Peers, Welcome, parse_frame
from ltunnel.wire.types import FrameType

LAN, OTHER = ip_network("192.168.7.0/24"), ip_network("172.16.0.0/16")
ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def key(host) -> bytes:
    return host.settings.identity.public


def leave(net, host) -> None:
    """As SIGTERM does."""
    host.control.stop(net.now)
    net.drain(host)
    net.kill(host)


class Site:
    """A hub that accepts what it is offered, an office with a network behind it, and a node that wants to get there."""

    def __init__(self, net, *, routes=(LAN,), **hub) -> None:
        self.net = net
        self.hub = net.hub(**{"accept_routes": ALL, **hub})
        self.office = self.add_office(routes=routes)
        self.a = net.node("a", "10.0.0.2/24", relay=True, accept_routes=ALL)
        net.run(0.5)

    def add_office(self, name="office", address="10.0.0.7/24", *, routes=(LAN,), **changes):
        return self.net.node(name, address, relay=True, routes=routes, **changes)

    def reaches(self, host, address="192.168.7.20") -> str | None:
        """The name of the node that gets what is for an address behind it, and sends an answer."""
        if not host.send(address, b"there"):
            self.net.run(0.5)
            if not host.send(address, b"there"):
                return None
        self.net.run(0.2)
        (there,) = [other for other in self.net.hosts if other.got]
        assert there.got.pop() == b"there"
        assert not there.got
        return there.name


@pytest.fixture
def site(net):
    return Site(net)


def test_it_is_offered_accepted_told_and_accepted_again(site):
    hub, office, a = site.hub, site.office, site.a
    assert (hub.networks, a.networks, office.networks) == ((LAN,), (LAN,), ())
    assert site.reaches(a) == site.reaches(hub) == "office"
    assert hub.texts("route-accepted") == a.texts("route-accepted") == ["192.168.7.0/24 is behind office"]
    assert office.peers[key(a)].networks == ()
    site.net.run(400)  # keys are made anew
    assert len(hub.events) == len({(event.name, event.text) for event in hub.events})
    assert a.networks == (LAN,)


def test_what_the_hub_does_not_accept_is_told_nobody(net):
    site = Site(net, accept_routes=(OTHER,), routes=(LAN, ip_network("172.16.5.0/24")))
    assert site.hub.networks == site.a.networks == (ip_network("172.16.5.0/24"),)
    assert not site.a.texts("route-refused")
    assert site.reaches(site.a) is None
    assert site.reaches(site.a, "172.16.5.1") == "office"


def test_what_a_node_does_not_accept_it_does_not_use(site):
    b = site.net.node("b", "10.0.0.3/24", relay=True, accept_routes=(OTHER,))
    c = site.net.node("c", "10.0.0.4/24", relay=True)
    site.net.run(0.5)
    for node, reason in ((b, "not within accept_routes"), (c, "accepts none")):
        assert node.networks == ()
        assert reason in node.texts("route-refused")[0]
        assert not node.peers[key(site.office)].owns(bytes((192, 168, 7, 20))), "nor may its packets come from there"
        assert site.reaches(node) is None


def test_a_node_that_comes_back_with_other_networks(site):
    """The name and the addresses are the same, and everybody is told all the same."""
    site.net.kill(site.office)
    office = site.add_office(routes=(OTHER,), flow=site.office.flow)
    site.net.run(0.5)
    assert site.hub.networks == site.a.networks == (OTHER,)
    assert site.reaches(site.a, "172.16.0.1") == "office"
    assert len(site.a.texts("route-withdrawn")) == 1
    site.net.kill(office)
    site.add_office(routes=(), flow=office.flow)
    site.net.run(0.5)
    assert site.hub.networks == site.a.networks == ()


def test_the_way_to_a_network_leaves_and_comes_back(site):
    leave(site.net, site.office)
    site.net.run(0.5)
    assert site.hub.networks == site.a.networks == ()
    assert site.a.texts("route-withdrawn") == ["192.168.7.0/24 is not behind office any more"]
    assert site.reaches(site.a) is None
    site.add_office(flow=site.office.flow)
    site.net.run(0.5)
    assert site.a.networks == (LAN,)
    assert site.reaches(site.a) == "office"


def test_a_second_one_takes_over_when_the_first_is_silent(site):
    site.add_office("spare", "10.0.0.8/24")
    site.net.run(0.5)
    assert site.reaches(site.a) == "office"
    assert site.hub.texts("route-refused") == [
        "spare offers a route to 192.168.7.0/24, which is ignored: it overlaps a network of office"
    ]
    assert not site.a.texts("route-refused"), "the hub has told of one"
    site.net.kill(site.office)
    assert site.net.run(60, until=lambda: site.a.peers[key(site.net.hosts[-1])].networks == (LAN,))
    assert site.reaches(site.a) == "spare"
    site.add_office(flow=site.office.flow)
    site.net.run(0.5)
    assert site.reaches(site.a) == "spare", "nothing changes for nothing"


def test_lost_introductions_are_repeated(net):
    site = Site(net, routes=())
    net.kill(site.office)
    start = net.now
    net.cut = lambda source, target, _: source is site.hub and target is site.a and net.now < start + 0.9
    site.add_office(flow=site.office.flow)
    net.run(0.8)
    assert (site.hub.networks, site.a.networks) == ((LAN,), ())
    assert net.run(5, until=lambda: site.a.networks == (LAN,))


def test_networks_behind_the_hub(net):
    """They come with its session, and go with it."""
    site = Site(net, routes=(), accept_routes=())
    net.kill(site.hub)
    assert net.run(60, until=lambda: site.a.state != "up")
    hub = net.hub(routes=(LAN,), bindings=site.hub.bindings)
    assert net.run(20, until=lambda: site.a.state == "up")
    assert site.a.networks == (LAN,)
    assert site.reaches(site.a) == "hub"
    leave(net, hub)
    net.run(0.1)
    assert site.a.state == "connecting"
    assert site.a.networks == ()
    hub = net.hub(routes=(LAN, OTHER), bindings=hub.bindings)
    assert net.run(20, until=lambda: site.a.networks == (OTHER, LAN))
    net.kill(hub)
    assert net.run(60, until=lambda: site.a.networks == ())
    assert site.a.fib.lookup(bytes((192, 168, 7, 20))) is None


def test_another_hub_takes_nothing_over(net):
    """A hub with another key, after the pin was forgotten."""
    site = Site(net, routes=())
    net.kill(site.hub)
    assert net.run(60, until=lambda: site.a.state != "up")
    first = net.hub(routes=(LAN,), bindings=site.hub.bindings)
    assert net.run(20, until=lambda: site.a.networks == (LAN,))
    net.kill(first)
    net.hub(identity=net.settings("new", first.settings.role, "10.0.0.1/24").identity)
    assert net.run(60, until=lambda: site.a.state == "denied")
    site.a.forget_pin("hub.example:9000/test", net.now)
    assert net.run(10, until=lambda: site.a.state == "up")
    assert site.a.networks == ()


def test_a_hub_that_is_replaced_takes_its_networks_along(net):
    """Its pin was forgotten, and the new one answers while the session with the old one is in doubt."""
    site = Site(net, routes=())
    leave(net, site.hub)
    old = net.hub(routes=(LAN,), bindings=site.hub.bindings)
    assert net.run(20, until=lambda: site.a.networks == (LAN,))
    site.a.forget_pin("hub.example:9000/test", net.now)
    net.kill(old)
    net.hub(identity=net.settings("new", old.settings.role, "10.0.0.1/24").identity)
    assert net.run(25, until=lambda: site.a.networks == ())
    assert not site.a.texts("disconnected")[1:], "nothing has ended that was not replaced"
    assert net.run(1, until=lambda: site.a.state == "up")


def test_nodes_that_are_isolated_hear_of_the_hubs_networks_only(net):
    site = Site(net, client_isolation=True, routes=(LAN,))
    assert site.hub.networks == (LAN,), "the hub itself gets there"
    assert site.a.networks == ()


def test_a_network_in_which_a_node_turns_up_is_refused(net):
    """The hub's own datagrams to that node would go into the tunnel: nobody is sent there any more."""
    site = Site(net, routes=(LAN, ip_network("203.0.113.64/26")))
    assert len(site.a.networks) == 2
    site.a.flow = ("203.0.113.77", 40000)
    site.a.send("10.0.0.1", b"from elsewhere")
    net.run(2)
    assert site.hub.networks == site.a.networks == (LAN,)
    assert "by which a is reached" in site.hub.texts("route-refused")[0]
    site.a.flow = ("203.0.113.4", 40000)
    net.run(30)
    assert site.a.networks == (LAN,)
    assert net.run(60, until=lambda: len(site.a.networks) == 2)


def test_a_source_that_a_node_makes_up_takes_no_network_from_another(net):
    """It sends from an address in which it is not, and offers a part of the network that does not hold that."""
    site = Site(net, routes=(ip_network("203.0.113.64/26"),))
    e = site.add_office("e", "10.0.0.8/24", routes=(ip_network("203.0.113.100/32"),), flow=("192.0.2.1", 9))
    net.run(0.5)
    for _ in range(5):
        e.flow = ("203.0.113.77", 40000)
        e.send("10.0.0.1", b"from elsewhere")
        e.flow = ("192.0.2.1", 9)
        net.run(1)
        assert site.hub.peers[key(e)].path.flow == ("203.0.113.77", 40000), "for a moment"
        net.run(20)
        assert site.hub.got.pop() == b"from elsewhere"
        assert site.reaches(site.a, "203.0.113.100") == "office"
    assert site.hub.networks == site.a.networks == (ip_network("203.0.113.64/26"),)
    assert not site.a.texts("route-withdrawn")


def test_a_node_that_joins_from_inside_a_network(net):
    site = Site(net, routes=(LAN, ip_network("203.0.113.64/26")))
    net.kill(site.a)
    a = net.node("a", "10.0.0.2/24", relay=True, accept_routes=ALL, flow=("203.0.113.77", 40000))
    net.run(0.5)
    assert site.hub.networks == a.networks == (LAN,)


def test_a_network_in_which_the_hub_turns_up_is_refused(net):
    """To a node it is where the hub's datagrams come from, where it is looked for, and what its name says."""
    inside = ("203.0.113.77", 9000)
    site = Site(net, routes=(LAN, OTHER, ip_network("203.0.113.64/26")))
    assert len(site.a.networks) == 3
    site.hub.flow = inside
    site.hub.send("10.0.0.2", b"from elsewhere")
    net.run(0.1)
    assert site.a.networks == (OTHER, LAN)
    site.a.set_hub_names([("172.16.9.9", 9000)], net.now)
    assert site.a.networks == (LAN,)
    site.a.set_hub_paths([(0, ("192.168.7.7", 9000))], net.now)
    assert site.a.networks == ()


def test_a_node_with_networks_is_introduced_as_often_as_any(net):
    site = Site(net, routes=())
    told = []
    for name, routes in (("b", ()), ("c", (LAN,))):
        start = net.now
        site.add_office(name, f"10.0.0.{len(told) + 20}/24", routes=routes, flow=(f"192.0.2.{len(told) + 1}", 9))
        net.run(0.2)
        told.append([(who, to) for when, who, to, _, _ in net.log if when >= start].count(("hub", "a")))
    assert told[0] == told[1] == 1


def test_what_changes_at_once_is_told_at_once(net):
    """Networks of many nodes, as when the hub's own links change: each is told of all others together."""
    site = Site(net, routes=())
    networks = [ip_network(f"172.16.{number}.0/24") for number in range(6)]
    for number, network in enumerate(networks):
        flow = (f"192.0.2.{number + 1}", 9)
        site.add_office(f"n{number}", f"10.0.0.{number + 20}/24", routes=(network,), flow=flow)
    net.run(30)
    assert site.a.networks == tuple(networks)
    start = net.now
    site.hub.set_links([ip_network("172.16.0.0/16")], net.now)
    net.drain(site.hub)
    net.run(0.2)
    assert site.a.networks == ()
    assert [(who, to) for when, who, to, _, _ in net.log if when >= start].count(("hub", "a")) == 1


def test_a_network_with_the_hubs_address_is_for_each_node_to_refuse(net):
    site = Site(net, routes=(LAN, ip_network("198.51.100.0/24")))
    assert len(site.hub.networks) == 2, "the hub does not know as what it is seen"
    assert site.a.networks == (LAN,)
    assert "by which the hub is reached" in site.a.texts("route-refused")[0]


def test_links_that_this_machine_gets(site):
    site.a.set_links([ip_network("192.168.7.0/24")], site.net.now)
    assert site.a.networks == ()
    assert site.reaches(site.a) is None
    site.a.set_links([], site.net.now)
    assert site.reaches(site.a) == "office"


def test_networks_stay_while_the_hub_is_away(site):
    """As addresses do, until the hub is back and does not name the node."""
    site.net.kill(site.hub)
    site.net.run(100)
    assert site.a.state == "connecting"
    assert site.a.networks == (LAN,)
    site.net.kill(site.office)
    site.net.hub(accept_routes=ALL, bindings=site.hub.bindings)
    assert site.net.run(20, until=lambda: site.a.state == "up")
    assert site.net.run(60, until=lambda: site.a.networks == ())


def test_only_the_hub_says_what_is_behind_whom(site):
    """A node that offers the same to another node, in frames of the hub's: dropped."""
    site.reaches(site.a)
    epoch = site.office.peers[key(site.a)].epoch
    drops = sum(site.a.peers[key(site.office)].stats.drops.values())
    entry = PeerEntry(key(site.office), "office", site.office.settings.addresses, behind=(OTHER,))
    for frame in (Peers((entry,)), Welcome(name="hub", mtu=1400, behind=(OTHER,))):
        assert parse_frame(frame.TYPE, frame.pack()) == frame
        site.net.inject(site.a, site.office.flow, epoch.seal_frame(frame.TYPE, frame.pack()))
    site.net.inject(site.a, site.office.flow, epoch.seal_frame(FrameType.PING, bytes(8)))
    assert sum(site.a.peers[key(site.office)].stats.drops.values()) == drops + 2
    assert site.a.networks == (LAN,)
