"""Control: handshakes, sessions and who may be where. Sans-IO; `Control` is the door, the rest is how it works."""

from ltunnel.control.directory import Binding
from ltunnel.control.engine import Control
from ltunnel.control.events import Event, Level
from ltunnel.control.settings import ControlSettings, Random, Role

__all__ = ["Binding", "Control", "ControlSettings", "Event", "Level", "Random", "Role"]
