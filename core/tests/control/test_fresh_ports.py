"""Ports of their own: opened once, waited for, kept while something uses them, closed after that."""

from types import SimpleNamespace

from ltunnel.control.candidates import ClosePort, OpenPorts
from ltunnel.control.fresh_ports import KEPT, MOST, WAITING, FreshPort, FreshPorts
from ltunnel.plugin import Limits

A, B = b"a" * 32, b"b" * 32


class Ports:
    def __init__(self) -> None:
        self.ctx = SimpleNamespace(calls=[])
        self.needed: set[int] = set()
        self.ports = FreshPorts(self.ctx, self.needed.__contains__, base=2)
        self.sent: list[int] = []
        self.closed: list[int] = []

    def use(self, peer: bytes, number: int, now: float = 0.0) -> bool:
        port = FreshPort(peer, number)
        self.closed += self.ports.make_room(port, now)
        return self.ports.use(port, self.sent.append, now)


def test_a_port_is_ordered_once_and_what_waits_goes_when_it_is_open():
    given = Ports()
    assert given.use(A, 1)
    assert given.use(A, 1)
    assert given.ctx.calls == [OpenPorts(2, FreshPort(A, 1))]
    assert not given.sent
    given.ports.opened(FreshPort(A, 1), 7)
    assert given.sent == [7, 7]
    assert given.use(A, 1)
    assert given.sent == [7, 7, 7]
    assert (given.ports.number(7, A), given.ports.number(7, B), given.ports.number(8, A)) == (1, 0, 0)


def test_what_waits_is_bounded_and_what_cannot_be_opened_is_forgotten():
    given = Ports()
    assert [given.use(A, 1) for _ in range(WAITING + 1)] == [True] * WAITING + [False]
    given.ports.opened(FreshPort(A, 1), None)
    assert len(given.ports) == 0
    assert not given.sent
    given.ports.opened(FreshPort(A, 1), 9)  # nobody waits for it any more
    assert given.ctx.calls[-1] == ClosePort(9)


def test_unused_ports_are_closed_unless_a_path_goes_over_them():
    given = Ports()
    for number in (1, 2):
        given.use(A, number)
        given.ports.opened(FreshPort(A, number), number)
    given.needed.add(1)
    assert list(given.ports.sweep(KEPT - 1.0)) == []
    assert list(given.ports.sweep(KEPT)) == [2]
    assert given.ctx.calls[-1] == ClosePort(2)
    given.needed.clear()
    assert list(given.ports.sweep(KEPT)) == [1]
    assert len(given.ports) == 0


def test_one_peer_gets_so_many_and_a_new_round_takes_the_place_of_the_last():
    given = Ports()
    for number in range(1, Limits.PORTS + 1):
        assert given.use(A, number)
        given.ports.opened(FreshPort(A, number), number)
    assert not given.use(A, 1000, now=1.0)
    assert given.use(B, 1, now=1.0)
    assert not given.closed
    assert given.use(A, 1000, now=20.0), "those of the last round are not needed any more"
    assert sorted(given.closed) == list(range(1, Limits.PORTS + 1)), "and whoever waits for answers there is told"
    assert len(given.ports) == 2


def test_all_peers_together_get_so_many():
    given = Ports()
    taken = [given.use(bytes((n % 2, *A[1:])), n + 1) for n in range(MOST + 10)]
    assert sum(taken) == MOST
