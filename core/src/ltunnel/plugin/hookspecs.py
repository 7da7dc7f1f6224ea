"""The hooks. Each is called once at start-up, on selected plugins only, and returns a descriptor.

Signatures, objects and obligations are described on the descriptor that a hook returns and on the Protocol of the
object that the descriptor makes.
"""

from ltunnel.plugin import (
    CipherDescriptor,
    DiscoveryDescriptor,
    FecDescriptor,
    PluginInfo,
    RoutingDescriptor,
    TransportDescriptor,
    hookspec,
)


@hookspec
def ltunnel_plugin_info() -> PluginInfo:  # type: ignore[empty-body]
    """Say who you are: name (equal to the entry point's), one line, plugin API version. Required of every plugin."""


@hookspec
def ltunnel_transport() -> TransportDescriptor:  # type: ignore[empty-body]
    """Carry datagrams between hosts, over ports that the runtime opens."""


@hookspec
def ltunnel_cipher() -> CipherDescriptor:  # type: ignore[empty-body]
    """Seal and open rows. Counters, nonces, replay and rekeying stay in the core."""


@hookspec
def ltunnel_fec() -> FecDescriptor:  # type: ignore[empty-body]
    """Provide a systematic erasure code. Groups, deadlines and adaptation stay in the core."""


@hookspec
def ltunnel_discovery() -> DiscoveryDescriptor:  # type: ignore[empty-body]
    """Find addresses under which two nodes might reach each other, and probe them."""


@hookspec
def ltunnel_routing() -> RoutingDescriptor:  # type: ignore[empty-body]
    """Choose a next hop per destination from measured paths."""
