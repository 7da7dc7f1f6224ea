"""What a transport needs of the host beyond its ports: declared by the plugin, applied and undone by the runtime."""

from dataclasses import dataclass
from enum import Enum


class HostRuleKind(Enum):
    """What a rule does."""

    DROP_RESETS = "drop-resets"  # the kernel's own TCP RSTs from a local port must not leave


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """A change to the host, in effect as long as the process runs and cleaned at the next start after a crash."""

    kind: HostRuleKind
    port: int
    """Local TCP port."""
    host: str
    """Local address, or a wildcard; that of IPv6 stands for IPv4 too."""
