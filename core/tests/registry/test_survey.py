import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltunnel.registry import Selection, Status, read_entries
from ltunnel.registry import survey as survey_module
from ltunnel.registry.survey import Finding, survey

Install = Callable[..., None]


def _one(name: str, selection: Selection | None = None) -> Finding:
    (finding,) = survey(read_entries(), selection or Selection(), only=name)
    return finding


def test_a_plugin_that_hangs_is_given_up(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("sleepy", "import time\ntime.sleep(60)")
    monkeypatch.setattr(survey_module, "_PATIENCE", 0.2)
    begun = time.monotonic()
    finding = _one("sleepy")
    assert finding.status is Status.BROKEN
    assert finding.reason.startswith("did not finish loading")
    assert time.monotonic() - begun < 10


def test_a_plugin_that_ends_the_process_ends_only_its_own(install: Install) -> None:
    install("fatal", "import os\nos._exit(7)")
    finding = _one("fatal")
    assert (finding.status, finding.reason) == (Status.BROKEN, "the process that loaded it ended with code 7")


def test_a_plugin_with_a_thread_that_never_ends_is_no_obstacle(install: Install) -> None:
    install("busy", "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()")
    assert "ltunnel_plugin_info is missing" in _one("busy").reason


def test_a_plugin_cannot_write_to_our_output(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    install("chatty", "import os\nprint('printed')\nos.write(1, b'written')\nos.write(2, b'complained')")
    _one("chatty")
    assert capfd.readouterr() == ("", "")


def test_a_disabled_plugin_is_not_imported(install: Install, tmp_path: Path) -> None:
    install("unwanted", f"open({str(tmp_path)!r} + '/imported', 'w')")
    finding = _one("unwanted", Selection(disabled=frozenset({"unwanted"})))
    assert (finding.status, finding.reason) == (Status.DISABLED, "listed in disable_plugins")
    assert not (tmp_path / "imported").exists()
    _one("unwanted")
    assert (tmp_path / "imported").exists()


def test_every_section_of_a_plugin_is_checked() -> None:
    names = ("transport_faketcp", "transport_faketcp:udp")
    wrong = {"transport_faketcp:udp": {"framing": "no"}}
    (finding,) = survey(read_entries(), Selection(transports=names, options=wrong), only="transport_faketcp")
    assert finding.selected
    assert finding.status is Status.BROKEN
    assert finding.reason.startswith("transport_faketcp:udp.framing: Input should be 'tcp' or 'udp'")
    right = {"transport_faketcp:udp": {"framing": "udp"}}
    (finding,) = survey(read_entries(), Selection(transports=names, options=right), only="transport_faketcp")
    assert finding.status is Status.SELECTED


def test_selected_and_disabled_says_so() -> None:
    selection = Selection(cipher="crypto_plain", disabled=frozenset({"crypto_plain"}))
    finding = _one("crypto_plain", selection)
    assert (finding.status, finding.selected) == (Status.DISABLED, True)
    assert finding.reason == "selected, but listed in disable_plugins"
