"""Strangers, floods, replays, and bytes that mean nothing: no answer, no exception, bounded tables."""

from random import Random

from ltunnel.control.admission import ADDRESS_RATE, HALF_OPEN_LIMIT, LOAD_RATE
from ltunnel.control.diagnosis import ADDRESS_LIMIT
from ltunnel.control.handshake import Initiator
from ltunnel.keys.mac import mac1, open_cookie
from ltunnel.session import Drop
from ltunnel.wire.messages import Cookie, Init, parse
from ltunnel.wire.payloads import ConfirmPayload, InitPayload, stack_fingerprint
from ltunnel.wire.types import FrameType

STRANGER = ("192.0.2.66", 1000)


class Client:
    """Somebody who has the key and makes single messages by hand."""

    def __init__(self, net, name="mallory", address="10.0.0.66/24", **changes):
        self.net = net
        self.settings = net.settings(name, None, address, **changes)
        self.initiator = None

    def init(self, cookie=None, wall=None):
        self.initiator = Initiator(self.settings, self.net.randbytes, self.net.random.randrange(1, 1 << 24))
        wall = 1_700_000_000.0 + self.net.now - 1000.0 if wall is None else wall
        payload = InitPayload(int(wall * 1e9), stack_fingerprint(self.settings.stack))
        return self.initiator.init(payload.pack(), cookie)

    def confirm(self, resp, **changes):
        assert self.initiator.read_resp(parse(resp)) is not None
        claim = {"name": self.settings.name, "mtu": 1400, "addresses": self.settings.addresses,
                 "stack": self.settings.stack} | changes  # fmt: skip
        return self.initiator.confirm(ConfirmPayload(**claim).pack())[0]


def answers(net, since=0):
    return [(kind, data) for _, source, _, kind, data in net.log[since:] if source == "hub"]


# -------------------------------------------------------------------- strangers


def test_ten_thousand_strange_datagrams_get_no_answer(net):
    hub = net.hub()
    random = Random(7)
    good = Client(net).init()
    for number in range(10_000):
        kind = number % 4
        if kind == 0:
            data = random.randbytes(random.randrange(0, 200))
        elif kind == 1:
            data = good[: random.randrange(0, 144)]
        elif kind == 2:
            data = bytearray(good)
            data[random.randrange(4, 112)] ^= 1 << random.randrange(8)  # behind it are MAC2 and what MAC1 covers
        else:
            data = bytes((random.randrange(1, 6),)) + random.randbytes(random.choice((55, 139, 143, 200)))
        net.inject(hub, (f"192.0.{number % 200}.9", 5), bytes(data))
    assert hub.sent == 0
    assert sum(hub.stats.drops.values()) > 9_000
    assert {Drop.MAC, Drop.MALFORMED, Drop.UNKNOWN_TYPE} <= hub.stats.drops.keys()
    net.run(200)
    assert len(hub.texts("wrong-key")) <= 9 * 4


def test_mac_failures_are_counted_for_a_bounded_number_of_addresses(net, other_key):
    hub = net.hub()
    init = Client(net, **other_key).init()
    for number in range(ADDRESS_LIMIT + 500):
        net.inject(hub, (f"10.{number >> 8}.{number & 255}.1", 5), init)
    assert len(hub.control._failures) == ADDRESS_LIMIT
    net.run(2)
    texts = hub.texts("wrong-key")
    assert len(texts) == 9
    assert texts[-1].startswith(f"{ADDRESS_LIMIT + 500 - 8} more handshakes from other addresses")


