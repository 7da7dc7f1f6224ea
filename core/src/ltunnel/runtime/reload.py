"""SIGHUP: the configuration file is read again, and what it says about losses takes effect."""

from __future__ import annotations

from collections.abc import Callable

from ltunnel.config import Config, fec_values, waiting
from ltunnel.control.events import Event, Level
from ltunnel.errors import LtunnelError
from ltunnel.node.fec import NodeFec
from ltunnel.runtime.log import Log

Read = Callable[[], Config]
"""Reads the configuration again, as at the start. Raises `LtunnelError`."""


class Reload:
    """Knows how to read the configuration again; `read` is None where there is no file."""

    def __init__(self, config: Config, read: Read | None, fec: NodeFec | None, log: Log) -> None:
        self._started_with = config
        self._read = read
        self._fec = fec
        self._log = log

    def __call__(self, now: float) -> None:
        """Read it and go by it. If anything is wrong with it all stays as it is, and the log says so."""
        if self._read is None:
            self._tell("not-reloaded", "there is no configuration file to read again", Level.WARNING)
            return
        try:
            config = self._read()
            if self._fec is not None:
                self._fec.settle(fec_values(config, self._fec.codes), now)
        except LtunnelError as error:
            self._tell("not-reloaded", f"{error}; all stays as it is", Level.ERROR)
            return
        fields = {} if self._fec is None else self._fec.status()
        self._log(Event(name="reloaded", text="the configuration was read again", fields=fields))
        if later := waiting(self._started_with, config):
            self._tell("notice", f"{', '.join(later)}: what the file says now takes effect at the next start",
                       Level.WARNING)  # fmt: skip

    def _tell(self, name: str, text: str, level: Level) -> None:
        self._log(Event(name=name, text=text, level=level))
