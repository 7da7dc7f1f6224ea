"""A node finds its hub, is taken or refused, and says why."""

from ipaddress import ip_address, ip_interface, ip_network

from ltunnel.control.pins import pin_name
from ltunnel.session import Drop

ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def test_a_handshake_is_four_messages_and_both_sides_know_each_other(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(0.1)
    assert net.kinds()[:4] == ["a>INIT", "hub>RESP", "a>CONFIRM", "hub>DATA"]
    assert (node.state, node.reason) == ("up", None)
    assert node.hub.key == hub.settings.identity.public
    assert (node.hub.name, node.hub.mtu, node.hub.is_hub) == ("hub", 1400, True)
    assert node.hub.hosts == {ip_address("10.0.0.1").packed}
    assert node.hub.networks == ()
    (peer,) = hub.peers.values()
    assert (peer.name, peer.key, peer.path.flow) == ("a", node.settings.identity.public, node.flow)
    assert hub.fib.lookup(ip_address("10.0.0.2").packed) is peer
    assert hub.fib.lookup(ip_address("10.0.0.3").packed) is None
    assert node.fib.lookup(ip_address("10.0.0.77").packed) is None
    assert hub.peer_state(peer) == "established"
    assert len(hub.texts("node-joined")) == 1
    assert len(node.texts("connected")) == 1


def test_no_reply_is_larger_than_its_request_and_packets_pass(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(0.1)
    sizes = [len(data) for *_, data in net.log[:4]]
    assert sizes[0] == 144
    assert sizes[1] == 140
    assert sizes[3] <= sizes[2]
    assert node.send("10.0.0.1", b"there")
    assert hub.send("10.0.0.2", b"and back")
    net.run(0.1)
    assert (hub.got, node.got) == ([b"there"], [b"and back"])


def test_isolation_and_mtu_are_told(net):
    net.hub(client_isolation=True, mtu=1280)
    node = net.node("a", "10.0.0.2/24", mtu=1300)
    net.run(0.1)
    assert node.hub.mtu == 1280
    assert [peer.mtu for peer in net.hosts[0].peers.values()] == [1300]
    assert "isolated" in node.texts("connected")[0]


def test_another_prefix_length_is_a_warning(net):
    net.hub()
    node = net.node("a", "10.0.0.2/16")
    net.run(0.1)
    assert node.state == "up"
    assert "10.0.0.2/24" in node.texts("address-differs")[0]


def test_ipv6_inside(net):
    hub = net.hub(addresses=(ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")))
    node = net.node("a", "10.0.0.2/24", addresses=(ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")))
    net.run(0.1)
    assert node.send("fd00::1", b"six")
    assert hub.send("fd00::2", b"back")
    net.run(0.1)
    assert (hub.got, node.got) == ([b"six"], [b"back"])


# -------------------------------------------------------------------- refusals


def test_an_address_of_another_key_is_refused_with_a_reason(net):
    hub = net.hub()
    net.node("a", "10.0.0.2/24")
    net.run(0.1)
    thief = net.node("b", "10.0.0.2/24")
    net.run(1)
    assert thief.state == "denied"
    assert "10.0.0.2 belongs to another node's key (named a)" in thief.reason
    assert thief.texts("denied")[0].startswith(thief.reason)
    assert thief.hub.epoch is None
    assert not thief.sessions
    assert [binding.name for binding in hub.bindings] == ["a"]
    assert "10.0.0.2" in hub.texts("node-denied")[0]
    assert [peer.name for peer in hub.peers.values()] == ["a"]


def test_a_denied_node_asks_again_slowly_and_joins_when_the_binding_is_forgotten(net):
    hub = net.hub()
    first = net.node("a", "10.0.0.2/24")
    net.run(0.1)
    second = net.node("b", "10.0.0.2/24")
    net.run(100)
    inits = [when for when, source, _, kind, _ in net.log if source == "b" and kind == "INIT"]
    assert 3 <= len(inits) <= 5
    assert len(second.texts("denied")) == 1, "the same reason is told once"
    assert len(hub.texts("node-denied")) == 2, "and a line a minute on the hub"
    first.stop(net.now)
    net.drain(first)
    hub.forget_binding("a", net.now)
    net.drain(hub)
    assert net.run(40, lambda: second.state == "up")
    assert [(binding.name, binding.addresses) for binding in hub.bindings] == [("b", (ip_address("10.0.0.2"),))]


def test_addresses_that_are_nobodys_to_ask_for(net):
    hub = net.hub()
    for name, address, reason in (
        ("out", "10.0.1.2/24", "10.0.1.2 is not in this network: choose an address of 10.0.0.0/24"),
        ("hub2", "10.0.0.1/24", "10.0.0.1 is the hub's own address"),
        ("net", "10.0.0.0/24", "10.0.0.0 names the network"),
        ("cast", "10.0.0.255/24", "10.0.0.255 names the network"),
    ):
        node = net.node(name, address)
        net.run(0.2)
        assert node.state == "denied", name
        assert reason in node.reason
        net.kill(node)
    assert hub.bindings == ()


def test_a_name_belongs_to_one_key(net):
    net.hub()
    net.node("a", "10.0.0.2/24")
    net.run(0.1)
    other = net.node("b", "10.0.0.3/24", name="A")
    posing = net.node("c", "10.0.0.4/24", name="hub")
    net.run(0.2)
    assert "the name A belongs to another node" in other.reason
    assert "the name hub belongs to another node" in posing.reason


def test_another_stack_is_named_on_both_sides(net):
    hub = net.hub(stack=("cipher=AESGCM", "fec=rs"))
    node = net.node("a", "10.0.0.2/24")
    net.run(0.2)
    assert node.state == "denied"
    assert "the hub runs cipher=AESGCM, fec=rs; the node runs cipher=AESGCM" in node.reason
    assert "fec=rs" in hub.texts("node-denied")[0]


def test_max_clients_counts_nodes_that_are_there(net):
    hub = net.hub(max_clients=2)
    first = net.node("a", "10.0.0.2/24")
    net.node("b", "10.0.0.3/24")
    net.run(0.2)
    third = net.node("c", "10.0.0.4/24")
    net.run(0.2)
    assert third.state == "denied"
    assert "takes 2 nodes (max_clients)" in third.reason
    assert len(hub.bindings) == 2, "who is refused leaves no binding"
    first.stop(net.now)
    net.drain(first)
    assert net.run(40, lambda: third.state == "up")


def test_single_client_mode(net):
    net.hub(multi_client=False)
    first = net.node("a", "10.0.0.2/24")
    net.run(0.2)
    second = net.node("b", "10.0.0.3/24")
    net.run(0.2)
    assert (first.state, second.state) == ("up", "denied")
    assert "one node at a time" in second.reason
    net.kill(first)
    again = net.node("a", "10.0.0.2/24", flow=("203.0.113.99", 5))
    net.run(0.2)
    assert again.state == "up", "the same key may come back while its old session stands"


def test_the_hubs_own_identity_is_refused(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24", identity=hub.settings.identity)
    net.run(0.2)
    assert node.state == "denied"


def test_the_same_node_may_change_its_address(net):
    hub = net.hub()
    old = net.node("a", "10.0.0.2/24")
    net.run(0.2)
    net.kill(old)
    net.node("a", "10.0.0.9/24", flow=("203.0.113.99", 5))
    net.run(0.2)
    assert [str(address) for address in hub.bindings[0].addresses] == ["10.0.0.9"]
    assert hub.fib.lookup(ip_address("10.0.0.2").packed) is None
    taker = net.node("b", "10.0.0.2/24")
    net.run(0.2)
    assert taker.state == "up"


def test_routes_are_taken_only_when_allowed_and_free(net, lan):
    hub = net.hub(accept_routes=ALL)
    net.node("a", "10.0.0.2/24", routes=(lan,))
    net.run(0.2)
    behind = ip_address("192.168.7.9").packed
    assert hub.fib.lookup(behind).name == "a"
    assert hub.fib.lookup(behind).owns(behind)
    net.node("b", "10.0.0.3/24", routes=(lan.supernet(), ip_interface("10.0.0.128/25").network))
    net.run(0.2)
    assert hub.fib.lookup(behind).name == "a"
    refused = hub.texts("route-refused")
    assert len(refused) == 2
    assert "overlaps a network of a" in refused[0]
    assert "overlaps the tunnel's own network" in refused[1]


def test_routes_are_ignored_by_default(net, lan):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24", routes=(lan,))
    net.run(0.2)
    assert node.state == "up"
    assert hub.fib.lookup(ip_address("192.168.7.9").packed) is None
    assert "accepts none" in hub.texts("route-refused")[0]


# -------------------------------------------------------------------- pins


def test_the_hubs_key_is_pinned_and_another_one_refused(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(0.2)
    pin = pin_name("hub.example:9000", "test")
    assert node.pins == {pin: hub.settings.identity.public}
    assert len(node.texts("pins")) == 1
    net.kill(hub)
    net.kill(node)

    posing = net.hub(identity=net.settings("evil", hub.settings.role, "10.0.0.1/24").identity)
    node = net.node("a", "10.0.0.2/24", pins=node.pins)
    net.run(1)
    assert node.state == "denied"
    assert f"ltunnel pins forget {pin}" in node.texts("hub-key-changed")[0]
    assert not node.sessions
    assert not posing.peers
    assert "a>CONFIRM" not in net.kinds(since=net.now - 1)

    assert node.forget_pin(pin, net.now)
    assert net.run(2, lambda: node.state == "up"), "at once, not at the next retry"
    assert node.pins == {pin: posing.settings.identity.public}


def test_a_pinned_hub_that_is_replaced_while_the_node_runs(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(0.2)
    net.kill(hub)
    net.hub(identity=net.settings("evil", hub.settings.role, "10.0.0.1/24").identity)
    assert net.run(20, lambda: node.state == "denied")
    assert not node.sessions
    assert node.hub.epoch is None


def test_an_impostor_cannot_end_a_session_that_lives(net):
    """Somebody who has the network's key and sits on the path answers the node's INIT before the hub does."""
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    evil = net.hub(identity=net.settings("evil", hub.settings.role, "10.0.0.1/24").identity)
    evil.flow = ("198.51.100.66", 9)
    net.cut = lambda source, target, data: source is node and target is hub and net.inject(evil, node.flow, data)
    node.control._rekey(node.control._node_side.session, net.now)
    net.drain(node)
    net.run(2)
    assert node.state == "up"
    assert node.stats.drops.get(Drop.UNKNOWN_INDEX, 0) > 0, "his answer came first, the hub's was then late"
    assert "answered for hub.example:9000 (198.51.100.1:9000) with another key" in node.texts("hub-impostor")[0]
    net.cut = None
    net.run(5)
    assert node.send("10.0.0.1", b"x")
    net.run(0.1)
    assert hub.got == [b"x"]


# -------------------------------------------------------------------- keys, ciphers, clocks


def test_a_wrong_key_is_found_in_five_seconds_and_the_hub_sends_not_one_byte(net, other_key):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24", **other_key)
    net.run(5)
    assert hub.sent == 0
    (text,) = node.texts("unreachable")
    assert node.settings.keys.check in text
    assert "hub.example:9000 (198.51.100.1:9000)" in text
    assert node.reason == text
    assert node.state == "connecting"
    assert hub.stats.drops[Drop.MAC] >= 3
    (line,) = hub.texts("wrong-key")
    assert "203.0.113.2" in line
    assert hub.settings.keys.check in line
    net.run(175)
    assert hub.sent == 0
    assert len(hub.texts("wrong-key")) == 3, "one line a minute"
    assert len(node.texts("unreachable")) == 3


def test_plain_and_keyed_never_speak(net, make_net, plain):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24", **plain)
    net.run(20)
    assert (hub.sent, node.state) == (0, "connecting")
    assert "the hub has a key and we have none" in node.texts("unreachable")[0]
    other = make_net()
    hub = other.hub(**plain)
    node = other.node("a", "10.0.0.2/24")
    other.run(20)
    assert (hub.sent, node.state) == (0, "connecting")


def test_plain_and_plain_do(net, plain):
    hub = net.hub(**plain)
    node = net.node("a", "10.0.0.2/24", **plain)
    net.run(1)
    assert node.state == "up"
    assert node.send("10.0.0.1", b"open")
    net.run(1)
    assert hub.got == [b"open"]


def test_another_cipher_is_not_a_wrong_key(net):
    hub = net.hub()
    net.node("a", "10.0.0.2/24", cipher="OTHER")
    net.run(3)
    assert hub.sent == 0
    assert hub.stats.drops.keys() == {Drop.STACK}
    assert "another cipher than AESGCM" in hub.texts("other-cipher")[0]
    assert not hub.texts("wrong-key")


def test_a_clock_that_is_a_day_off_is_told_and_worked_around(net):
    net.hub()
    for name, address, error, words in (
        ("slow", "10.0.0.2/24", -86_400, "24 hours behind"),
        ("fast", "10.0.0.3/24", 86_400, "24 hours ahead of"),
        ("zero", "10.0.0.4/24", -1_700_000_000, "days behind"),
    ):
        node = net.node(name, address, wall=1_700_000_000 + error)
        net.run(1)
        assert node.state == "up", name
        (text,) = node.texts("clock")
        assert words in text
    assert "hub>TIME" in net.kinds()
    assert max(len(data) for *_, kind, data in net.log if kind == "TIME") == 56


def test_a_small_error_needs_no_correction(net):
    net.hub()
    node = net.node("a", "10.0.0.2/24", wall=1_700_000_000 - 100)
    net.run(1)
    assert node.state == "up"
    assert "hub>TIME" not in net.kinds()
