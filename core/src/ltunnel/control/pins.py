"""Pins: which key a hub or another node had when this node first met it.

Another key later is somebody else, or a machine that was set up anew.
"""

from __future__ import annotations

from collections.abc import Mapping


class Pins:
    """Keys (32 bytes) of hubs and nodes by `pin_name`. What `items` holds is what the runtime stores."""

    __slots__ = ("items",)

    def __init__(self, items: Mapping[str, bytes]) -> None:
        self.items: dict[str, bytes] = dict(items)

    def conflict(self, name: str, key: bytes) -> bool:
        """Whether another key than this one is pinned under `name`."""
        return self.items.get(name, key) != key

    def add(self, name: str, key: bytes) -> bool:
        """Pin a key; False if it was pinned already."""
        if name in self.items:
            return False
        self.items[name] = key
        return True

    def forget(self, name: str) -> bool:
        """Unpin; False if nothing was pinned."""
        return self.items.pop(name, None) is not None


def pin_name(hub_label: str, network: str, node: str = "") -> str:
    """Return what a key is pinned under: ``hub.example:9000/default`` for the hub's, ``node@...`` for a node's."""
    name = f"{hub_label}/{network}"
    return f"{node}@{name}" if node else name
