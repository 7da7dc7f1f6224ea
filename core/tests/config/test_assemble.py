from typing import Any

import pytest

from ltunnel.config import Config, control_settings, load_stack, network_keys, tunnel_mtu
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
    return Config(mode="client", remote_addr="hub.example:9000", tunnel_addr="10.0.0.2/24", key=KEY, **fields)


def test_settings_of_a_node() -> None:
    settings, notices = _settings(_client(name="alice", keepalive=5), remote=("192.0.2.1", 9000))
    assert settings.role is Role.NODE
    assert (settings.name, settings.network) == ("alice", "ltunnel")
    assert (settings.cipher, settings.stack) == ("AESGCM", ("cipher=AESGCM",))
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
    settings, notices = _settings(_client(), link_mtu=1420, remote=("2001:db8::1", 9000))
    assert settings.mtu == 1333
    assert notices == ("mtu: lowered from 1400 to 1333, which is what a link of 1420 carries",)


def test_a_link_too_narrow_for_ipv6_in_the_tunnel_is_an_error() -> None:
    config = _client().model_copy(update={"tunnel_addr": Config(tunnel_addr="fd00::2/64").tunnel_addr})
    with pytest.raises(ConfigError, match=r"^mtu: a link of 1300 carries 1233, and IPv6 in the tunnel needs 1280$"):
        _settings(config, link_mtu=1300, remote=("192.0.2.1", 9000))
    with pytest.raises(ConfigError, match=r"^mtu: a link of 600 carries 533, and IPv4 in the tunnel needs 576$"):
        _settings(_client(), link_mtu=600, remote=("192.0.2.1", 9000))


def test_a_key_and_no_encryption_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"^cipher: crypto_plain does not encrypt, and a key is given"):
        load_stack(Config(key=KEY, cipher="crypto_plain"))
    with pytest.raises(ConfigError, match=r"^here.json: cipher: crypto_aesgcm needs a key"):
        load_stack(Config(cipher="crypto_aesgcm", source="here.json"))


def test_without_a_key_nothing_is_encrypted() -> None:
    settings, _notices = _settings(Config())
    assert (settings.cipher, settings.keys.keyed) == ("PLAIN", False)
