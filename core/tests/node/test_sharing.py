"""One UDP port for several transports: who gets what, in which order, and what is kept meanwhile."""

from collections import deque
from collections.abc import Callable
from random import Random

import pytest

from ltunnel.node.sharing import TURNS, Branch, SharedPort, can_share, same_number
from ltunnel.plugin import PortKind, PortSpec

ROOM = memoryview(bytearray(70_000))


class FakePort:
    local = ("0.0.0.0", 9000)

    def __init__(self, *datagrams: bytes) -> None:
        self.waiting = deque((datagram, len(datagram), ("192.0.2.1", 1000)) for datagram in datagrams)
        self.sent: list[bytes] = []
        self.closed = False

    def send(self, buf, start, end, seg, to):
        self.sent.append(bytes(buf[start:end]))
        return True

    def recv(self, buf, pos):
        if not self.waiting:
            raise BlockingIOError
        data, seg, source = self.waiting.popleft()
        buf[pos : pos + len(data)] = data
        return pos, pos + len(data), seg, source

    def close(self):
        self.closed = True


def begins(letter: bytes) -> Callable[[memoryview], bool]:
    return lambda datagram: bytes(datagram[:1]) == letter


class Ends:
    """Branches that take at most `budget` batches a call, and what came to each."""

    def __init__(self, port: FakePort, *letters: bytes | None, budget: int = 16) -> None:
        self.shared = SharedPort(port, port.close)
        self.inbox: dict[bytes | None, list[bytes]] = {}
        self.order: list[bytes | None] = []
        self.budget = budget
        self.branches = [self._add(letter) for letter in letters]

    def _add(self, letter: bytes | None) -> Branch:
        branch = Branch(self.shared, begins(letter) if letter else None)
        inbox = self.inbox[letter] = []

        def handle(now: float) -> bool:
            for _ in range(self.budget):
                try:
                    start, end, seg, source = branch.recv(ROOM, 5)
                except BlockingIOError:
                    return False
                assert (start, source) == (5, ("192.0.2.1", 1000))
                inbox.extend(bytes(ROOM[at : min(at + seg, end)]) for at in range(start, end, seg or 1))
                self.order.append(letter)
            return True

        branch.handle = handle
        self.shared.add(branch)
        return branch


def test_each_gets_its_own_and_one_the_rest():
    port = FakePort(b"a1", b"x", b"b1", b"a2", b"a3", b"y", b"b2")
    ends = Ends(port, None, b"a", b"b")
    assert ends.shared.serve(0.0) is False
    assert ends.inbox == {b"a": [b"a1", b"a2", b"a3"], b"b": [b"b1", b"b2"], None: [b"x", b"y"]}
    assert ends.order == [b"a", None, b"b", b"a", b"a", None, b"b"], "in the order in which they came"


def test_a_batch_goes_where_its_first_datagram_belongs():
    port = FakePort()
    port.waiting.append((b"aaaabbbbaaaa", 4, ("192.0.2.1", 1000)))
    ends = Ends(port, None, b"a", b"b")
    ends.shared.serve(0.0)
    assert ends.inbox[b"a"] == [b"aaaa", b"bbbb", b"aaaa"]


def test_what_is_nobodys_goes_to_one_that_counts_it():
    ends = Ends(FakePort(b"c", b"", b"a"), b"a", b"b")
    assert ends.shared.serve(0.0) is False
    assert ends.inbox[b"a"] == [b"a"]
    assert ends.inbox[b"b"] == [b"c"]
    assert ends.order == [b"b", b"b", b"a"], "an empty datagram too"


def test_nothing_is_read_while_something_is_kept():
    port = FakePort(b"a", b"b", b"a")
    first, second = Ends(port, b"a", b"b").branches
    assert first.recv(ROOM, 0)[:3] == (0, 1, 1)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            first.recv(ROOM, 0)
    assert len(port.waiting) == 1
    assert second.recv(ROOM, 100)[:3] == (100, 101, 1)
    assert bytes(ROOM[100:101]) == b"b"
    with pytest.raises(BlockingIOError):
        second.recv(ROOM, 0)
    assert first.recv(ROOM, 0)[:3] == (0, 1, 1)


def test_a_turn_ends_when_a_branch_has_had_enough():
    ends = Ends(FakePort(*[b"a"] * 40), b"a", None, budget=16)
    assert [ends.shared.serve(0.0) for _ in range(3)] == [True, True, False]
    assert len(ends.inbox[b"a"]) == 40


def test_a_turn_ends_however_they_alternate():
    ends = Ends(FakePort(*[b"a", b"b"] * 1000), b"a", b"b")
    assert ends.shared.serve(0.0) is True
    assert len(ends.order) <= TURNS
    for _ in range(40):
        ends.shared.serve(0.0)
    assert len(ends.order) == 2000


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_or_changes_places(seed):
    random = Random(seed)
    datagrams = [random.choice((b"a", b"b", b"c")) + random.randbytes(random.randint(0, 20)) for _ in range(500)]
    ends = Ends(FakePort(*datagrams), b"a", b"b", None, budget=random.randint(1, 5))
    while ends.shared.serve(0.0):
        pass
    for letter, other in ((b"a", b"a"), (b"b", b"b"), (None, b"c")):
        assert ends.inbox[letter] == [datagram for datagram in datagrams if datagram[:1] == other]


def test_all_send_from_the_one_port():
    port = FakePort()
    ends = Ends(port, b"a", None)
    for branch in ends.branches:
        assert branch.local == port.local
        assert branch.send(memoryview(b"hello"), 0, 5, 5, ("192.0.2.1", 1))
    assert port.sent == [b"hello"] * 2


def test_the_port_is_closed_with_the_last_branch():
    port = FakePort(b"b")
    ends = Ends(port, b"a", b"b")
    first, second = ends.branches
    with pytest.raises(BlockingIOError):
        first.recv(ROOM, 0)
    second.close()
    second.close()
    assert not port.closed
    port.waiting.append((b"a", 1, ("192.0.2.1", 1000)))
    assert ends.shared.serve(0.0) is False, "what was kept for it is gone"
    assert ends.inbox[b"a"] == [b"a"]
    first.close()
    assert port.closed


def spec(kind: PortKind = PortKind.UDP, port: int = 9000, host: str = "0.0.0.0", accepts=None) -> PortSpec:
    return PortSpec(kind=kind, host=host, port=port, accepts=accepts)


def test_numbers_of_udp_and_tcp_are_not_the_same():
    assert same_number(spec(), spec())
    assert same_number(spec(PortKind.RAW), spec(PortKind.STREAM))
    assert not same_number(spec(), spec(PortKind.RAW))
    assert not same_number(spec(), spec(port=9001))
    assert not same_number(spec(), spec(host="192.0.2.1"))
    assert not same_number(spec(port=0), spec(port=0)), "the kernel chooses them"


def test_what_can_be_told_apart_can_share():
    one, other = begins(b"a"), begins(b"b")
    assert can_share(spec(), [])
    assert can_share(spec(), [spec(accepts=one), spec(accepts=other)])
    assert can_share(spec(accepts=one), [spec(), spec(accepts=other)])
    assert not can_share(spec(), [spec(accepts=one), spec()])
    assert not can_share(spec(accepts=one), [spec(accepts=one)])
    assert not can_share(spec(PortKind.STREAM), [spec(PortKind.RAW)])
