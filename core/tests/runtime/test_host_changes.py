import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from ltunnel.errors import HostError
from ltunnel.plugin import HostRule, HostRuleKind
from ltunnel.runtime import host_changes
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.host_rules import Content, Forwarding, Masquerade

RULE = HostRule(kind=HostRuleKind.DROP_RESETS, port=9000, host="0.0.0.0")
OTHER = HostRule(kind=HostRuleKind.DROP_RESETS, port=9001, host="0.0.0.0")
WAY = Forwarding(device="d", inside={4: "169.254.7.2"}, numbers=(1,), bound=None, opened={4: (), 6: ()})
NETWORK = ip_network("192.168.7.0/24")
FORWARDING = "net/ipv4/conf/eth0/forwarding"


class Machine:
    """A machine's tables, and a /proc/sys of its own."""

    def __init__(self, folder: Path) -> None:
        self.tables: dict[str, Content] = {}
        self.broken = False
        self.calls = 0
        self.settings = folder / "sys"
        self.complaints: list[str] = []
        (self.settings / FORWARDING).parent.mkdir(parents=True)
        (self.settings / FORWARDING).write_text("0\n")
        self.boot = folder / "boot"
        self.boot.write_text("one\n")
        self.run = folder / "run"

    def load(self, name: str, content: Content) -> None:
        self.calls += 1
        if self.broken:
            raise HostError("nft is broken")
        self.tables[name] = content

    def delete(self, name: str) -> None:
        self.calls += 1
        if self.broken:
            raise HostError("nft is broken")
        self.tables.pop(name, None)

    def start(self, device: str = "tun0") -> HostChanges:
        return HostChanges(self.run, device, self.complaints.append)

    @property
    def forwarding(self) -> str:
        return (self.settings / FORWARDING).read_text().strip()

    @property
    def note(self) -> Path:
        return self.run / "tun0.undo"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(host_changes, "load_table", machine.load)
    monkeypatch.setattr(host_changes, "delete_table", machine.delete)
    monkeypatch.setattr(host_changes, "_SETTINGS", machine.settings)
    monkeypatch.setattr(host_changes, "_BOOT", machine.boot)
    return machine


