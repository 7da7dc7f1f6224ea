from ipaddress import ip_network
from typing import Any

import pytest

from ltunnel.config import Config, control_settings, fec_settings, load_stack, network_keys, tunnel_mtu
from ltunnel.config.model import DEFAULT_TRANSPORTS
from ltunnel.control.settings import ControlSettings, Role
from ltunnel.errors import ConfigError
from ltunnel.keys.identity import Identity
from ltunnel.plugin import CipherDescriptor, NoOptions
from ltunnel.registry import Part

IDENTITY = Identity.from_private(bytes(range(32)))
KEY = "ab" * 32  # 32 bytes in hex: no time is spent on stretching it


def _settings(config: Config, link_mtu: int = 1500, **options: Any) -> tuple[ControlSettings, tuple[str, ...]]:
    return control_settings(
        config, load_stack(config), identity=IDENTITY, keys=network_keys(config), link_mtu=link_mtu, **options
    )


def _client(**fields: Any) -> Config:
    fields = {"transport": "transport_udp", **fields}
    return Config(mode="client", remote_addr="hub.example:9000", tunnel_addr="10.0.0.2/24", key=KEY, **fields)


def test_settings_of_a_node() -> None:
    settings, notices = _settings(_client(name="alice", keepalive=5), remote=("192.0.2.1", 9000))
    assert settings.role is Role.NODE
    assert (settings.name, settings.network) == ("alice", "ltunnel")
    assert (settings.cipher, settings.stack) == ("AESGCM", ("cipher=AESGCM", "fec=rs"))
    assert (settings.hub, settings.hub_label) == (("192.0.2.1", 9000), "hub.example:9000")
    assert (settings.keepalive, settings.mtu, settings.keys.keyed) == (5.0, 1400, True)
    assert notices == ()


def test_settings_of_a_hub() -> None:
    config = Config(key=KEY, max_clients=7, multi_client=False, client_isolation=True)
    settings, _notices = _settings(config)
    assert settings.role is Role.HUB
    assert (settings.hub, settings.hub_label) == (None, "")
    assert (settings.max_clients, settings.multi_client, settings.client_isolation) == (7, False, True)
    assert str(settings.addresses[0]) == "10.0.0.1/24"


def test_settings_of_a_gateway() -> None:
    config = _client(routes=["192.168.7.0/24"], accept_routes="172.16.0.0/12,fd01::/16")
    settings, _notices = _settings(config, remote=("192.0.2.1", 9000))
    assert settings.routes == (ip_network("192.168.7.0/24"),)
    assert settings.accept_routes == (ip_network("172.16.0.0/12"), ip_network("fd01::/16"))


def test_the_cipher_seals_with_a_session_key() -> None:
    settings, _notices = _settings(_client(), remote=("192.0.2.1", 9000))
    sealed = settings.new_aead(bytes(32)).seal_message(bytes(12), b"hello", b"")
    assert settings.new_aead(bytes(32)).open_message(bytes(12), sealed, b"") == b"hello"
    assert settings.new_aead(b"\1" * 32).open_message(bytes(12), sealed, b"") is None


def test_a_cipher_with_shorter_keys_gets_as_many_bytes_as_it_asked_for() -> None:
    from ltunnel.config.assemble import aead_maker

    seen: list[bytes] = []
    descriptor = CipherDescriptor(
        options=NoOptions, wire_name="SHORT", key_size=16, create=lambda _options, key: seen.append(key)
    )
    aead_maker(Part("cipher_short", descriptor, NoOptions()))(bytes(range(32)))
    assert seen == [bytes(range(16))]


@pytest.mark.parametrize(
    ("wanted", "link", "header", "overhead", "expected"),
    [
        (1400, 1500, 20, 8, 1400),
        (1400, 1500, 40, 8, 1400),
        (1500, 1500, 20, 8, 1433),  # 1500 - IPv4 20 - UDP 8 - DATA 28 - bundle entry 11
        (1500, 1500, 40, 8, 1413),
        (65000, 9000, 20, 8, 8933),
        (1400, 1400, 20, 40, 1301),
    ],
)
def test_tunnel_mtu(wanted: int, link: int, header: int, overhead: int, expected: int) -> None:
    assert tunnel_mtu(wanted, link, header, overhead) == expected