def test_mutated_messages_of_both_sides_never_raise(make_net, plain):
    """A whole life of datagrams, each mutated a few ways, into both sides; with and without a cipher that checks."""
    for changes in ({}, plain):
        net = make_net(3)
        hub = net.hub(**changes)
        node = net.node("a", "10.0.0.2/24", **changes)
        net.run(1)
        node.control._rekey(node.control._node_side.session, net.now)
        net.drain(node)
        net.run(1)
        random = Random(11)
        life = [data for *_, data in net.log]
        for _ in range(60):
            for data in life:
                mutated = bytearray(data)
                for _ in range(random.randrange(1, 4)):
                    match random.randrange(4):
                        case 0:
                            mutated[random.randrange(len(mutated))] ^= 1 << random.randrange(8)
                        case 1:
                            del mutated[random.randrange(1, len(mutated)) :]
                        case 2:
                            mutated += random.randbytes(random.randrange(1, 50))
                        case 3:
                            at = random.randrange(len(mutated))
                            mutated[at : at + 4] = random.randbytes(4)
                    if not mutated:
                        mutated = bytearray(b"\0")
                for target, flow in ((hub, node.flow), (node, hub.flow)):
                    net.inject(target, flow, bytes(mutated))
            net.run(0.01)
        net.run(60)
        if changes:  # without a cipher anybody can say anything, BYE too
            continue
        assert node.state == "up", "and the two still speak"
        assert node.send("10.0.0.1", b"x")
        net.run(1)
        assert hub.got[-1] == b"x"


