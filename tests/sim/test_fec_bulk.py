"""What `auto` does for bulk TCP on a long, narrow line: 20 Mbit/s, 40 ms there and back, a queue of 50 ms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.testing import PortSettings, Quality, SimNode, World
from tests.sim.bulk import Bulk
from tests.sim.test_fec import Stream, codes, fec_of

MakeWorld = Callable[..., World]

NARROW: dict[str, Any] = {"delay": 0.02, "rate": 20e6, "queue": 125_000}


def build(make_world: MakeWorld, mode: FecMode, seed: int, **more: Any) -> tuple[World, SimNode, SimNode]:
    """Return a world with a hub and a node behind such a line, which lost nothing while they met."""
    world = make_world(seed)
    hub = world.add_hub()
    node = world.add_node("a", ports=PortSettings(gro=False), quality=Quality(**{**NARROW, **more}))
    for each in (hub, node):
        each.fec = codes(), FecSettings(mode=mode)
    world.start()
    assert world.run(10, until=world.all_up)
    return world, hub, node


@pytest.mark.parametrize("seed", [3, 5])
def test_a_connection_is_fast_from_the_start_on_a_line_of_which_nothing_was_known(
    make_world: MakeWorld, seed: int
) -> None:
    rates = {}
    for mode, seconds in ((FecMode.OFF, 5.0), (FecMode.AUTO, 10.0)):
        world, hub, node = build(make_world, mode, seed)
        node.link.change(loss=0.1)
        rates[mode] = Bulk(world, node, hub).rate(seconds)
    print(f"10 % lost, Mbit/s: {rates}, {fec_of(node)}")
    assert rates[FecMode.OFF] < 2
    assert rates[FecMode.AUTO] > 10.5  # 12.5 is what the line carries


@pytest.mark.parametrize(("queue", "seconds"), [(125_000, 12), (20_000, 6)])
def test_a_queue_that_overflows_makes_no_difference(make_world: MakeWorld, queue: int, seconds: float) -> None:
    rates = {}
    for mode in (FecMode.OFF, FecMode.AUTO):
        world, hub, node = build(make_world, mode, 1, queue=queue)
        transfer = Bulk(world, node, hub)
        rates[mode] = transfer.rate(seconds)
        assert transfer.cuts > 0
        assert fec_of(node)["parity_sent"] == fec_of(hub)["parity_sent"] == 0
    print(f"nothing lost but by the queue of {queue} bytes, Mbit/s: {rates}")
    assert rates[FecMode.AUTO] >= 0.99 * rates[FecMode.OFF]
    assert rates[FecMode.OFF] > 14


@pytest.mark.parametrize("jitter", [0.005, 0.02])
def test_jitter_does_not_hide_what_a_line_loses(make_world: MakeWorld, jitter: float) -> None:
    world, hub, node = build(make_world, FecMode.AUTO, 1, jitter=jitter)
    stream = Stream(world, node, hub)
    stream.run(8)
    assert fec_of(node)["parity_sent"] == 0
    node.link.change("up", loss=0.02)
    stream.run(4)
    assert fec_of(node)["parity_sent"] > 0
