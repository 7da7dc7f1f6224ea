"""Pins: which key a hub had when this node first met it. Another key later is somebody else, or a hub made anew."""

from __future__ import annotations

from collections.abc import Mapping


class Pins:
    """Hub keys (32 bytes) by hub and network. What `items` holds is what the runtime stores."""

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


def pin_name(hub_label: str, network: str) -> str:
    """Return the name that a hub's key is pinned under: ``hub.example:9000/default``."""
    return f"{hub_label}/{network}"
