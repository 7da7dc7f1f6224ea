"""What transports tell their operator: notices become events, few of them; counts become status."""

from types import SimpleNamespace

from ltunnel.control.events import Level
from ltunnel.node.accounts import LIMIT, MINUTE, Notices, describe_transports


def test_a_transport_that_tells_nothing_is_as_good():
    silent = object()
    assert Notices("transport_silent", silent).take(0.0) == []
    assert describe_transports([("transport_silent", silent)]) == [
        {"name": "transport_silent", "tallies": {}, "drops": {}}
    ]


def test_each_may_be_missing():
    half = SimpleNamespace(drops={"malformed": 2})
    assert describe_transports([("half", half)]) == [{"name": "half", "tallies": {}, "drops": {"malformed": 2}}]


def test_counts_are_read_when_somebody_asks():
    transport = SimpleNamespace(drops={}, tallies={"connections": 0})
    first = describe_transports([("t", transport)])
    transport.tallies["connections"] = 3
    transport.drops["stray"] = 1
    assert describe_transports([("t", transport)]) == [
        {"name": "t", "tallies": {"connections": 3}, "drops": {"stray": 1}}
    ]
    assert first[0]["drops"] == {}, "an answer does not change afterwards"


def test_words_are_made_safe_to_print():
    transport = SimpleNamespace(drops={"\x1b[2J": 1}, notices=["\x1b[2J" + "x" * 1000])
    assert describe_transports([("t", transport)])[0]["drops"] == {"\\x1b[2J": 1}
    (event,) = Notices("t", transport).take(0.0)
    assert event.text.startswith("t: \\x1b[2Jxxx")
    assert len(event.text) < 400


def test_a_notice_is_a_warning_with_the_transport():
    transport = SimpleNamespace(notices=["no certificate"])
    notices = Notices("transport_tls", transport)
    (event,) = notices.take(5.0)
    assert (event.name, event.text) == ("transport-notice", "transport_tls: no certificate")
    assert event.level is Level.WARNING
    assert event.fields == {"transport": "transport_tls"}
    assert transport.notices == []
    assert notices.take(5.0) == []


def test_the_same_text_comes_once_a_minute():
    transport = SimpleNamespace(notices=[])
    notices = Notices("t", transport)
    logged = []
    for second in range(150):
        transport.notices.append("refused")
        logged += [second] * len(notices.take(float(second)))
    assert logged == [0, 60, 120]


def test_few_come_in_a_minute_and_the_rest_is_counted():
    transport = SimpleNamespace(notices=[])
    notices = Notices("t", transport)
    for number in range(100):
        transport.notices.append(f"trouble {number}")
    assert [event.text for event in notices.take(0.0)] == [f"t: trouble {number}" for number in range(LIMIT)]
    assert notices.take(MINUTE - 1) == []
    (rest,) = notices.take(MINUTE)
    assert rest.text == "t: 92 more notices in the minute before"
    assert notices.take(2 * MINUTE) == []
