"""Where a hub can be asked, and the questions that are out."""

import pytest

from ltunnel.control.candidates import HangUp
from ltunnel.control.hub_places import ASK_BURST, PATIENCE, HubPlaces
from ltunnel.control.questions import OPENING_TIME, QUERY_LIMIT, QUERY_TIME, Question, Questions
from ltunnel.plugin import Carrier, LocalAddress, Query
from ltunnel.wire.places import HubPlace

MAIN, SIX, OTHER6, THIRD6 = ("192.0.2.1", 9000), *((f"2001:db8::{last}", 9000) for last in (1, 2, 3))
UDP, TCP = Carrier.UDP, Carrier.TCP
NOW = 100.0
BOTH = (LocalAddress(address=("192.168.1.2", 5000)), LocalAddress(address=("2001:db8:a::2", 5000)))


@pytest.fixture
def places() -> HubPlaces:
    places = HubPlaces()
    places.main = MAIN
    return places


def test_names_and_the_hub_itself_say_where(places: HubPlaces):
    assert places.next(UDP, 6, NOW) is None
    places.name([MAIN, SIX, ("::1", 9000), ("ff02::1", 9000)])
    places.tell([HubPlace(UDP, OTHER6), HubPlace(UDP, SIX), HubPlace(TCP, THIRD6), HubPlace(UDP, ("fd00::1", 9000))])
    assert places.of(UDP, 6) == (SIX, OTHER6)
    assert places.of(TCP, 6) == (THIRD6,), "a name says nothing of TCP, nor the hub anything of private addresses"
    assert places.of(UDP, 4) == (MAIN,)


def test_each_try_goes_elsewhere_until_one_has_answered(places: HubPlaces):
    places.name([SIX, OTHER6, THIRD6])
    assert {places.next(UDP, 6, NOW) for _ in range(3)} == {SIX, OTHER6, THIRD6}
    places.answered(UDP, OTHER6)
    assert {places.next(UDP, 6, NOW) for _ in range(PATIENCE)} == {OTHER6}
    assert {places.next(UDP, 6, NOW) for _ in range(3)} == {SIX, OTHER6, THIRD6}, "it answers no longer"
    places.answered(UDP, OTHER6)
    places.name([SIX, THIRD6])
    assert places.next(UDP, 6, NOW) in (SIX, THIRD6), "it is none any more"


def test_questions_to_other_addresses_are_few(places: HubPlaces):
    """However often the hub says something else of itself."""
    asked = 0
    for turn in range(2000):
        places.tell([HubPlace(UDP, (f"2001:db8::{turn + 1:x}", 9000))])
        asked += places.next(UDP, 6, NOW + turn / 100) is not None
    assert asked == ASK_BURST + 19


@pytest.mark.parametrize(("local", "askable"), [
    (BOTH, True), (BOTH[:1], False), (BOTH[1:], True), ((LocalAddress(address=("fd00::2", 5000)),), False),
    ((LocalAddress(address=("fe80::2", 5000)),), False),
])  # fmt: skip
def test_only_a_machine_with_global_ipv6_asks_over_it(
    places: HubPlaces, local: tuple[LocalAddress, ...], askable: bool
):
    places.tell([HubPlace(UDP, SIX)])
    assert places.askable(local, [UDP, TCP]) == (((UDP, 6),) if askable else ())


def test_the_version_that_leads_to_the_hub_is_not_the_other_one(places: HubPlaces):
    places.tell([HubPlace(UDP, SIX), HubPlace(UDP, MAIN)])
    places.main = SIX
    assert places.askable(BOTH, [UDP]) == ((UDP, 4),)
    places.main = None
    assert places.askable(BOTH, [UDP]) == ()


def test_a_reason_for_each_version_without_an_answer(places: HubPlaces):
    def reasons(local: tuple[LocalAddress, ...] = BOTH) -> list[str | None]:
        return [each["reason"] for each in places.explain(local)]

    assert reasons() == ["the server's answers do not arrive", "not known yet"]
    places.tell([])
    assert "does not listen" in str(reasons()[1])
    places.tell([HubPlace(UDP, SIX)])
    assert reasons()[1] == "the server's answers do not arrive"
    assert reasons(BOTH[:1])[1] == "this machine has no global address"
    places.seen[UDP, 6] = ("2001:db8:a::2", 5000)
    six = places.explain(BOTH)[1]
    assert six == {"version": 6, "used": False, "seen": {"udp": "[2001:db8:a::2]:5000"}, "reason": None}
    places.keep(BOTH[:1])
    assert places.explain(BOTH[:1])[1]["seen"] == {}, "the address is gone"


class Context:
    """What `Questions` needs of one."""

    def __init__(self) -> None:
        self.calls: list[object] = []


@pytest.fixture
def questions() -> Questions:
    return Questions(Context())  # type: ignore[arg-type]


def ask(questions: Questions, token: bytes, now: float, query: Query, address: tuple[str, int] = SIX) -> Question:
    question = Question(query, 1, address, now)
    questions.add(token, question)
    if query.carrier is TCP:
        questions.asked_over(question, "flow")
    return question


def test_questions_are_bounded_and_forgotten(questions: Questions):
    for number in range(QUERY_LIMIT + 1):
        ask(questions, number.to_bytes(8, "big"), 0.0, Query())
    assert questions.get(bytes(8)) is None
    assert questions.get((1).to_bytes(8, "big")) is not None
    questions.sweep(4, QUERY_TIME)
    assert questions.get((1).to_bytes(8, "big")) is None


def test_a_connection_that_was_opened_in_vain_is_closed(questions: Questions):
    ask(questions, b"1", 0.0, Query(carrier=TCP, version=6))
    assert questions.flow(1, SIX) == "flow"
    assert questions.flow(1, MAIN) is None
    assert questions.sweep(4, 1.0) == OPENING_TIME
    assert questions.sweep(4, OPENING_TIME) is None
    assert questions._ctx.calls == [HangUp(1, "flow")]
    assert questions.flow(1, SIX) is None


def test_an_answer_keeps_it_open_though_earlier_tries_were_lost(questions: Questions):
    query = Query(carrier=TCP, version=6)
    for token in (b"1", b"2"):
        ask(questions, token, 0.0, query)
    questions.answered(b"2")
    questions.sweep(4, OPENING_TIME)
    assert questions._ctx.calls == []
    assert questions.flow(1, SIX) == "flow"


def test_the_connection_that_carries_the_session_is_never_closed(questions: Questions):
    ask(questions, b"1", 0.0, Query(carrier=TCP), MAIN)
    questions.sweep(4, OPENING_TIME)
    assert questions._ctx.calls == []
