"""The table of a path's states, what probes tell of a path, and what is kept of traffic."""

from pathlib import Path as File

import pytest

from ltunnel.control.measure import FEWEST, WINDOW, Measure
from ltunnel.control.path_mtu import PathMtu
from ltunnel.control.session import Session
from ltunnel.control.way import CARRIES, TRANSITIONS, Way, WayState, WayStep, diagram
from ltunnel.control.way_table import BULK, BULK_TIME, BUSY, WayTable
from ltunnel.plugin import PathClass
from ltunnel.session import Path, Peer

ADR = File(__file__).parents[3] / "docs" / "adr"


def make_way(**fields) -> Way:
    way = Way(1, Peer(bytes(32)), Path(0, ("192.0.2.1", 1)), PathClass.PUBLIC, PathMtu(1400))
    for name, value in fields.items():
        setattr(way, name, value)
    return way


def test_every_state_is_reached_and_none_is_the_end():
    reached = {WayState.PROBING}
    while more := {to for state in reached for to in TRANSITIONS[state].values()} - reached:
        reached |= more
    assert reached == set(WayState)
    assert all(TRANSITIONS.values())


def test_only_an_answer_makes_a_path_carry_data():
    """The path through the hub may also be restored: the hub's session is the proof."""
    for state, moves in TRANSITIONS.items():
        for what, to in moves.items():
            if to in CARRIES and state not in CARRIES:
                assert what in (WayStep.PONG, WayStep.RESTORED), (state, what)
        assert moves[WayStep.PONG] is WayState.VALID


def test_steps_that_mean_nothing_are_not_taken():
    way = make_way()
    assert not way.move(WayStep.OVERDUE)
    assert way.move(WayStep.PONG)
    assert not way.move(WayStep.PONG)
    assert way.state is WayState.VALID
    way.rounds = 5
    assert way.move(WayStep.SILENT)
    assert way.rounds == 0


def test_nothing_is_sent_before_it_is_known_what_fits():
    way = make_way(state=WayState.VALID)
    assert not way.usable
    way.mtu.carried(1400, 100.0)
    assert way.usable
    way.move(WayStep.OVERDUE)
    assert way.usable, "a path in doubt is used until there is a better one"
    way.move(WayStep.SILENT)
    assert not way.usable


@pytest.mark.parametrize(("kind", "direct"), [
    (PathClass.LAN, True), (PathClass.PUBLIC, True), (PathClass.MESH, False), (PathClass.HUB, False),
])  # fmt: skip
def test_direct(kind, direct):
    assert make_way(path_class=kind).direct is direct


def test_the_diagram_in_the_documents_is_drawn_from_the_table():
    (adr,) = ADR.glob("*-paths.md")
    assert f"```mermaid\n{diagram()}```" in adr.read_text()


# -------------------------------------------------------------------- measurements


def test_round_trip_time_and_jitter():
    measure = Measure()
    assert measure.rtt is None
    measure.answered(0.1)
    assert (measure.rtt, measure.jitter) == (0.1, 0.0)
    for _ in range(200):
        measure.answered(0.05)
    assert measure.rtt == pytest.approx(0.05, abs=0.001)
    assert measure.jitter < 0.001
    for i in range(200):
        measure.answered(0.04 + 0.02 * (i % 2))
    assert measure.rtt == pytest.approx(0.05, abs=0.002)
    assert measure.jitter == pytest.approx(0.01, abs=0.002)


def test_loss_is_a_share_of_the_last_probes():
    measure = Measure()
    assert measure.loss == 0
    measure.missed()
    assert measure.loss == 1 / FEWEST, "one of one is not all"
    for i in range(WINDOW):
        measure.missed() if i % 4 == 0 else measure.answered(0.01)
    assert measure.loss == 0.25
    for _ in range(WINDOW):
        measure.answered(0.01)
    assert measure.loss == 0


def test_a_late_answer_was_not_lost():
    measure = Measure()
    measure.missed()
    measure.answered(1.2, late=True)
    assert (measure.loss, measure.rtt) == (0, 1.2)
    measure.answered(1.2, late=True)
    assert measure.loss == 0


# -------------------------------------------------------------------- traffic


def test_traffic_is_what_is_seen_once_a_second():
    peer = Peer(bytes(32))
    table = WayTable(Session(peer), peer, Path(1, b"name"), 1354, 100.0)
    assert table.busy(100.0)
    assert not table.busy(100.0 + BUSY)
    peer.stats.rx_packets += 1
    table.look(110.0)
    assert table.busy(110.0)
    assert not table.bulk(110.0)
    table.look(111.0)
    assert table.last_traffic == 110.0, "nothing more has passed"
    peer.stats.tx_bytes += BULK
    table.look(112.0)
    assert table.bulk(112.0)
    table.look(113.0)
    assert table.bulk(113.0), "if it vanishes little more is sent, so it is remembered"
    assert not table.bulk(112.0 + BULK_TIME)


def test_paths_have_numbers_that_are_not_used_again():
    peer = Peer(bytes(32))
    table = WayTable(Session(peer), peer, Path(1, b"name"), 1354, 100.0)
    assert (table.relay.number, table.current) == (0, table.relay)
    first = table.add(Path(0, "a"), PathClass.PUBLIC, 1400)
    del table.ways[first.flow]
    second = table.add(Path(0, "b"), PathClass.PUBLIC, 1400)
    assert (first.number, second.number) == (1, 2)
    assert table.all == [table.relay, second]