def test_a_lowered_mtu_is_said() -> None:
    settings, notices = _settings(_client(mtu=1390), link_mtu=1420, remote=("2001:db8::1", 9000))
    assert settings.mtu == 1323
    assert notices == ("mtu: lowered from 1390 to 1323, which is what a link of 1420 carries",)


def test_the_default_mtu_is_lowered_without_a_word() -> None:
    """Nobody asked for just that number, and with the default transports an ordinary link carries 3 bytes less."""
    for fields in ({}, {"mtu": 1400}):
        settings, notices = _settings(_client(transport=DEFAULT_TRANSPORTS, **fields), remote=("192.0.2.1", 9000))
        assert (settings.mtu, notices) == (1397, ())


def test_shards_cost_ten_bytes() -> None:
    settings, _notices = _settings(_client(fec="none"), link_mtu=1420, remote=("2001:db8::1", 9000))
    assert (settings.mtu, settings.stack) == (1333, ("cipher=AESGCM",))


@pytest.mark.parametrize(
    ("fields", "mode", "pair"),
    [
        ({}, "auto", (10, 3)),
        ({"fec": "fec_rs"}, "auto", (10, 3)),
        ({"fec_data": 20, "fec_parity": 2}, "fixed", (20, 2)),
        ({"fec_parity": 5}, "fixed", (10, 5)),
        ({"fec_parity": 0}, "off", (10, 0)),
        ({"fec_parity": 0, "fec_mode": "auto"}, "off", (10, 0)),
        ({"fec_mode": "latency"}, "latency", (10, 3)),
        ({"fec_mode": "spread", "fec_data": 5, "fec_parity": 4}, "spread", (5, 4)),
        ({"fec_mode": "off"}, "off", (10, 3)),
    ],
)
def test_what_is_written_about_fec_is_done(fields: dict[str, Any], mode: str, pair: tuple[int, int]) -> None:
    config = _client(**fields)
    made = fec_settings(config, load_stack(config))
    assert made is not None
    codes, settings = made
    assert (codes.name, settings.mode.value, (settings.data, settings.parity)) == ("fec_rs", mode, pair)
    assert (settings.deadline, settings.target, settings.overhead) == (0.008, 0.001, 0.6)


def test_another_code_and_none() -> None:
    config = _client(fec="fec_xor", fec_deadline=20, fec_target=0.01, fec_overhead=0.3)
    made = fec_settings(config, load_stack(config))
    assert made is not None
    assert (made[0].name, made[0].wire_name) == ("fec_xor", "xor")
    assert (made[1].deadline, made[1].target, made[1].overhead) == (0.02, 0.01, 0.3)
    config = _client(fec="none", fec_data=10)
    assert fec_settings(config, load_stack(config)) is None
    assert "fec_data: not in effect with fec none" in config.notices()


def test_a_group_that_the_code_does_not_have_is_an_error() -> None:
    config = _client(fec="fec_xor", fec_data=2, fec_parity=3)
    with pytest.raises(ConfigError, match=r"^fec_parity: fec_xor has no code with 2 \+ 3 shards$"):
        fec_settings(config, load_stack(config))


def test_fec_rs_is_not_used_where_it_is_disabled() -> None:
    assert load_stack(_client(disable_plugins="fec_rs")).fec is None


def test_a_link_too_narrow_for_ipv6_in_the_tunnel_is_an_error() -> None:
    config = _client().model_copy(update={"tunnel_addr": Config(tunnel_addr="fd00::2/64").tunnel_addr})
    with pytest.raises(ConfigError, match=r"^mtu: a link of 1300 carries 1223, and IPv6 in the tunnel needs 1280$"):
        _settings(config, link_mtu=1300, remote=("192.0.2.1", 9000))
    with pytest.raises(ConfigError, match=r"^mtu: a link of 600 carries 523, and IPv4 in the tunnel needs 576$"):
        _settings(_client(), link_mtu=600, remote=("192.0.2.1", 9000))


def test_a_key_and_no_encryption_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"^cipher: crypto_plain does not encrypt, and a key is given"):
        load_stack(Config(key=KEY, cipher="crypto_plain"))
    with pytest.raises(ConfigError, match=r"^here.json: cipher: crypto_aesgcm needs a key"):
        load_stack(Config(cipher="crypto_aesgcm", source="here.json"))


def test_without_a_key_nothing_is_encrypted() -> None:
    settings, _notices = _settings(Config())
    assert (settings.cipher, settings.keys.keyed) == ("PLAIN", False)
