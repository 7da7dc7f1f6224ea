"""Which transports a configuration means."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from ltunnel.config import Config, control_settings, load, load_stack, network_keys, selection
from ltunnel.config.model import DEFAULT_TRANSPORTS
from ltunnel.errors import ConfigError, PluginError
from ltunnel.keys.identity import Identity
from ltunnel.registry import Entries
from ltunnel.registry.entries import Entry

SUBSETS = [
    subset for size in range(1, len(DEFAULT_TRANSPORTS) + 1) for subset in combinations(DEFAULT_TRANSPORTS, size)
]


def installed(*names: str) -> Entries:
    return Entries(all=tuple(Entry(name=name, target="x", distribution=name, version="1") for name in names))


@pytest.mark.parametrize("there", SUBSETS)
def test_where_nothing_is_said_it_is_the_default_ones_that_are_installed(there: tuple[str, ...]) -> None:
    assert load(None, {}, {}, entries=installed(*there, "transport_other")).transport == there


@pytest.mark.parametrize("there", SUBSETS)
def test_and_not_disabled(there: tuple[str, ...]) -> None:
    disabled = [name for name in DEFAULT_TRANSPORTS if name not in there]
    config = load(None, {"disable_plugins": disabled}, {}, entries=installed(*DEFAULT_TRANSPORTS))
    assert config.transport == there


def test_where_none_is_there_they_are_all_named_in_the_error() -> None:
    config = load(None, {}, {}, entries=installed())
    assert config.transport == DEFAULT_TRANSPORTS
    with pytest.raises(PluginError, match=f"{DEFAULT_TRANSPORTS[0]}: not installed"):
        load_stack(config, installed())


def test_what_was_written_is_never_left_out() -> None:
    config = load(None, {"transport": "transport_gone,transport_udp"}, {}, entries=installed("transport_udp"))
    assert config.transport == ("transport_gone", "transport_udp")
    config = load(None, {"transport": "transport_udp", "disable_plugins": "transport_udp"}, {}, entries=installed())
    assert config.transport == ("transport_udp",)


def test_a_list_in_order_with_options_each(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    written: dict[str, Any] = {
        "transport": ["transport_b", "transport_a"], "transport_a": {"x": 1}, "transport_b": {"y": [2]}
    }  # fmt: skip
    file.write_text(json.dumps(written))
    chosen = selection(load(file, {}, {}))
    assert chosen.transports == ("transport_b", "transport_a")
    assert chosen.options == {"transport_a": {"x": 1}, "transport_b": {"y": [2]}}


def test_a_transport_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="should not name a transport twice; give one a label"):
        load(None, {"transport": "transport_udp,transport_udp"}, {})
    with pytest.raises(ConfigError, match="should not name a transport twice"):
        load(None, {"transport": "transport_udp:a,transport_udp:a"}, {})


@pytest.mark.parametrize("name", ["transport_udp:", "transport_udp:A", "transport_udp:a:b", "transport_udp: a", ":a"])
def test_labels_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^transport: should"):
        load(None, {"transport": name}, {})


def test_a_transport_with_a_label_has_a_section_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    written: dict[str, Any] = {
        "transport": ["transport_faketcp", "transport_faketcp:udp", "transport_udp"],
        "transport_faketcp": {"backend": "packet"}, "transport_faketcp:udp": {"framing": "udp"}, "key": "ab" * 32,
    }  # fmt: skip
    file.write_text(json.dumps(written))
    file.chmod(0o600)
    config = load(file, {}, {})
    stack = load_stack(config)
    assert [part.name for part in stack.transports] == written["transport"]
    first, second, _ = (part.options.model_dump() for part in stack.transports)
    assert (first["framing"], first["backend"]) == ("tcp", "packet")
    assert (second["framing"], second["backend"]) == ("udp", "auto")
    assert config.notices() == ()
    written["transport_faketcp:udp"] = {"framing": "icmp"}
    file.write_text(json.dumps(written))
    with pytest.raises(
        ConfigError, match=r"config.json: transport_faketcp:udp.framing: Input should be 'tcp' or 'udp'"
    ):
        load_stack(load(file, {}, {}))


def test_a_section_for_a_label_that_is_not_used_is_said(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"transport": "transport_faketcp", "transport_faketcp:x": {"framing": "udp"}}))
    (notice,) = load(file, {}, {}).notices()
    assert notice.startswith("transport_faketcp:x: its options are not in effect")


def test_labels_do_not_hide_that_a_plugin_is_not_there() -> None:
    config = load(None, {"transport": "transport_gone:x", "key": "ab" * 32}, {})
    with pytest.raises(PluginError, match="plugin transport_gone: not installed"):
        load_stack(config)
    config = load(None, {"transport": "transport_udp:x", "disable_plugins": "transport_udp", "key": "ab" * 32}, {})
    with pytest.raises(PluginError, match="selected as transport, but listed in disable_plugins"):
        load_stack(config)


def test_overhead_may_depend_on_the_options(tmp_path: Path) -> None:
    """Fake TCP in UDP has no timestamps and no length."""
    found = []
    for framing in ("tcp", "udp"):
        options = {"transport_faketcp": {"framing": framing}}
        config = Config(mtu=1500, transport="transport_faketcp", key="ab" * 32, fec="none", plugin_options=options)
        settings, _ = control_settings(
            config, load_stack(config), identity=Identity.from_private(bytes(32)), keys=network_keys(config),
            link_mtu=1500,
        )  # fmt: skip
        found.append(settings.mtu)
    assert found == [1500 - 20 - 34 - 28 - 11, 1500 - 20 - 28 - 28 - 11]


def test_the_mtu_is_that_of_the_transport_with_the_most_overhead() -> None:
    config = Config(mtu=1500, transport="transport_udp", key="ab" * 32)
    stack = load_stack(config)
    (udp,) = stack.transports
    heavy = udp._replace(name="transport_heavy", descriptor=replace(udp.descriptor, overhead=60))
    found = []
    for transports in ((udp,), (udp, heavy), (heavy, udp)):
        settings, _ = control_settings(
            config, replace(stack, transports=transports), identity=Identity.from_private(bytes(32)),
            keys=network_keys(config), link_mtu=1500,
        )  # fmt: skip
        found.append(settings.mtu)
    assert found == [1423, 1423 - 52, 1423 - 52]
