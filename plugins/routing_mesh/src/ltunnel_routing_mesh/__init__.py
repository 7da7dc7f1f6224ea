"""Choosing a path: the nearest kind first, unless another one is measured to be much better.

    LAN ─► public ─► through another node ─► through the hub

A path of a lesser kind is taken while the better kind loses far more or takes far longer; going back asks for more than
leaving did, so that noise does not make the choice flap. A path that failed while it was in use must hold for a while
before it is used again, longer each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from ltunnel.plugin import (
    NextHop,
    Options,
    PathView,
    PluginInfo,
    RoutingDescriptor,
    RoutingPolicy,
    hookimpl,
)
from ltunnel_routing_mesh.history import History
from ltunnel_routing_mesh.ranking import Limits, Quality, beats, reason


class MeshOptions(Options):
    """When a path of a better kind is given up for one of a lesser kind."""

    loss_gap: float = Field(default=0.15, gt=0, le=1, description="so much more of its probes are lost (0 to 1)")
    delay_gap: float = Field(default=0.05, ge=0, description="it takes twice as long and so many seconds more")


class MeshPolicy:
    """See `ltunnel.plugin.RoutingPolicy`."""

    __slots__ = ("_chosen", "_histories", "_limits")

    def __init__(self, options: MeshOptions) -> None:
        self._limits = Limits(options.loss_gap, options.delay_gap)
        self._chosen: dict[bytes, NextHop] | None = None
        self._histories: dict[bytes, History] = {}

    def decide(self, paths: Sequence[PathView], now: float) -> Mapping[bytes, NextHop] | None:
        """Return next hops per destination key, or None when nothing changed since the last call."""
        offered: dict[bytes, dict[int, Quality]] = {}
        for path in paths:
            offered.setdefault(path.peer, {})[path.number] = Quality(path)
        before = self._chosen
        chosen = {
            peer: self._choose(peer, list(theirs.values()), (before or {}).get(peer), now)
            for peer, theirs in offered.items()
        }
        for peer in self._histories.keys() - offered.keys():
            del self._histories[peer]
        if chosen == before:
            return None
        self._chosen = chosen
        return chosen

    def _choose(self, peer: bytes, paths: list[Quality], before: NextHop | None, now: float) -> NextHop:
        """Choose for one destination; the same `NextHop` as before if nothing changes."""
        history = self._histories.setdefault(peer, History())
        used = None if before is None else next((path for path in paths if path.is_like(before)), None)
        history.look({path.number for path in paths}, None if before is None else before.number, now)
        ready = [path for path in paths if path is used or history.held(path.number, now)] or paths
        best, *others = sorted(ready, key=lambda path: path.rank)
        for other in others:
            if beats(other, best, used, self._limits):
                best = other
        if before is not None and best is used:
            return before if best.path_class is before.path_class else replace(before, path_class=best.path_class)
        history.take(best.number, now)
        why = reason(best, used, before, [path for path in paths if path is not best])
        return NextHop(number=best.number, via=best.via, path_class=best.path_class, reason=why)


def _create(options: MeshOptions) -> RoutingPolicy:
    return MeshPolicy(options)


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="routing_mesh", summary="the nearest path that works well: LAN, direct, relayed", api=(1, 0))


@hookimpl
def ltunnel_routing() -> RoutingDescriptor:
    """Provide the policy."""
    return RoutingDescriptor(options=MeshOptions, create=_create)
