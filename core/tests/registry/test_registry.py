import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ltunnel.errors import ConfigError
from ltunnel.plugin import CipherDescriptor, NoOptions
from ltunnel.registry import Entry, Kind, PluginRefusedError, Selection, Status, build_stack, load, read_entries

Install = Callable[..., None]

BOTH = """
from ltunnel.plugin import *
class Opts(Options):
    depth: int = 3
@hookimpl
def ltunnel_plugin_info():
    return PluginInfo(name="{name}", summary="two in one", api=(1, 0))
@hookimpl
def ltunnel_cipher():
    return CipherDescriptor(options={first}, wire_name="C", create=print)
@hookimpl
def ltunnel_fec():
    return FecDescriptor(options={second}, wire_name="F", create=print)
"""

CIPHER = """
from ltunnel.plugin import *
@hookimpl
def ltunnel_plugin_info():
    return PluginInfo(name="{name}", summary="", api={api})
@hookimpl
def ltunnel_cipher():
    return CipherDescriptor({descriptor})
"""
GOOD = "options=NoOptions, wire_name='C', create=print"


def _cipher(name: str, descriptor: str = GOOD, api: str = "(1, 0)") -> str:
    return CIPHER.format(name=name, descriptor=descriptor, api=api)


def _entry(name: str) -> Entry:
    (entry,) = read_entries().named(name)
    return entry


def test_reading_entries_imports_nothing(install: Install) -> None:
    install("quiet", "raise SystemExit", module="quiet_module")
    entry = _entry("quiet")
    assert (entry.provider, entry.target) == ("dist-quiet 1.0", "quiet_module")
    assert "quiet_module" not in sys.modules


