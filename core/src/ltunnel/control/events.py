"""What the core tells the world: values that the runtime logs, shows and stores."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Level(Enum):
    """How loud an event is; the values are the names of log levels."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `name` is for programs and stays the same, `text` is for people.

    Fields are safe to print: names and reasons that a peer sent are escaped before they get here.
    """

    name: str
    text: str
    level: Level = Level.INFO
    fields: dict[str, Any] = field(default_factory=dict)
