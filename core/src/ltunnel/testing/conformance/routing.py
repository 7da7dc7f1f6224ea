"""Conformance of routing policies: `ltunnel.plugin.RoutingPolicy`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ltunnel.plugin import NextHop, PathClass, PathView, RoutingDescriptor, RoutingPolicy
from ltunnel.testing.conformance.base import DescriptorConformance

_HUB = bytes([1]) * 32
_PEERS = [bytes([10 + i]) * 32 for i in range(4)]


def make_path(peer: bytes = _PEERS[0], **fields: Any) -> PathView:
    """Return a good direct path, changed in the fields given."""
    path = {
        "peer": peer, "number": 1, "via": peer, "path_class": PathClass.PUBLIC, "rtt": 0.02, "jitter": 0.001,
        "loss": 0.0, "hops": 1, "last_pong": 100.0,
    }  # fmt: skip
    return PathView(**{**path, **fields})


def make_hub_path(peer: bytes = _PEERS[0], **fields: Any) -> PathView:
    """Return the path through the hub."""
    return make_path(peer, **{"number": 0, "via": _HUB, "path_class": PathClass.HUB, "hops": 2, "rtt": 0.05, **fields})


class RoutingConformance(DescriptorConformance):
    """``class TestMine(RoutingConformance): descriptor = ltunnel_routing()``."""

    descriptor: ClassVar[RoutingDescriptor]

    def make_policy(self) -> RoutingPolicy:
        """Return a policy that has seen nothing yet."""
        return self.descriptor.create(self.make_options())

    def decide(
        self, policy: RoutingPolicy, paths: Sequence[PathView], now: float = 100.0
    ) -> Mapping[bytes, NextHop] | None:
        """Ask a policy, and check that the answer is one of what was offered."""
        hops = policy.decide(paths, now)
        if hops is not None:
            offered = {(path.peer, path.number, path.via, path.path_class) for path in paths}
            for peer, hop in hops.items():
                assert (peer, hop.number, hop.via, hop.path_class) in offered, "a next hop that nobody offered"
                assert hop.reason, "the reason is missing; status output shows it"
                assert hop.reason.isprintable()
        return hops

    def choose(self, paths: Sequence[PathView]) -> Mapping[bytes, NextHop]:
        """Ask a fresh policy, which must answer."""
        hops = self.decide(self.make_policy(), paths)
        assert hops is not None, "the first answer must not be None"
        return hops

    def test_the_only_path_is_taken(self) -> None:
        """With one path to each peer there is nothing to choose."""
        paths = [make_path(_PEERS[0]), make_hub_path(_PEERS[1])]
        hops = self.choose(paths)
        assert {peer: hop.via for peer, hop in hops.items()} == {_PEERS[0]: _PEERS[0], _PEERS[1]: _HUB}

    def test_none_when_nothing_changed(self) -> None:
        """The same paths again: None. Their order means nothing."""
        policy = self.make_policy()
        paths = [make(peer) for peer in _PEERS for make in (make_path, make_hub_path)]
        assert self.decide(policy, paths) is not None
        assert self.decide(policy, paths) is None
        assert self.decide(policy, paths[::-1]) is None
        fresh = [dataclasses.replace(path, last_pong=101.0) for path in paths]
        assert self.decide(policy, fresh, 101.0) is None

    def test_classes_in_order(self) -> None:
        """Of paths that measure alike, LAN before public before mesh before hub."""
        classes = list(PathClass)
        relay = bytes([77]) * 32
        via = {PathClass.LAN: _PEERS[0], PathClass.PUBLIC: _PEERS[0], PathClass.MESH: relay, PathClass.HUB: _HUB}
        for best in range(len(classes)):
            paths = [make_path(number=cls, via=via[cls], path_class=cls) for cls in reversed(classes[best:])]
            assert self.choose(paths)[_PEERS[0]].path_class is classes[best]

    def test_order_of_paths_means_nothing(self) -> None:
        """A fresh policy decides the same whatever the order."""
        paths = [make(peer, rtt=0.01 * (i + 1)) for i, peer in enumerate(_PEERS) for make in (make_path, make_hub_path)]
        random = self.make_random()
        first = {peer: hop.via for peer, hop in self.choose(paths).items()}
        for _ in range(10):
            random.shuffle(paths)
            assert {peer: hop.via for peer, hop in self.choose(paths).items()} == first

    def test_a_path_that_is_gone_is_left(self) -> None:
        """When the chosen path is no longer offered the next one is taken; when none is left, so is the peer."""
        policy = self.make_policy()
        assert self.decide(policy, [make_path(), make_hub_path()]) is not None
        hops = self.decide(policy, [make_hub_path()])
        assert hops is not None
        assert hops[_PEERS[0]].via == _HUB
        hops = self.decide(policy, [])
        assert hops is not None
        assert not hops
        assert self.decide(policy, []) is None

    def test_noise_does_not_flap(self) -> None:
        """Two paths of one class that differ by noise: the choice stays."""
        policy, random = self.make_policy(), self.make_random()
        relays = (bytes([71]) * 32, bytes([72]) * 32)
        changes, now = 0, 100.0
        for _ in range(200):
            now += 1.0
            paths = [
                make_path(number=i, via=relay, path_class=PathClass.MESH, hops=2,
                          rtt=0.05 * random.uniform(0.98, 1.02), last_pong=now)
                for i, relay in enumerate(relays)
            ]  # fmt: skip
            changes += self.decide(policy, paths, now) is not None
        assert changes <= 2, f"{changes} changes in 200 s on paths that are as good as equal"

    def test_a_path_in_doubt_is_not_moved_to(self) -> None:
        """Of two that are alike but for this, the one that answers is taken."""
        doubtful = make_path(number=2, suspect=True)
        assert self.choose([doubtful, make_path(number=1)])[_PEERS[0]].number == 1

    def test_no_paths(self) -> None:
        """Nothing offered at first: nothing chosen."""
        assert not self.decide(self.make_policy(), [])

    def test_hostile_measurements(self) -> None:
        """Figures that cannot be, and paths twice, raise nothing; the answer is still one of what was offered."""
        random = self.make_random()
        odd = (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e300, 2.0)
        for _ in range(300):
            policy = self.make_policy()
            for now in (100.0, 100.0, 105.0):
                paths = [
                    make_path(
                        random.choice(_PEERS), number=random.randint(0, 3), via=random.choice((_HUB, *_PEERS)),
                        path_class=random.choice(list(PathClass)), rtt=random.choice(odd), jitter=random.choice(odd),
                        loss=random.choice(odd), hops=random.choice((-1, 0, 1, 3, 2**40)),
                        last_pong=random.choice((*odd, 99.0)), suspect=random.random() < 0.5,
                    )
                    for _ in range(random.randint(0, 8))
                ]  # fmt: skip
                self.decide(policy, paths + paths[:1], now)
