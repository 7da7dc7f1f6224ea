"""Being the gateway of networks: what comes out of the tunnel for them is to reach them, and their answers to return.

To forward between its links is a decision about the whole machine, so it is its operator's: we look whether it does.
Masquerade is ours: devices there then answer to this machine, and need no route back into the tunnel.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.errors import HostError
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.host_rules import Network

_FORWARDS = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def serve_networks(networks: Sequence[Network], changes: HostChanges, *, masquerade: bool) -> list[str]:
    """Prepare this machine for the networks behind it; returns warnings, with what to do about them."""
    warnings = []
    for version, setting in _FORWARDS.items():
        behind = ", ".join(str(network) for network in networks if network.version == version)
        if behind and changes.setting(setting) == "0":
            name = setting.replace("/", ".")
            warnings.append(f"nobody reaches {behind} through this machine, which does not forward: sysctl -w {name}=1")
    if masquerade and networks:
        try:
            changes.masquerade(networks)
        except HostError as error:
            behind = ", ".join(map(str, networks))
            warnings.append(f"goes without masquerade, so devices in {behind} need a route back to here: {error}")
    return warnings
