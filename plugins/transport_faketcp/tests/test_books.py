"""What a flow acknowledges when segments are lost, come late, or twice."""

from __future__ import annotations

import pytest

from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.opening import Agreed
from ltunnel_transport_faketcp.segment import MASK, Head
from ltunnel_transport_faketcp.states import State

SIZE = 1000
HALF = 65_535 << 9


class Books:
    """A flow that receives segments of 1000 bytes by their place in the stream, which begins just below 2^32."""

    FIRST = MASK - 4 * SIZE

    def __init__(self, scale: int | None = 10) -> None:
        self.flow = Flow(("192.0.2.1", 9000), State.OPEN, 0.0)
        head = Head(bytes(4), bytes(4), 1, 2, timed=True)
        agreed = Agreed(1460, scale, sack=True, clock=0)
        self.flow.establish(head, agreed, first=0, far=self.FIRST, window=65_535, now=0.0)

    def take(self, *places: int, size: int = SIZE) -> list[int]:
        """Receive segments; return up to which place is acknowledged after each."""
        acknowledged = []
        for place in places:
            seq = self.FIRST + place * SIZE & MASK
            assert self.flow.take(seq, 1, size, 65_535, 0, 0.0)
            acknowledged.append((self.flow.ack - self.FIRST) // SIZE)
        return acknowledged


def test_in_order():
    books = Books()
    assert books.take(*range(12)) == list(range(1, 13))
    assert books.flow.ack == books.flow.received > MASK


def test_it_stays_in_front_of_what_is_missing():
    assert Books().take(0, 1, 3, 4, 8, 9) == [1, 2, 2, 2, 2, 2]


def test_what_comes_late_is_acknowledged_with_all_behind_it():
    assert Books().take(0, 2, 3, 1, 4) == [1, 1, 1, 4, 5]
    assert Books().take(0, 2, 4, 6, 3, 1, 5) == [1, 1, 1, 1, 1, 5, 7]
    assert Books().take(3, 2, 1, 0) == [0, 0, 0, 4]


def test_a_part_of_what_is_missing():
    books = Books()
    assert books.take(0, 5) == [1, 1]
    assert books.take(1, 3, size=2 * SIZE) == [3, 6]
    books = Books()
    assert books.take(0, 5, 3) == [1, 1, 1]
    assert books.take(1, 3, size=2 * SIZE) == [4, 6]


def test_twice_and_empty():
    assert Books().take(0, 1, 1, 0, 3, 3, 1) == [1, 2, 2, 2, 2, 2, 2]
    books = Books()
    books.take(0, 3)
    assert books.take(2, size=0) == [1]
    assert books.take(1, 2) == [2, 4]


def test_a_pure_acknowledgement_tells_what_is_missing_too():
    books = Books()
    books.take(0)
    assert books.take(5, size=0) == [1]
    assert books.flow.received == books.FIRST + 5 * SIZE
    assert books.take(5) == [1]


def test_it_moves_on_when_half_the_window_is_behind_it():
    books = Books()
    books.take(0)
    last = 1 + HALF // SIZE
    assert set(books.take(*range(2, last))) == {1}
    assert books.take(last, last + 1, last + 3) == [last + 1, last + 2, last + 2]


def test_a_small_window_is_never_held():
    assert Books(scale=None).take(0, 2, 5, 4) == [1, 3, 6, 6]


@pytest.mark.parametrize("holes", [10, 500])
def test_of_many_holes_some_are_remembered(holes):
    books = Books()
    assert set(books.take(*range(1, 2 * holes, 2))) == {0}
    assert len(books.flow.holes) <= 64
    assert books.take(0) == [2]
