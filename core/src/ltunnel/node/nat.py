"""What a node knows of its NAT and of the way to each other node: plain dictionaries, ready for JSON."""

from __future__ import annotations

from typing import Any

from ltunnel.control.engine import Control
from ltunnel.control.settings import Role


def nat(control: Control, now: float) -> dict[str, Any]:
    """Describe the NAT in front of this machine, its candidates, and what was tried with each neighbour."""
    found = control.explain(now)
    known = {} if found is None else dict(found.pop("peers"))
    return {
        "role": control.settings.role.value,
        "name": control.settings.name,
        "enabled": found is not None,
        **(found or {}),
        "peers": [
            {
                "name": peer.name,
                "key": peer.key.hex(),
                "state": control.peer_state(peer),
                "chosen": control.why(peer),
                "paths": control.paths(peer, now),
                "tried": known.get(peer.key.hex()),
            }
            for peer in control.peers.values()
            if control.settings.role is Role.NODE and not peer.is_hub
        ],
    }
