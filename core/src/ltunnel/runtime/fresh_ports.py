"""Further instances of a node's transports, opened and closed while it runs: one port each, on a number of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ltunnel.plugin import HostRule, Transport, TransportContext, TransportDescriptor
from ltunnel.registry import Part
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.ports import OpenPort, open_ports
from ltunnel.runtime.transports import set_up


class Instance(NamedTuple):
    """An instance at work, and what the host does for it."""

    name: str
    """Of the plugin."""
    transport: Transport
    port: OpenPort
    rules: Sequence[HostRule]


class FreshPorts:
    """`parts` are the transports of the node, in its order."""

    def __init__(
        self, parts: Sequence[Part[TransportDescriptor]], context: TransportContext, changes: HostChanges, *,
        receive_buffer: int,
    ) -> None:  # fmt: skip
        self._parts = parts
        self._context = replace(context, local_port=0)
        self._changes = changes
        self._receive_buffer = receive_buffer

    def open(self, transport: int, *, listen: int = 0, only_ipv6: bool = False) -> Instance:
        """Make another instance of a transport; a hub's listens on the port number `listen`, as its first one does.

        With `only_ipv6` it listens to all of IPv6 instead. Raises `HostError` when it cannot be had, `PluginError` when
        the plugin's code fails.
        """
        part, context = self._parts[transport], self._context
        if context.listen is not None:
            context = replace(context, listen=("::" if only_ipv6 else context.listen[0], listen))
        with set_up(part.name), contextlib.ExitStack() as stack:
            specs = part.descriptor.ports(part.options, context)[:1]
            if only_ipv6:
                specs = [replace(spec, dual_stack=False) for spec in specs]
            (port,) = open_ports(specs, self._changes, receive_buffer=self._receive_buffer)
            stack.callback(port.close)
            rules = part.descriptor.host_rules(part.options, (port,))
            self._changes.add_rules(rules)
            stack.callback(self._changes.drop_rules, rules)
            made = part.descriptor.create(part.options, (port,), context)
            stack.pop_all()
            return Instance(part.name, made, port, rules)

    def close(self, instance: Instance) -> None:
        """Close an instance's port and undo what the host did for it."""
        instance.port.close()
        self._changes.drop_rules(instance.rules)
