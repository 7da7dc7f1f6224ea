import errno
import json
import os
import stat
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest

from ltunnel.control.directory import Binding
from ltunnel.errors import HostError
from ltunnel.runtime.state import State

ALICE = Binding(key=bytes(range(32)), addresses=(ip_address("10.0.0.2"), ip_address("fd00::2")), name="alice")
BOB = Binding(key=bytes(32), addresses=(ip_address("10.0.0.3"),), name="bob")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "a" / "state")


def test_the_folder_and_what_is_in_it_are_for_their_owner_alone(state):
    state.load_identity()
    state.save_bindings([ALICE])
    state.save_pin("hub", bytes(32))
    assert mode(state.folder) == 0o700
    assert {path.name: mode(path) for path in state.folder.iterdir()} == {
        "identity.key": 0o600,
        "bindings.json": 0o600,
        "pins.json": 0o600,
    }


def test_the_identity_is_made_once(state):
    first = state.load_identity()
    again = State(state.folder).load_identity()
    assert first == again
    assert len({State(state.folder.parent / str(n)).load_identity().public for n in range(3)}) == 3


def test_processes_that_start_at_once_agree_on_one_identity(state):
    found = []
    threads = [threading.Thread(target=lambda: found.append(state.load_identity().public)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_an_identity_that_others_could_read_is_closed_to_them(state):
    state.load_identity()
    path = state.folder / "identity.key"
    path.chmod(0o644)
    state.load_identity()
    assert mode(path) == 0o600


@pytest.mark.parametrize("text", ["", "short", "AAAA", "\x00\xff", "!" * 44, "A" * 400])
def test_a_damaged_identity_stops_the_start_and_stays_as_it_is(state, text):
    path = state.folder / "identity.key"
    path.write_text(text)
    with pytest.raises(HostError, match=r"identity\.key is damaged .*restore") as caught:
        state.load_identity()
    assert "\n" not in str(caught.value)
    assert path.read_text() == text


def test_bindings_come_back_as_they_were(state):
    assert state.load_bindings() == ()
    state.save_bindings([ALICE, BOB])
    assert State(state.folder).load_bindings() == (ALICE, BOB)
    state.save_bindings([BOB])
    assert state.load_bindings() == (BOB,)


def test_pins_of_several_nodes_share_a_file(state):
    assert state.load_pins() == {}
    State(state.folder).save_pin("one/net", b"1" * 32)
    State(state.folder).save_pin("two/net", b"2" * 32)
    assert state.load_pins() == {"one/net": b"1" * 32, "two/net": b"2" * 32}
    state.save_pin("one/net", None)
    state.save_pin("never/net", None)
    assert state.load_pins() == {"two/net": b"2" * 32}


GOOD = {
    "bindings.json": {"format": 1, "bindings": [ALICE.to_dict()]},
    "pins.json": {"format": 1, "pins": {"hub": "00" * 32}},
}


def damage(name: str) -> list[object]:
    good = GOOD[name]
    field = name.partition(".")[0]
    return [
        {**good, "format": 2},
        {"format": 1},
        {"format": 1, field: None},
        {"format": 1, field: 7},
        {"format": 1, field: {"hub": "00"}} if field == "pins" else {"format": 1, field: [{"key": "00"}]},
        {"format": 1, field: {"hub": 7}} if field == "pins" else {"format": 1, field: [7]},
        [],
        None,
    ]


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in GOOD for case in range(11)])
def test_a_damaged_file_is_named_and_never_overwritten(state, name, case):
    raw = [json.dumps(each).encode() for each in damage(name)]
    raw += [b"", b"\xff\xfe", json.dumps(GOOD[name]).encode()[:-3]]
    path = state.folder / name
    path.write_bytes(raw[case])
    load = state.load_bindings if name == "bindings.json" else state.load_pins
    with pytest.raises(HostError, match=f"{name} is damaged"):
        load()
    if name == "pins.json":
        with pytest.raises(HostError):
            state.save_pin("hub", bytes(32))
    assert path.read_bytes() == raw[case]


def test_good_files_are_good(state):
    for name, data in GOOD.items():
        (state.folder / name).write_text(json.dumps(data))
    assert state.load_bindings() == (ALICE,)
    assert state.load_pins() == {"hub": bytes(32)}


def test_a_full_disk_leaves_the_old_file(state, monkeypatch):
    state.save_bindings([ALICE])

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        state.save_bindings([ALICE, BOB])
    assert state.load_bindings() == (ALICE,)
    assert [path.name for path in state.folder.iterdir()] == ["bindings.json"]


def test_the_leftover_of_a_crash_is_in_nobodys_way(state):
    (state.folder / "bindings.json.new").write_text("half")
    state.save_bindings([ALICE])
    assert state.load_bindings() == (ALICE,)
    assert [path.name for path in state.folder.iterdir()] == ["bindings.json"]


def test_two_hubs_cannot_share_a_folder(state):
    state.load_identity()
    refused = pytest.raises(HostError, match=r"another server uses.*LTUNNEL_STATE_DIR")
    with state.held_by_hub(), refused, state.held_by_hub():
        pass
    with state.held_by_hub():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"cannot create folder .*file/state.*LTUNNEL_STATE_DIR"):
        State(tmp_path / "file" / "state")
