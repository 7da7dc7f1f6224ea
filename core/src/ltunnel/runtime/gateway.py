"""Being the gateway of networks: what comes out of the tunnel for them is to reach them, and their answers to return.

To forward between its links is a decision about the whole machine, so it is its operator's: we look whether it does.
Masquerade is ours: devices there then answer to this machine, and need no route back into the tunnel.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.errors import HostError
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.session.peer import Network

_FORWARDS = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def not_forwarded(networks: Sequence[Network], changes: HostChanges) -> list[str]:
    """Look whether this machine forwards; returns warnings for networks that nobody reaches by it, with what to do."""
    warnings = []
    for version, setting in _FORWARDS.items():
        behind = ", ".join(str(network) for network in networks if network.version == version)
        if behind and changes.setting(setting) == "0":
            name = setting.replace("/", ".")
            warnings.append(f"nobody reaches {behind} through this machine, which does not forward: sysctl -w {name}=1")
    return warnings


def masquerade(networks: Sequence[Network], changes: HostChanges) -> list[str]:
    """Have devices there answer to this machine; returns a warning if that cannot be had."""
    if not networks:
        return []
    try:
        changes.masquerade(networks)
    except HostError as error:
        behind = ", ".join(map(str, networks))
        return [f"goes without masquerade, so devices in {behind} need a route back to here: {error}"]
    return []
