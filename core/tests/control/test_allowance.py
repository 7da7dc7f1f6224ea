"""What may be probed for a peer: hosts that the hub named, on the LAN they were told for, and only so often."""

import pytest

from ltunnel.control.allowance import ROUND, Allowance
from ltunnel.plugin import Candidate, CandidateKind, Carrier, Limits, PathClass, Probe

PEER = bytes(32)
HOST = "192.0.2.7"
LAN = b"this lan"


def candidate(host: str = HOST, port: int = 4000, network: bytes = b"") -> Candidate:
    return Candidate(kind=CandidateKind.SRFLX, address=(host, port), priority=1, network=network)


def probe(host: str = HOST, to: int = 4000, port: int = 0, carrier: Carrier = Carrier.UDP) -> Probe:
    return Probe(peer=PEER, to=(host, to), port=port, carrier=carrier)


def started(*candidates: Candidate, now: float = 0.0) -> Allowance:
    allowance = Allowance()
    allowance.start(
        candidates or (candidate(),), own={"192.168.1.10"}.__contains__, lans=frozenset({LAN}), now=now
    )  # fmt: skip
    return allowance


def test_named_addresses_are_probed_so_often_from_each_port():
    allowance = started()
    for port in (0, 1):
        taken = [allowance.take(probe(port=port), 0.0) for _ in range(Limits.PROBES + 1)]
        assert taken == [PathClass.PUBLIC] * Limits.PROBES + [None]


def test_nobody_is_probed_without_a_start_or_long_after_it():
    assert Allowance().take(probe(), 0.0) is None
    allowance = started(now=100.0)
    assert allowance.take(probe(), 100.0 + ROUND) is PathClass.PUBLIC
    assert allowance.take(probe(), 100.1 + ROUND) is None


def test_hosts_that_were_not_named_are_not_probed():
    assert started().take(probe("192.0.2.8"), 0.0) is None
    allowance = started()
    allowance.start((), own=lambda _: False, lans=frozenset(), now=1.0)
    assert allowance.take(probe(), 1.0) is None, "each START replaces the one before"


@pytest.mark.parametrize("host", ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "::1", "ff02::1",
                                  "fe80::1%eth0", "::ffff:192.0.2.7", "", "nonsense", "192.168.1.10"])  # fmt: skip
def test_addresses_that_are_nobodys_or_our_own_are_refused(host):
    allowance = Allowance()
    assert allowance.start((candidate(host),), own={"192.168.1.10"}.__contains__, lans=frozenset(), now=0.0) == ()
    assert allowance.take(probe(host), 0.0) is None


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_ports_that_are_none_are_refused(port):
    allowance = started(candidate(), candidate(port=port))
    assert allowance.take(probe(to=port), 0.0) is None


def test_private_addresses_count_on_their_lan_only():
    near, far = candidate("192.168.1.20", network=LAN), candidate("192.168.1.30", network=b"another!")
    allowance = started(near, far)
    assert allowance.take(probe("192.168.1.20"), 0.0) is PathClass.LAN
    assert allowance.take(probe("192.168.1.30"), 0.0) is None


def test_ports_are_guessed_at_public_hosts_only_and_not_without_end():
    allowance = started(candidate(), candidate("192.168.1.20", network=LAN))
    assert allowance.take(probe("192.168.1.20", 5000), 0.0) is None
    taken = [allowance.take(probe(to=5000 + n), 0.0) for n in range(Limits.BLIND_PROBES + 1)]
    assert taken == [PathClass.PUBLIC] * Limits.BLIND_PROBES + [None]


def test_connections_are_opened_to_named_ports_only():
    allowance = started()
    assert allowance.take(probe(carrier=Carrier.TCP), 0.0) is PathClass.PUBLIC
    assert allowance.take(probe(to=5000, carrier=Carrier.TCP), 0.0) is None
    assert allowance.take(probe(to=5000), 0.0) is PathClass.PUBLIC


def test_a_minute_has_an_end_whatever_the_rounds():
    allowance = started()
    sent = 0
    for second in range(60):
        allowance.start((candidate(),), own=lambda _: False, lans=frozenset(), now=float(second))
        sent += sum(allowance.take(probe(to=n + 1), float(second)) is not None for n in range(100))
    assert sent == Limits.PER_MINUTE
    allowance.start((candidate(),), own=lambda _: False, lans=frozenset(), now=61.0)
    assert allowance.take(probe(), 61.0) is PathClass.PUBLIC


def test_no_more_candidates_are_taken_than_there_may_be():
    many = tuple(candidate(f"192.0.2.{n}") for n in range(1, 12))
    allowance = Allowance()
    assert allowance.start(many, own=lambda _: False, lans=frozenset(), now=0.0) == many[: Limits.CANDIDATES]
    assert allowance.take(probe("192.0.2.11"), 0.0) is None
