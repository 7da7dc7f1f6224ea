import io
import json
import re

import pytest

from ltunnel.control.events import Event, Level
from ltunnel.runtime.log import make_log


def lines(*events: Event, level: Level = Level.DEBUG, as_json: bool = False) -> list[str]:
    stream = io.StringIO()
    log = make_log(level, as_json=as_json, stream=stream)
    for event in events:
        log(event)
    return stream.getvalue().splitlines()


def test_a_line_has_time_level_text_and_fields():
    event = Event(name="peer-up", text="peer alice is up", fields={"peer": "alice", "endpoint": "192.0.2.7:4000"})
    (line,) = lines(event)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z info     peer alice is up  "
        r"event=peer-up peer=alice endpoint=192\.0\.2\.7:4000",
        line,
    ), line


def test_json_has_the_same_as_an_object():
    event = Event(name="peer-up", text="up", level=Level.WARNING, fields={"key": b"\x01\xff", "hosts": ("a", b"\x02")})
    (line,) = lines(event, as_json=True)
    entry = json.loads(line)
    time = entry.pop("time")
    assert time.endswith("Z")
    assert entry == {"level": "warning", "event": "peer-up", "text": "up", "key": "01ff", "hosts": "a,02"}


@pytest.mark.parametrize(
    ("level", "names"),
    [
        (Level.DEBUG, ["debug", "info", "warning", "error"]),
        (Level.WARNING, ["warning", "error"]),
        (Level.ERROR, ["error"]),
    ],
)
def test_quieter_events_are_left_out(level, names):
    found = lines(*(Event(name=each.value, text="x", level=each) for each in Level), level=level, as_json=True)
    assert [json.loads(line)["event"] for line in found] == names


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_can_break_a_line_or_steer_a_terminal(as_json):
    nasty = "a\nb\r\x1b[2J\u202e\x00\ud800"
    found = lines(Event(name="x", text=nasty, fields={"name": nasty}), as_json=as_json)
    assert len(found) == 1
    assert found[0].isprintable()
    assert "\\u202e" in found[0]


def test_fields_cannot_take_the_place_of_the_lines_own():
    fields = {"event": "forged", "text": "forged", "time": "forged", "level": "forged"}
    (line,) = lines(Event(name="real", text="real", fields=fields), as_json=True)
    entry = json.loads(line)
    assert (entry["event"], entry["text"], entry["level"]) == ("real", "real", "info")
    assert entry["_event"] == "forged"


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise OSError


def test_a_log_that_nobody_reads_does_no_harm():
    make_log(Level.INFO, stream=Broken())(Event(name="x", text="x"))
    closed = io.StringIO()
    closed.close()
    make_log(Level.INFO, stream=closed)(Event(name="x", text="x"))