def test_first_of_two_versions_on_the_path_counts(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("shadow", "", version="2.0")
    older = tmp_path / "later" / "dist_shadow-1.0.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: Dist.Shadow\nVersion: 1.0\n")
    (older / "entry_points.txt").write_text("[ltunnel]\nshadow = other\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(older.parent)])
    assert [entry.provider for entry in read_entries().named("shadow")] == ["dist-shadow 2.0"]


def test_a_plugin_of_two_kinds_shares_one_section(install: Install) -> None:
    install("both", BOTH.format(name="both", first="Opts", second="Opts"))
    plugin = load(_entry("both"))
    assert list(plugin.descriptors) == [Kind.CIPHER, Kind.FEC]
    selection = Selection(transports=["transport_udp"], cipher="both", fec="both", options={"both": {"depth": 9}})
    stack = build_stack(selection, read_entries())
    assert stack.fec is not None
    assert stack.cipher.options == stack.fec.options == plugin.options(depth=9)
    assert (stack.cipher.name, stack.cipher.descriptor.wire_name) == ("both", "C")
    assert [part.name for part in stack.transports] == ["transport_udp"]
    assert stack.routing is stack.discovery is None


def test_two_option_models_in_one_plugin_are_refused(install: Install) -> None:
    install("split", BOTH.format(name="split", first="Opts", second="NoOptions"))
    with pytest.raises(PluginRefusedError, match="its hooks name different options models"):
        load(_entry("split"))


@pytest.mark.parametrize(
    ("descriptor", "reason"),
    [
        ("options=dict, wire_name='C', create=print", "options is not a subclass of"),
        ("options=type('Lax', (Options,), {'model_config': {'extra': 'allow'}}), wire_name='C', create=print",
         "must forbid unknown fields"),
        ("options=type('Soft', (Options,), {'model_config': {'frozen': False}}), wire_name='C', create=print",
         "must forbid unknown fields and be frozen"),
        ("options=NoOptions, wire_name='', create=print", "wire_name is empty"),
        ("options=NoOptions, wire_name='SEVENTEEN LETTERS', create=print", "wire_name is longer than 16 bytes"),
        ("options=NoOptions, wire_name='C', create='print'", "cannot be called"),
        ("options=NoOptions, wire_name='C', create=print, key_size=64", "key_size is not between 1 and 32"),
        ("options=NoOptions, wire_name=7, create=print", "returned a bad descriptor"),
        ("wire_name='C'", "ltunnel_cipher raises: TypeError"),
    ],
)  # fmt: skip
def test_bad_descriptors_are_refused(install: Install, descriptor: str, reason: str) -> None:
    install("bad", _cipher("bad", descriptor))
    with pytest.raises(PluginRefusedError) as caught:
        load(_entry("bad"))
    assert str(caught.value).startswith("plugin bad (dist-bad 1.0): ")
    assert reason in str(caught.value)
    assert caught.value.status is Status.BROKEN


@pytest.mark.parametrize(
    ("api", "status"),
    [
        ("(0, 9)", Status.INCOMPATIBLE),
        ("(2, 0)", Status.INCOMPATIBLE),
        ("(1, 1)", Status.INCOMPATIBLE),
        ("'1.0'", Status.BROKEN),
        ("(1,)", Status.BROKEN),
    ],
)
def test_api_versions_that_are_refused(install: Install, api: str, status: Status) -> None:
    install("other", _cipher("other", api=api))
    with pytest.raises(PluginRefusedError) as caught:
        load(_entry("other"))
    assert caught.value.status is status


def test_an_exception_that_cannot_be_printed_is_one_line_too(install: Install) -> None:
    install("rude", "class Rude(BaseException):\n    def __str__(self): raise ValueError\nraise Rude")
    with pytest.raises(PluginRefusedError) as caught:
        load(_entry("rude"))
    assert str(caught.value) == "plugin rude (dist-rude 1.0): cannot be imported: Rude"


def test_texts_of_a_plugin_are_cut_and_escaped(install: Install) -> None:
    install("loud", "raise ValueError('\\x1b[31m' + 'very ' * 1000 + '\\n')")
    with pytest.raises(PluginRefusedError) as caught:
        load(_entry("loud"))
    assert len(str(caught.value)) < 400
    assert "\\x1b[31mvery very" in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_keyboard_still_interrupts(install: Install) -> None:
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(_entry("slow"))


def test_nothing_is_imported_before_all_names_are_known(install: Install) -> None:
    install("eager", _cipher("eager"), module="eager_module")
    with pytest.raises(PluginRefusedError, match="plugin transport_nowhere: not installed"):
        build_stack(Selection(transports=["transport_nowhere"], cipher="eager"), read_entries())
    assert "eager_module" not in sys.modules


def test_an_options_model_that_fails_is_the_plugins_fault(install: Install) -> None:
    source = """
from pydantic import field_validator
from ltunnel.plugin import *
class Fragile(Options):
    depth: int = 1
    @field_validator("depth")
    @classmethod
    def check(cls, value):
        raise SystemExit(4)
""" + _cipher("fragile", "options=Fragile, wire_name='C', create=print")
    install("fragile", source)
    selection = Selection(transports=["transport_udp"], cipher="fragile", options={"fragile": {"depth": 2}})
    with pytest.raises(PluginRefusedError, match=r"\(dist-fragile 1.0\): its options model raises: SystemExit: 4"):
        build_stack(selection, read_entries())


def test_a_section_that_is_no_object_is_refused() -> None:
    selection = Selection(transports=["transport_udp"], cipher="crypto_plain", options={"crypto_plain": [1]})
    with pytest.raises(ConfigError, match=r"^crypto_plain: should hold the plugin's options \(got \[1\]\)$"):
        build_stack(selection, read_entries())


def test_first_party_plugins_load() -> None:
    stack = build_stack(Selection(transports=["transport_udp"], cipher="crypto_aesgcm"), read_entries())
    assert isinstance(stack.cipher.descriptor, CipherDescriptor)
    assert stack.cipher.descriptor.secure
    assert stack.transports[0].options == NoOptions()
