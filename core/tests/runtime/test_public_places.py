"""Which of its addresses a hub tells nodes."""

import pytest

from ltunnel.plugin import Carrier
from ltunnel.runtime import public_places as module
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.public_places import Listening, PublicPlaces, public_places
from ltunnel.wire.places import HubPlace

UDP, TCP = Carrier.UDP, Carrier.TCP


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[int, str | None]:
    """By which address this machine reaches the world, by IP version."""
    found: dict[int, str | None] = {4: "198.51.100.7", 6: "2001:db8::7"}
    monkeypatch.setattr(module, "source_address", lambda to: found[6 if ":" in to[0] else 4])
    return found


def test_a_wildcard_stands_for_the_way_out(sources: dict[int, str | None]):
    listening = [
        Listening(UDP, 4, ("0.0.0.0", 9000)),
        Listening(UDP, 6, ("0.0.0.0", 9000)),
        Listening(TCP, 6, ("::", 9)),
    ]
    assert public_places(listening) == [
        HubPlace(UDP, ("198.51.100.7", 9000)), HubPlace(UDP, ("2001:db8::7", 9000)), HubPlace(TCP, ("2001:db8::7", 9)),
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["10.0.0.7", "192.168.1.7", "100.64.0.7", "127.0.0.1", None])
def test_what_is_not_public_is_told_to_nobody(sources: dict[int, str | None], source: str | None):
    sources[4] = source
    assert public_places([Listening(UDP, 4, ("0.0.0.0", 9000))]) == []
    if source is not None:
        assert public_places([Listening(UDP, 4, (source, 9000))]) == []


def test_an_address_stands_for_itself(sources: dict[int, str | None]):
    sources[6] = None
    assert public_places([Listening(UDP, 6, ("2001:db8::9", 9000))]) == [HubPlace(UDP, ("2001:db8::9", 9000))]


def test_the_node_is_told_at_once_and_when_it_changes(sources: dict[int, str | None]):
    told: list[list[HubPlace]] = []

    class Node:
        def set_places(self, places: list[HubPlace]) -> None:
            told.append(places)

    loop = Loop()
    watch = PublicPlaces(loop, Node(), [Listening(UDP, 6, ("::", 9000))])  # type: ignore[arg-type]
    sources[6] = "2001:db8::8"
    watch._watch._heard(10.0)
    assert watch.check(10.0) is not None
    assert watch.check(20.0) is None
    assert told == [[HubPlace(UDP, (host, 9000))] for host in ("2001:db8::7", "2001:db8::8")]
    watch.close()
    loop.close()
