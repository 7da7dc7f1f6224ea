"""Limits by themselves: buckets, what is used once, groups of addresses, the two judges."""

import pytest

from ltunnel.control.admission import MAX_SKEW, Admission
from ltunnel.control.diagnosis import FailureReport, unanswered
from ltunnel.control.flows import describe_endpoint, limit_group
from ltunnel.control.handshake import Initiator
from ltunnel.control.limits import Bucket, Buckets, UsedOnce
from ltunnel.keys.mac import open_cookie
from ltunnel.session import Drop
from ltunnel.wire.messages import parse

WALL = 1_700_000_000.0


def test_a_bucket_gives_its_burst_then_its_rate():
    bucket = Bucket(rate=2, burst=3, now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(10.4) is False
    assert bucket.take(10.6) is True
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(999.0) is False, "time that runs backwards gives nothing"


def test_buckets_are_bounded_and_the_least_recent_goes():
    buckets = Buckets(rate=1, burst=1, limit=2)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("c", 0.0)
    assert len(buckets) == 2
    assert not buckets.take("a", 0.0), "still remembered"
    assert buckets.take("b", 0.0), "forgotten, so it starts anew"


def test_used_once_forgets_only_what_can_not_come_back():
    used = UsedOnce(limit=3)
    for number in (5, 3, 4):
        used.add(bytes((number,)), float(number), now=10.0)
    assert used.floor == float("-inf")
    used.add(b"\x09", 9.0, now=10.0)
    assert len(used) == 3
    assert used.floor == 3.0
    assert b"\x03" not in used
    assert b"\x04" in used
    used.add(b"\x50", 50.0, now=10.0)
    used.add(b"\x51", 51.0, now=10.0)
    used.add(b"\x52", 52.0, now=10.0)
    used.add(b"\x53", 53.0, now=10.0)
    assert used.floor == 10.0, "never in the future"
    used.expire(52.5)
    assert len(used) == 1


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("192.0.2.7:40122", "192.0.2.7"),
        ("[2001:db8:1:2:3::4]:9000", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:9000", "192.0.2.7"),
        ("[fe80::1%eth0]:9000", "fe80::/64"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("tls stream 7", "tls stream 7"),
        ("", ""),
    ],
)
def test_limits_count_by_address(name, group):
    assert limit_group(name) == group


def test_endpoints_are_named_as_people_write_them():
    assert describe_endpoint(0, ("192.0.2.7", 9)) == "192.0.2.7:9"
    assert describe_endpoint(0, ("2001:db8::1", 9, 0, 0)) == "[2001:db8::1]:9"
    assert describe_endpoint(0, 17) == "17"


@pytest.fixture
def gate(net):
    settings = net.settings("hub", None, "10.0.0.1/24")
    return Admission(settings.keys, settings.cipher, settings.new_aead, net.randbytes, 0.0)


def make_init(net, **changes):
    settings = net.settings("a", None, "10.0.0.2/24", **changes)
    data = Initiator(settings, net.randbytes, 7).init(bytes(56), None)
    return parse(data), data


def test_the_judges_words(net, gate, other_key):
    init, data = make_init(net)
    assert gate.judge(init, data, "192.0.2.1:5", 0, 0.0) is None
    assert gate.judge_time(init, WALL - 179, WALL) is None
    assert gate.judge(init, data, "192.0.2.1:5", 0, 0.0) is Drop.REPLAYED
    init, data = make_init(net, **other_key)
    assert gate.judge(init, data, "192.0.2.1:5", 0, 0.0) is Drop.MAC
    init, data = make_init(net, cipher="OTHER")
    assert gate.judge(init, data, "192.0.2.1:5", 0, 0.0) is Drop.STACK
    init, data = make_init(net, cipher="OTHER", **other_key)
    assert gate.judge(init, data, "192.0.2.1:5", 0, 0.0) is Drop.MAC, "without the key nothing else is believed"


def test_with_a_cookie_an_address_has_a_limit_of_its_own(net, gate, other_key):
    """Whoever spoofs an address uses up only what needs no cookie."""
    source = "192.0.2.1:5"
    settings = net.settings("a", None, "10.0.0.2/24")
    reply = None
    while reply is None:
        init, data = make_init(net)
        reply = gate.judge(init, data, source, 0, 0.0)
    cookie = open_cookie(settings.keys.cookie, parse(reply).salt, parse(reply).sealed, init.mac1, settings.new_aead)

    def with_cookie(flow):
        data = Initiator(settings, net.randbytes, 7).init(bytes(56), cookie)
        return gate.judge(parse(data), data, flow, 0, 0.0)

    assert isinstance(with_cookie("192.0.2.1:6"), bytes), "a cookie is for one flow"
    assert [with_cookie(source) for _ in range(21)] == [None] * 20 + [Drop.LIMITED]
    assert isinstance(gate.judge(*make_init(net), source, 0, 0.0), bytes)


@pytest.mark.parametrize("error", [MAX_SKEW + 1, -MAX_SKEW - 1, 1e9, -1e9])
def test_a_time_that_is_off_is_answered_and_the_init_not_used_up(net, gate, error):
    init, _ = make_init(net)
    reply = gate.judge_time(init, WALL + error, WALL)
    assert len(reply) == 56
    assert parse(reply).receiver == 7
    assert len(gate.used) == 0
    assert gate.judge_time(init, WALL, WALL) is None
    assert len(gate.used) == 1


def test_a_report_names_the_worst_and_counts_the_rest(net):
    keys = net.settings("hub", None, "10.0.0.1/24").keys
    report = FailureReport()
    assert not report
    for number in range(12):
        for _ in range(number + 1):
            report.count(f"192.0.2.{number}:{number}", Drop.MAC)
    report.count("192.0.2.11:9", Drop.STACK)
    events = report.take(keys, "AESGCM")
    assert len(events) == 8 + 1 + 1
    assert (
        events[0].text == f"12 handshakes from 192.0.2.11 do not verify: wrong key? (ours has the check {keys.check})"
    )
    assert events[1].text == "1 handshakes from 192.0.2.11 have our key but another cipher than AESGCM"
    assert events[-1].text == "10 more handshakes from other addresses do not verify"
    assert not report
    assert report.take(keys, "AESGCM") == []


def test_what_a_node_says_that_gets_no_answer(net):
    keys = net.settings("hub", None, "10.0.0.1/24").keys
    event = unanswered("hub.example:9000", "192.0.2.1:9000", ["transport_x"], 3, keys, "AESGCM", met=False)
    for cause in ("hub is down", "firewall", "is transport_x blocked?", keys.check, "another cipher than AESGCM"):
        assert cause in event.text
    assert event.fields["key_check"] == keys.check
    assert keys.check not in unanswered("h", "f", ["t"], 3, keys, "AESGCM", met=True).text
