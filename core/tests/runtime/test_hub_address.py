import itertools

import pytest

from ltunnel.control.events import Event
from ltunnel.plugin import Address
from ltunnel.runtime.hub_address import NEXT_ADDRESS, NEXT_LOOKUP, HubAddress, wait_for_address
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.resolve import ResolveError

FIRST, SECOND, THIRD = ("192.0.2.1", 9000), ("2001:db8::2", 9000), ("192.0.2.3", 9000)


class Name:
    """A host name whose addresses a test changes, the node that is pointed at them, and the log."""

    def __init__(self, loop: Loop, *addresses: Address, takes_ipv6: bool = True) -> None:
        self.loop = loop
        self.addresses: list[Address] | ResolveError = list(addresses)
        self.lookups = 0
        self.used: list[Address] = []
        self.told: list[list[Address]] = []
        self.events: list[Event] = []
        self.hub = HubAddress(
            loop,
            "hub.example",
            9000,
            addresses,
            use=lambda address, _now: self.used.append(address),
            tell=lambda addresses, _now: self.told.append(list(addresses)),
            log=self.events.append,
            takes_ipv6=takes_ipv6,
            lookup=self.lookup,
        )

    def lookup(self, host: str, port: int) -> list[Address]:
        assert (host, port) == ("hub.example", 9000)
        self.lookups += 1
        if isinstance(self.addresses, ResolveError):
            raise self.addresses
        return self.addresses

    def silent(self, now: float) -> float | None:
        """The hub is silent at `now`; a lookup that this starts is over when this returns."""
        before = self.lookups
        due = self.hub.check(now, connected=False)
        thread = self.hub._resolver._thread
        if thread is not None:
            thread.join(5)
            self.hub._resolver._collect(now)
        assert self.lookups - before in (0, 1)
        return due


def test_while_connected_nothing_is_looked_up(loop):
    name = Name(loop, FIRST, SECOND)
    assert [name.hub.check(float(now), connected=True) for now in range(0, 200, 10)] == [None] * 20
    assert name.lookups == 0
    assert name.used == []


def test_a_silent_hub_is_looked_up_again_and_again(loop):
    name = Name(loop, FIRST)
    times = []
    now = 100.0
    while now < 200:
        before = name.lookups
        due = name.silent(now)
        if name.lookups > before:
            times.append(now)
        now = due
    assert times[0] == 100 + NEXT_ADDRESS
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {NEXT_LOOKUP}
    assert name.used == []  # the one address that there is stays in use: its handshake is not disturbed


def test_addresses_take_turns(loop):
    name = Name(loop, FIRST, SECOND, THIRD)
    name.silent(0.0)
    for turn in range(1, 5):
        name.silent(turn * NEXT_ADDRESS)
    assert name.used == [SECOND, THIRD, FIRST, SECOND]


def test_a_new_address_is_used_at_once(loop):
    name = Name(loop, FIRST)
    name.silent(0.0)
    name.addresses = [THIRD]
    name.silent(NEXT_ADDRESS)
    assert name.used == [THIRD]
    assert "192.0.2.3:9000" in name.events[-1].text


def test_a_failed_lookup_changes_nothing_but_is_said(loop):
    name = Name(loop, FIRST)
    name.silent(0.0)
    name.addresses = ResolveError("cannot resolve hub.example: no", final=False)
    name.silent(NEXT_ADDRESS)
    assert name.used == []
    assert "cannot resolve" in name.events[-1].text


def test_an_answer_that_comes_after_the_hub_did_is_ignored(loop):
    name = Name(loop, FIRST)
    name.silent(0.0)
    name.addresses = [THIRD]
    name.hub.check(NEXT_ADDRESS, connected=False)
    name.hub._resolver._thread.join(5)
    name.hub.check(NEXT_ADDRESS + 1, connected=True)
    name.hub._resolver._collect(NEXT_ADDRESS + 1)
    assert name.used == []


def test_silence_is_counted_from_its_start_each_time(loop):
    name = Name(loop, FIRST, SECOND)
    name.silent(0.0)
    name.hub.check(9.0, connected=True)
    assert name.silent(9.5) == 9.5 + NEXT_ADDRESS
    name.silent(15.0)
    assert name.used == []


def test_all_addresses_are_told_when_they_have_changed(loop):
    """They are where the node may ask over the other IP version."""
    name = Name(loop, FIRST, SECOND)
    name.silent(0.0)
    name.silent(NEXT_ADDRESS)
    assert name.told == []
    name.addresses = [FIRST, THIRD]
    name.silent(NEXT_ADDRESS + NEXT_LOOKUP)
    assert name.told == [[FIRST, THIRD]]


def test_a_port_without_ipv6_is_given_none(loop):
    name = Name(loop, FIRST, SECOND, THIRD, takes_ipv6=False)
    name.silent(0.0)
    for turn in range(1, 4):
        name.silent(turn * NEXT_ADDRESS)
    assert name.used == [THIRD, FIRST, THIRD]
    name.addresses = [SECOND]
    name.silent(4 * NEXT_ADDRESS)
    assert SECOND not in name.used
    assert any("no IPv4 address" in event.text for event in name.events)


def test_the_first_lookup_waits_for_a_network(loop, monkeypatch):
    monkeypatch.setattr("ltunnel.runtime.hub_address.NEXT_ADDRESS", 0.01)
    answers = iter([ResolveError("not yet", final=False), ResolveError("not yet", final=False), [FIRST]])
    events: list[Event] = []

    def lookup(host: str, port: int) -> list[Address]:
        answer = next(answers)
        if isinstance(answer, ResolveError):
            raise answer
        return answer

    assert wait_for_address(loop, "hub.example", 9000, log=events.append, lookup=lookup) == [FIRST]
    assert len(events) == 2


def test_a_name_that_does_not_exist_is_not_waited_for(loop):
    def lookup(host: str, port: int) -> list[Address]:
        raise ResolveError("cannot resolve hub.example", final=True)

    with pytest.raises(ResolveError):
        wait_for_address(loop, "hub.example", 9000, log=lambda _event: None, lookup=lookup)


def test_waiting_ends_when_the_loop_is_stopped(loop):
    def lookup(host: str, port: int) -> list[Address]:
        raise ResolveError("not yet", final=False)

    stop = wait_for_address(loop, "hub.example", 9000, log=lambda _event: loop.stop(), lookup=lookup)
    assert stop is None
