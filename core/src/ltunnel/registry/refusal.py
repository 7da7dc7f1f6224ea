"""Why a plugin is not used."""

from enum import Enum

from ltunnel.errors import PluginError


class Status(Enum):
    """What can be said of an installed (or selected) plugin; the values are the words of ``ltunnel plugins list``."""

    AVAILABLE = "available"
    SELECTED = "selected"
    DISABLED = "disabled"
    CONFLICT = "conflict"
    BROKEN = "broken"
    INCOMPATIBLE = "incompatible"


class PluginRefusedError(PluginError):
    """A plugin cannot be used: `reason` and `status` say why; the text also names plugin and distribution."""

    def __init__(self, who: object, reason: str, status: Status = Status.BROKEN) -> None:
        super().__init__(f"{who}: {reason}")
        self.reason = reason
        self.status = status