def test_a_node_may_not_say_what_is_the_hubs_to_say(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    for frame in (FrameType.WELCOME, FrameType.DENY, FrameType.PEERS):
        body = b"\x0a\x00\x01\x01" if frame is FrameType.DENY else b""
        net.inject(hub, node.flow, node.hub.epoch.seal_frame(frame, body))
    assert hub.peer_state(hub.peers[node.settings.identity.public]) == "established"
    assert sum(hub.peers[node.settings.identity.public].stats.drops.values()) == 3


# -------------------------------------------------------------------- replays


def test_an_init_is_answered_once(net):
    hub = net.hub()
    init = Client(net).init()
    for _ in range(50):
        net.inject(hub, STRANGER, init)
        net.inject(hub, ("192.0.2.67", 1), init)
    assert [kind for kind, _ in answers(net)] == ["RESP"]
    assert hub.stats.drops[Drop.REPLAYED] == 99
    net.run(170)
    net.inject(hub, STRANGER, init)
    assert len(answers(net)) == 1, "still known"
    net.run(30)
    net.inject(hub, STRANGER, Client(net).init())
    net.inject(hub, STRANGER, init)
    assert [kind for kind, _ in answers(net)] == ["RESP", "RESP", "TIME"], "too old by then"


def test_replaying_a_whole_handshake_changes_nothing(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    peer = hub.peers[node.settings.identity.public]
    epoch, path, before = peer.epoch, peer.path, len(net.log)
    for _, source, _, kind, data in list(net.log):
        if source == "a" and kind != "DATA":
            net.inject(hub, STRANGER, data)
    assert peer.epoch is epoch
    assert peer.path is path
    sent = [(source, target, kind) for _, source, target, kind, _ in net.log[before:]]
    assert sent == 2 * [("hub", "a", "DATA")], "WELCOME and PEERS again, to the session's path, not to the stranger"


def test_a_confirm_from_another_address_gives_it_a_budget_only(net):
    """Somebody who has the key and takes the RESP himself, but names a victim as the source of the CONFIRM."""
    hub = net.hub()
    client = Client(net)
    net.inject(hub, STRANGER, client.init())
    confirm = client.confirm(answers(net)[0][1])
    victim = ("192.0.2.99", 53)
    net.inject(hub, victim, confirm)
    peer = next(iter(hub.peers.values()))
    assert peer.path.flow == victim
    for _ in range(50):
        hub.send("10.0.0.66", bytes(400))
        net.run(1)
    sent = sum(len(data) for _, _, _, kind, data in net.log if kind == "DATA")
    assert sent <= 3 * len(confirm)


def test_a_damaged_confirm_does_not_spoil_the_handshake(net):
    hub = net.hub()
    client = Client(net)
    net.inject(hub, STRANGER, client.init())
    confirm = client.confirm(answers(net)[0][1])
    for place in range(12, len(confirm) - 16, 7):
        net.inject(hub, STRANGER, resealed(client, confirm, place))
    assert hub.stats.drops[Drop.FORGED] > 5
    net.inject(hub, STRANGER, confirm)
    assert len(hub.sessions) == 1


def resealed(client, confirm, place):
    """Change a byte of a CONFIRM as somebody who has the network's key can."""
    bad = bytearray(confirm[:-16])
    bad[place] ^= 1
    return bytes(bad) + mac1(client.settings.keys.mac1, bytes(bad))


def test_a_confirm_with_another_index_is_dropped(net):
    hub = net.hub()
    client = Client(net)
    net.inject(hub, STRANGER, client.init())
    confirm = client.confirm(answers(net)[0][1])
    net.inject(hub, STRANGER, resealed(client, confirm, 7))  # the sender's index: answers would go astray
    assert not hub.sessions
    net.inject(hub, STRANGER, confirm)
    assert len(hub.sessions) == 1


def test_only_the_same_confirm_is_answered_again_and_not_too_often(net):
    hub = net.hub()
    client = Client(net)
    net.inject(hub, STRANGER, client.init())
    confirm = client.confirm(answers(net)[0][1])
    net.inject(hub, STRANGER, confirm)
    before = len(net.log)
    for _ in range(50):
        net.inject(hub, STRANGER, confirm)
        net.inject(hub, STRANGER, resealed(client, confirm, 40))
        net.run(0.01)
    assert 6 <= len(answers(net, before)) <= 12, "WELCOME and PEERS, every 0.1 s"
    assert hub.stats.drops[Drop.UNKNOWN_INDEX] == 50


def test_only_the_same_confirm_is_refused_again(net):
    hub = net.hub()
    client = Client(net, address="10.9.9.9/24")
    net.inject(hub, STRANGER, client.init())
    confirm = client.confirm(answers(net)[0][1])
    for _ in range(3):
        net.inject(hub, STRANGER, confirm)
        net.inject(hub, STRANGER, resealed(client, confirm, 40))
    assert [kind for kind, _ in answers(net)] == ["RESP", "DATA", "DATA", "DATA"]
    assert hub.stats.drops[Drop.UNKNOWN_INDEX] == 3
    net.run(7)
    net.inject(hub, STRANGER, confirm)
    assert len(answers(net)) == 4


def test_an_address_that_has_not_proved_itself_gets_no_init_either(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    peer = hub.peers[node.settings.identity.public]
    victim = ("192.0.2.99", 53)
    net.inject(hub, victim, node.hub.epoch.seal_frame(2, b"p" * 100))
    net.kill(node)
    hub.control._rekey(hub.control.session_with(peer.key), net.now)
    net.drain(hub)
    net.run(25)
    assert "hub>INIT" not in net.kinds()


# -------------------------------------------------------------------- load


def test_one_address_gets_twenty_handshakes_a_second_and_cookies_beyond(net):
    hub = net.hub()
    client = Client(net)
    for _ in range(100):
        net.inject(hub, STRANGER, client.init())
    kinds = [kind for kind, _ in answers(net)]
    assert kinds.count("RESP") == ADDRESS_RATE
    assert kinds.count("COOKIE") == 80
    other = net.node("a", "10.0.0.2/24")
    assert net.run(1, lambda: other.state == "up"), "others are not held up"
    net.run(2)
    before = len(net.log)
    for _ in range(100):
        net.inject(hub, STRANGER, client.init())
    assert [kind for kind, _ in answers(net, before)].count("RESP") == ADDRESS_RATE


def test_an_address_that_somebody_spoofs_gets_in_with_a_cookie(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    client = Client(net)
    for _ in range(200):
        net.inject(hub, node.flow, client.init())
    net.run(0.5)
    assert node.state == "up"
    inits = [parse(data) for _, source, _, kind, data in net.log if source == "a" and kind == "INIT"]
    assert any(init.mac2 != bytes(16) for init in inits)


def test_under_load_everybody_needs_a_cookie(net):
    hub = net.hub()
    for number in range(int(LOAD_RATE)):
        net.inject(hub, (f"10.7.{number >> 8}.{number & 255}", 5), Client(net).init())
    before = len(net.log)
    client = Client(net)
    net.inject(hub, STRANGER, client.init())
    ((kind, data),) = answers(net, before)
    assert kind == "COOKIE"
    assert len(data) == 56
    assert isinstance(parse(data), Cookie)
    net.inject(hub, STRANGER, client.init(cookie=bytes(16)))
    assert [kind for kind, _ in answers(net, before)] == ["COOKIE", "COOKIE"], "a wrong cookie is none"
    node = net.node("a", "10.0.0.2/24")
    for number in range(20):
        net.inject(hub, (f"10.8.0.{number}", 5), Client(net).init())
        net.run(0.002)
    assert net.run(1, lambda: node.state == "up")
    assert sum(isinstance(parse(data), Init) for *_, source, _, kind, data in net.log if kind == "INIT") >= 2


def test_a_flood_of_half_open_handshakes_is_bounded_and_nodes_still_join(net):
    """Fifteen hundred machines that have the key and never finish."""
    hub = net.hub()
    cookies = {}
    clients = {f"10.{n >> 8}.{n & 255}.1": Client(net) for n in range(1500)}
    for address, client in clients.items():
        before = len(net.log)
        net.inject(hub, (address, 5), client.init())
        ((kind, data),) = answers(net, before)
        if kind == "COOKIE":
            message = parse(data)
            keys, new_aead = client.settings.keys, client.settings.new_aead
            cookies[address] = open_cookie(keys.cookie, message.salt, message.sealed, client.initiator.mac1, new_aead)
            net.inject(hub, (address, 5), client.init(cookie=cookies[address]))
        net.now += 0.0005
    acceptance = hub.control._p.acceptance
    assert len(cookies) > 1000
    assert len(acceptance) == HALF_OPEN_LIMIT
    assert len(hub.control._ctx.reserved) == HALF_OPEN_LIMIT
    assert hub.stats.drops[Drop.LIMITED] > 400
    node = net.node("a", "10.0.0.2/24")
    assert net.run(1, lambda: node.state == "up")
    net.run(10)
    assert len(acceptance) == 0
    assert not hub.control._ctx.reserved
    assert hub.peers.keys() == {node.settings.identity.public}


def test_a_node_that_reconnects_all_the_time_has_few_epochs(net):
    hub = net.hub()
    client = Client(net)
    for _ in range(200):
        before = len(net.log)
        net.inject(hub, STRANGER, client.init())
        net.inject(hub, STRANGER, client.confirm(answers(net, before)[0][1]))
        net.run(0.06)
    assert len(hub.sessions) <= 4
    assert len(hub.bindings) == 1


def test_expired_nodes_do_not_pile_up(net):
    hub = net.hub(max_clients=10_000, addresses=(net.settings("x", None, "10.0.0.1/16").addresses))
    for number in range(300):
        client = Client(net, f"n{number}", f"10.0.{1 + number // 250}.{1 + number % 250}/16")
        before = len(net.log)
        net.inject(hub, (f"192.0.{number >> 8}.{number & 255}", 1), client.init())
        net.inject(hub, (f"192.0.{number >> 8}.{number & 255}", 1), client.confirm(answers(net, before)[0][1]))
        net.run(0.02)
    assert len(hub.peers) == 300
    net.run(50)
    last = net.node("last", "10.0.200.1/16")
    net.run(1)
    assert last.state == "up"
    assert len(hub.peers) == 257


# -------------------------------------------------------------------- answers that a node gets


def test_a_node_answers_nobody_but_its_hub(net):
    net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    before = node.sent
    client = Client(net)
    net.inject(node, STRANGER, client.init())
    assert node.sent == before
    assert node.stats.drops[Drop.NO_SESSION] == 1
    net.inject(node, ("198.51.100.1", 9000), client.init())  # somebody who has the key, in the hub's name
    resp = net.log[-1][-1]
    session, epoch = node.control._node_side.session, node.hub.epoch
    net.inject(node, ("198.51.100.1", 9000), client.confirm(resp))
    assert node.hub.epoch is epoch
    assert len(session.epochs) == 1
    assert node.stats.drops[Drop.FORGED] == 1
