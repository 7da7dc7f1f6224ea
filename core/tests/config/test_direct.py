"""Which plugins find and choose direct paths, and that the stack's fingerprint does not speak of them."""

import json
from pathlib import Path

import pytest

from ltunnel.config import Config, discovering, load, load_stack, missing, port_mapper, routing_policy, selection
from ltunnel.config.assemble import fingerprint
from ltunnel.plugin import Carrier
from ltunnel.registry import Entries, read_entries

CLIENT = {"mode": "client", "remote_addr": "192.0.2.1:9000", "tunnel_addr": "10.0.0.2/24", "key": "k"}


def chosen(**fields) -> tuple[str | None, str | None]:
    wanted = selection(Config.model_validate({**CLIENT, **fields}))
    return wanted.discovery, wanted.routing


@pytest.mark.parametrize(("fields", "plugins"), [
    ({}, ("nat_punch", "routing_mesh")),
    ({"discovery": "none"}, (None, "routing_mesh")),
    ({"routing": "none"}, ("nat_punch", None)),
    ({"discovery": "other", "routing": "mine"}, ("other", "mine")),
    ({"p2p_enabled": False}, (None, None)),
    ({"p2p_enabled": False, "discovery": "nat_punch"}, (None, None)),
    ({"disable_plugins": ["nat_punch"]}, (None, "routing_mesh")),
    ({"mode": "server", "remote_addr": None}, (None, None)),
])  # fmt: skip
def test_clients_use_what_is_installed(fields, plugins):
    assert chosen(**fields) == plugins


def test_what_is_not_installed_is_not_missed():
    config = Config.model_validate(CLIENT)
    without = Entries(all=tuple(e for e in read_entries().all if e.name not in ("nat_punch", "routing_mesh")))
    wanted = selection(config, without)
    assert (wanted.discovery, wanted.routing) == (None, None)
    stack = load_stack(config, without)
    assert missing(config, stack) == (
        "p2p_enabled: all traffic goes through the server, since there is no discovery and no routing plugin"
    )
    assert discovering(stack, ["transport_udp"]) is None
    assert (port_mapper(stack), routing_policy(stack)) == (None, None)
    asked_for = Config.model_validate({**CLIENT, "discovery": "none"})
    assert missing(asked_for, stack) is None


def test_they_are_made_and_leave_the_fingerprint_alone():
    config = Config.model_validate({**CLIENT, "transport": ["transport_tls", "transport_udp"]})
    stack = load_stack(config)
    assert missing(config, stack) is None
    found = discovering(stack, ["transport_tls", "transport_udp"])
    assert found is not None
    assert found.carriers == {Carrier.UDP: 1}
    assert routing_policy(stack) is not None
    assert discovering(stack, ["transport_tls"]) is None, "nothing that carries direct paths could be had"
    unchosen = load_stack(Config.model_validate({**CLIENT, "transport": ["transport_udp"], "routing": "none"}))
    assert discovering(unchosen, ["transport_udp"]) is None, "nobody would choose a direct path"
    bare = load_stack(Config.model_validate({**CLIENT, "p2p_enabled": False}))
    assert fingerprint(stack) == fingerprint(bare)


def test_fake_tcp_carries_direct_paths_where_it_is_like_tcp(tmp_path: Path):
    names = ["transport_faketcp:udp", "transport_faketcp", "transport_udp"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**CLIENT, "transport": names, "transport_faketcp:udp": {"framing": "udp"}}))
    file.chmod(0o600)
    found = discovering(load_stack(load(file, {}, {})), names)
    assert found is not None
    assert found.carriers == {Carrier.TCP: 1, Carrier.UDP: 2}
