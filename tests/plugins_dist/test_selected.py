"""A plugin that the config selects and that cannot be used stops the start, with one line that says why."""

from collections.abc import Callable
from pathlib import Path

import pytest

BAD = {
    "cipher_import": "plugin cipher_import (cipher-import-dist 0.3): cannot be imported: "
    "RuntimeError: the moon is in the wrong house",
    "cipher_exit": "plugin cipher_exit (cipher-exit-dist 1.0): cannot be imported: SystemExit: 0",
    "cipher_needs": "plugin cipher_needs (cipher-needs-dist 1.0): cannot be imported: "
    "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
    "cipher_future": "plugin cipher_future (cipher-future-dist 1.0): written for plugin API 2.0, "
    "and this ltunnel has 1.0",
    "cipher_minor": "plugin cipher_minor (cipher-minor-dist 1.0): written for plugin API 1.99, "
    "and this ltunnel has 1.0",
    "cipher_twin": "plugin cipher_twin: provided more than once, by twin-one 1.0 and twin-two 2.0; "
    "uninstall all but one",
    "cipher_alias": "plugin cipher_alias (cipher-alias-dist 1.0): calls itself 'cipher_other', unlike its entry point",
    "cipher_raises": "plugin cipher_raises (cipher-raises-dist 1.0): ltunnel_cipher raises: "
    "ZeroDivisionError: integer division or modulo by zero",
    "cipher_untyped": "plugin cipher_untyped (cipher-untyped-dist 1.0): ltunnel_cipher returned dict, "
    "not CipherDescriptor",
    "cipher_idle": "plugin cipher_idle (cipher-idle-dist 1.0): implements no hook but ltunnel_plugin_info "
    "(are they marked with @hookimpl?)",
    "cipher_nameless": "plugin cipher_nameless (cipher-nameless-dist 1.0): ltunnel_plugin_info is missing or "
    "returned None (is it marked with @hookimpl?)",
    "cipher_goof": "plugin cipher_goof: not installed: no distribution provides it; did you mean cipher_good?",
    "transport_udp": "plugin transport_udp (ltunnel-transport-udp 0.1.0): selected as cipher, but provides transport",
}


@pytest.mark.parametrize("plugin", BAD)
def test_start_is_refused_with_one_line(
    plugin: str, ltunnel: Callable[..., object], config: Callable[..., Path], state: Path
) -> None:
    result = ltunnel("-c", str(config(plugin)))
    assert result.stderr == f"ltunnel: {BAD[plugin]}\n"
    assert result.stdout == ""
    assert result.returncode == 2
    assert not state.exists(), "a refused start leaves nothing behind"


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("cipher_signature", ("(cipher-signature-dist 1.0): has a bad hook", "ltunnel_cipher", "'key'")),
        ("cipher_misspelt", ("(cipher-misspelt-dist 1.0): has a bad hook", "unknown hook 'ltunnel_chipher'")),
    ],
)
def test_bad_hooks_are_refused_in_words_of_pluggy(
    plugin: str, words: tuple[str, ...], ltunnel: Callable[..., object], config: Callable[..., Path]
) -> None:
    result = ltunnel("-c", str(config(plugin)))
    assert result.returncode == 2
    assert result.stderr.startswith(f"ltunnel: plugin {plugin} ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"rounds": 300}, "cipher_good.rounds: Input should be less than 128 (got 300)"),
        ({"round": 3}, "cipher_good.round: no such option (got 3)"),
        ({"rounds": "many"},
         'cipher_good.rounds: Input should be a valid integer, unable to parse string as an integer (got "many")'),
    ],
)  # fmt: skip
def test_bad_options_are_refused(
    options: object, complaint: str, ltunnel: Callable[..., object], config: Callable[..., Path]
) -> None:
    path = config("cipher_good", cipher_good=options)
    result = ltunnel("-c", str(path))
    assert result.stderr == f"ltunnel: {path}: {complaint}\n"
    assert result.returncode == 2


def test_disabled_plugin_is_refused(ltunnel: Callable[..., object], config: Callable[..., Path]) -> None:
    result = ltunnel("-c", str(config("cipher_good", disable_plugins=["cipher_good"])))
    expected = "plugin cipher_good (cipher-good-dist 1.0): selected as cipher, but listed in disable_plugins"
    assert result.stderr == f"ltunnel: {expected}\n"
    assert result.returncode == 2


def test_unreadable_metadata_is_named_when_a_plugin_is_missing(
    ltunnel: Callable[..., object], config: Callable[..., Path], torn_site: Path
) -> None:
    result = ltunnel("-c", str(config("fec_xyz")), more=torn_site)
    assert result.stderr == (
        "ltunnel: plugin fec_xyz: not installed: no distribution provides it; "
        "metadata that cannot be read: torn-dist 1.0\n"
    )
    assert result.returncode == 2


LOAD = """
import json, os, sys
from ltunnel.config import load, load_stack
stack = load_stack(load(sys.argv[1], {}, os.environ))
ours = [name for name in sys.modules if name.endswith("_dist") or name.startswith("twin_")]
print(json.dumps([stack.cipher.name, stack.cipher.options.rounds, ours]))
"""


def test_only_the_selected_plugin_is_imported(python: Callable[..., object], config: Callable[..., Path]) -> None:
    result = python(LOAD, str(config("cipher_good", cipher_good={"rounds": 7})))
    assert result.stderr == ""
    assert result.stdout == '["cipher_good", 7, ["cipher_good_dist"]]\n'