def test_forwarding_can_end_before_the_rest(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    changes.forward(WAY)
    changes.change_setting(FORWARDING, "1")
    changes.stop_forwarding()
    assert machine.forwarding == "0"
    assert machine.tables == {"ltunnel_tun0": Content(rules=(RULE,))}
    changes.close()
    assert machine.tables == {}


def test_masquerade_stands_beside_the_rest(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    changes.masquerade([NETWORK])
    changes.forward(WAY)
    ours = Masquerade(device="tun0", networks=[NETWORK])
    assert machine.tables == {"ltunnel_tun0": Content(rules=(RULE,), forwarding=WAY, masquerade=ours)}
    changes.stop_forwarding()
    changes.remove_rules([RULE])
    assert machine.tables == {"ltunnel_tun0": Content(masquerade=ours)}
    changes.close()
    assert machine.tables == {}


def test_masquerade_that_cannot_be_had_is_not_tried_with_the_next_rule(machine):
    changes = machine.start()
    machine.broken = True
    with pytest.raises(HostError, match="broken"):
        changes.masquerade([NETWORK])
    machine.broken = False
    changes.add_rules([RULE])
    assert machine.tables == {"ltunnel_tun0": Content(rules=(RULE,))}


def test_forwarding_that_cannot_end_is_said(machine):
    changes = machine.start()
    changes.forward(WAY)
    machine.broken = True
    changes.stop_forwarding()
    assert machine.complaints == ["cannot end forwarding: nft is broken"]
    machine.broken = False
    changes.close()
    assert machine.tables == {}


def test_rules_can_be_taken_back_one_by_one(machine):
    changes = machine.start()
    changes.add_rules([RULE, OTHER, RULE])
    changes.remove_rules([RULE])
    assert machine.tables == {"ltunnel_tun0": Content(rules=(OTHER, RULE))}
    machine.broken = True
    with pytest.raises(HostError):
        changes.remove_rules([OTHER])
    machine.broken = False
    changes.remove_rules([RULE])
    assert machine.tables == {"ltunnel_tun0": Content(rules=(OTHER,))}
    changes.remove_rules([])


def test_a_change_is_noted_before_it_is_made(machine, monkeypatch):
    changes = machine.start()
    monkeypatch.setattr(host_changes, "load_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        changes.add_rules([RULE])
    assert json.loads(machine.note.read_text()) == {"boot": "one", "table": True, "settings": []}
    changes.change_setting(FORWARDING, "1")
    assert json.loads(machine.note.read_text())["settings"] == [[FORWARDING, "0", "1", None]]
    assert list(machine.run.iterdir()) == [machine.note]


def test_who_asks_for_nothing_needs_no_nft(machine):
    changes = machine.start()
    changes.add_rules([])
    changes.close()
    assert machine.calls == 0
    assert not machine.note.exists()


def test_everything_is_undone(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    changes.add_rules([OTHER])
    changes.forward(WAY)
    changes.change_setting(FORWARDING, "1")
    assert machine.tables == {"ltunnel_tun0": Content(rules=(RULE, OTHER), forwarding=WAY)}
    assert machine.forwarding == "1"
    changes.close()
    assert machine.tables == {}
    assert machine.forwarding == "0"
    assert not machine.note.exists()
    assert machine.complaints == []


def test_the_next_start_undoes_what_a_crash_has_left(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    changes.change_setting(FORWARDING, "1")
    del changes
    machine.start("tun1")  # another's leftovers are not its business
    assert machine.tables
    assert machine.forwarding == "1"
    machine.start()
    assert machine.tables == {}
    assert machine.forwarding == "0"
    assert not machine.note.exists()


def test_after_a_boot_nothing_is_left(machine):
    machine.start().change_setting(FORWARDING, "1")
    machine.boot.write_text("two\n")
    machine.calls = 0
    machine.start()
    assert machine.forwarding == "1"
    assert machine.calls == 0
    assert not machine.note.exists()


def test_a_setting_that_is_changed_again_goes_back_to_what_was_first(machine):
    changes = machine.start()
    changes.change_setting(FORWARDING, "1")
    changes.change_setting(FORWARDING, "1")
    assert changes.setting(FORWARDING) == "1"
    changes.close()
    assert machine.forwarding == "0"


def test_what_somebody_else_has_set_stays(machine):
    changes = machine.start()
    changes.change_setting(FORWARDING, "1")
    (machine.settings / FORWARDING).write_text("2\n")
    changes.close()
    assert machine.forwarding == "2"


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize(("before", "after", "left"), [("0", "1", "1"), ("0", "0", "0"), ("1", "1", "0")])
def test_what_has_been_set_for_the_whole_machine_meanwhile_stays(machine, before, after, left, crashes):
    whole = machine.settings / "net/ipv4/conf/all/forwarding"
    whole.parent.mkdir()
    whole.write_text(f"{before}\n")
    changes = machine.start()
    changes.change_setting(FORWARDING, "1")
    whole.write_text(f"{after}\n")
    if crashes:
        machine.start()
    else:
        changes.close()
    assert machine.forwarding == left
    assert machine.complaints == []


def test_single_settings_can_be_put_back(machine):
    changes = machine.start()
    changes.change_setting(FORWARDING, "1")
    changes.put_back("net/ipv6/")
    assert machine.forwarding == "1"
    changes.put_back("net/ipv4/")
    assert machine.forwarding == "0"
    changes.change_setting(FORWARDING, "1")
    (machine.settings / FORWARDING).write_text("2\n")
    changes.put_back("net/ipv4/")
    (machine.settings / FORWARDING).write_text("1\n")
    changes.close()
    assert machine.forwarding == "1", "it is no more ours"


def test_a_setting_that_vanished_is_passed_over(machine):
    changes = machine.start()
    changes.change_setting(FORWARDING, "1")
    (machine.settings / FORWARDING).unlink()
    changes.close()
    assert machine.complaints == []


def test_a_setting_that_this_kernel_has_not_is_named(machine):
    with pytest.raises(HostError, match=r"no setting net\.ipv6\.conf\.eth0\.force_forwarding"):
        machine.start().change_setting("net/ipv6/conf/eth0/force_forwarding", "1")


def test_rules_that_cannot_be_set_leave_the_old_ones(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    machine.broken = True
    with pytest.raises(HostError, match="broken"):
        changes.add_rules([OTHER])
    machine.broken = False
    assert machine.tables == {"ltunnel_tun0": Content(rules=(RULE,))}
    changes.close()
    assert machine.tables == {}


def test_first_rules_that_cannot_be_set_leave_nothing(machine):
    changes = machine.start()
    machine.broken = True
    with pytest.raises(HostError, match="broken"):
        changes.add_rules([RULE])
    changes.close()
    assert not machine.note.exists()


def test_what_cannot_be_undone_is_said_and_tried_at_the_next_start(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    machine.broken = True
    changes.close()
    assert machine.complaints == ["cannot delete the nftables table ltunnel_tun0: nft is broken"]
    assert machine.tables
    machine.broken = False
    machine.start()
    assert machine.tables == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"boot": "one"}', '{"boot": "one", "table": false, "settings": [1]}', "\xff"]
)
def test_a_damaged_note_costs_a_look_for_the_table(machine, text):
    changes = machine.start()
    changes.add_rules([RULE])
    machine.note.write_bytes(text.encode("latin-1"))
    machine.start()
    assert machine.tables == {}
    assert not machine.note.exists()


def test_a_note_can_speak_of_forwarding_alone(machine):
    machine.start()
    elsewhere = machine.settings / "kernel" / "core_pattern"
    elsewhere.parent.mkdir()
    elsewhere.write_text("ours")
    (machine.settings / "net/x").write_text("ours")
    names = ["kernel/core_pattern", "../boot", "net/ipv4/conf/../../x", "/etc/passwd"]
    settings = [[name, "theirs", "ours"] for name in names]
    machine.note.write_text(json.dumps({"boot": "one", "table": False, "settings": settings}))
    machine.start()
    assert elsewhere.read_text() == (machine.settings / "net/x").read_text() == "ours"


def test_a_note_that_cannot_be_written_stops_the_change(machine):
    changes = machine.start()
    machine.note.mkdir()
    with pytest.raises(HostError, match="cannot write"):
        changes.add_rules([RULE])
    assert machine.tables == {}


def test_rules_can_be_taken_back_before_the_rest(machine):
    changes = machine.start()
    changes.add_rules([RULE])
    changes.add_rules([OTHER])
    changes.drop_rules([OTHER])
    assert machine.tables == {"ltunnel_tun0": Content(rules=(RULE,))}
    changes.drop_rules([])
    machine.broken = True
    changes.drop_rules([RULE])
    assert machine.complaints == ["cannot take back rules: nft is broken"]
    machine.broken = False
    changes.close()
    assert machine.tables == {}
