"""Reading the configuration again: what takes effect, what waits, and what a mistake in it does: nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from ltunnel.config import load
from ltunnel.config.fec import fec_values
from ltunnel.control.events import Event, Level
from ltunnel.data.fec.codes import Codes
from ltunnel.node.fec import NodeFec
from ltunnel.runtime.reload import Reload
from ltunnel_fec_xor import XorParity

START = 'mode = "server"\nnetwork = "n"\nfec = "fec_xor"\n'


class Around:
    """A file, and what is run with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.logged: list[Event] = []
        self.write("")
        read = partial(load, file, {"mtu": "1300"}, {})
        config = read()
        codes = Codes("fec_xor", XorParity)
        self.fec = NodeFec(codes, fec_values(config, codes))
        self.reload = Reload(config, read, self.fec, self.logged.append)

    def write(self, text: str) -> None:
        self.file.write_text(START + text)

    def after(self, text: str) -> list[tuple[str, Level]]:
        """Write this, read it again, and return what was logged."""
        self.write(text)
        self.logged.clear()
        self.reload(1.0)
        return [(event.name, event.level) for event in self.logged]

    @property
    def pair(self) -> tuple[str, int, int]:
        settings = self.fec.sender.settings
        return settings.mode.value, settings.data, settings.parity


@pytest.fixture
def around(tmp_path: Path) -> Around:
    return Around(tmp_path / "hub.toml")


def test_what_is_sent_against_losses_is_changed(around: Around) -> None:
    assert around.pair == ("auto", 10, 3)
    assert around.after("fec_data = 20\nfec_parity = 10\n") == [("reloaded", Level.INFO)]
    assert around.pair == ("fixed", 20, 10)
    assert around.logged[0].fields["parity"] == 10
    values = 'fec_mode = "latency"\nfec_deadline = 20\nfec_target = 0.01\nfec_overhead = 0.3\n'
    assert around.after(values) == [("reloaded", Level.INFO)]
    settings = around.fec.sender.settings
    assert around.pair == ("latency", 10, 3)
    assert (settings.deadline, settings.target, settings.overhead) == (0.02, 0.01, 0.3)


def test_the_file_goes_before_what_was_ordered(around: Around) -> None:
    around.fec.change(0.5, data=5, parity=2)
    assert around.pair == ("fixed", 5, 2)
    around.after("")
    assert around.pair == ("auto", 10, 3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fec_parity = -1\n", "hub.toml: fec_parity: Input should be greater than or equal to 0 (got -1)"),
        ("fec_data = 2\nfec_parity = 3\n", "hub.toml: fec_parity: fec_xor has no code with 2 + 3 shards"),
        ("fec_partiy = 3\n", "hub.toml: fec_partiy: is neither a field nor an installed plugin"),
        ("= =", "hub.toml: "),
    ],
)
def test_after_a_mistake_all_stays_as_it_is(around: Around, text: str, complaint: str) -> None:
    around.after("fec_data = 4\nfec_parity = 2\n")
    assert around.after(text) == [("not-reloaded", Level.ERROR)]
    assert complaint in around.logged[0].text
    assert around.logged[0].text.endswith("; all stays as it is")
    assert "\n" not in around.logged[0].text
    assert around.pair == ("fixed", 4, 2)


def test_a_file_that_went_away_is_a_mistake_too(around: Around) -> None:
    around.file.unlink()
    around.reload(1.0)
    assert [event.name for event in around.logged] == ["not-reloaded"]


def test_what_needs_a_new_start_is_named(around: Around) -> None:
    text = "fec_parity = 2\ntimeout = 99\n[transport_udp]\n"
    assert around.after(text) == [("reloaded", Level.INFO), ("notice", Level.WARNING)]
    assert around.logged[1].text.startswith("timeout, transport_udp: ")
    assert around.pair == ("fixed", 10, 2)


def test_flags_still_go_before_the_file(around: Around) -> None:
    assert around.after("mtu = 1200\n") == [("reloaded", Level.INFO)]


def test_without_a_plugin_or_a_file(around: Around) -> None:
    logged: list[Event] = []
    config = around.reload._started_with
    Reload(config, lambda: config, None, logged.append)(1.0)
    Reload(config, None, around.fec, logged.append)(1.0)
    assert [event.name for event in logged] == ["reloaded", "not-reloaded"]
