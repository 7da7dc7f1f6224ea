"""From what operators write about direct paths to the plugins that find and choose them. Servers need neither."""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.config.fields import NONE
from ltunnel.config.model import Config
from ltunnel.control.discovery import Discovering, carriers
from ltunnel.plugin import PortMapper, RoutingPolicy
from ltunnel.registry import Entries, Stack

USUAL_DISCOVERY = "nat_punch"
USUAL_ROUTING = "routing_mesh"
"""What is used where they are installed, if the configuration names none."""


def discovery_plugin(config: Config, entries: Entries) -> str | None:
    """Return the name of the discovery plugin that a configuration selects, None for none."""
    return _plugin(config, config.discovery, USUAL_DISCOVERY, entries)


def routing_plugin(config: Config, entries: Entries) -> str | None:
    """Return the name of the routing plugin that a configuration selects, None for none."""
    return _plugin(config, config.routing, USUAL_ROUTING, entries)


def _plugin(config: Config, written: str, usual: str, entries: Entries) -> str | None:
    if config.is_hub or not config.p2p_enabled or written == NONE:
        return None
    if written:
        return written
    return usual if entries.named(usual) and usual not in config.disable_plugins else None


def discovering(stack: Stack, opened: Sequence[str]) -> Discovering | None:
    """Make the agent; `opened` are the transports that could be had, in order.

    None without a plugin, without another one that would choose a direct path, or without a transport that has any.
    """
    direct = {part.name: part.descriptor.direct_with(part.options) for part in stack.transports}
    found = carriers([direct[name] for name in opened])
    if stack.discovery is None or stack.routing is None or not found:
        return None
    return Discovering(stack.discovery.descriptor.create(stack.discovery.options), found)


def port_mapper(stack: Stack) -> PortMapper | None:
    """Make what asks routers for port mappings, None if the plugin does not."""
    if stack.discovery is None or stack.discovery.descriptor.mapper is None:
        return None
    return stack.discovery.descriptor.mapper(stack.discovery.options)


def routing_policy(stack: Stack) -> RoutingPolicy | None:
    """Make the policy, None without a plugin."""
    return None if stack.routing is None else stack.routing.descriptor.create(stack.routing.options)


def missing(config: Config, stack: Stack) -> str | None:
    """Say that clients will not reach each other directly although that was not asked for, or return None."""
    wanted = not config.is_hub and config.p2p_enabled and NONE not in (config.discovery, config.routing)
    kinds = {"discovery": stack.discovery, "routing": stack.routing}
    lacking = [kind for kind, part in kinds.items() if part is None]
    if not wanted or not lacking:
        return None
    return f"p2p_enabled: all traffic goes through the server, since there is no {' and no '.join(lacking)} plugin"
