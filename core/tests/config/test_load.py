import json
from collections.abc import Callable, Mapping
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from ltunnel.config import Config, load
from ltunnel.errors import ConfigError

Write = Callable[..., Path]

CLIENT = {"mode": "client", "remote_addr": "hub.example:9000", "tunnel_addr": "10.0.0.2/24"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(content: Mapping[str, Any] | str, name: str = "config.json", mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        path.chmod(mode)
        return path

    return put


def _error(path: Path | None, overrides: Mapping[str, Any] | None = None, **options: Any) -> str:
    """Load, expect an error, and return its text with the file's folder cut off."""
    with pytest.raises(ConfigError) as caught:
        load(path, overrides or {}, options.pop("environ", {}), **options)
    text = str(caught.value)
    assert "\n" not in text
    return text if path is None else text.replace(f"{path.parent}/", "")


def test_the_documented_server_file_works(write: Write) -> None:
    config = load(
        write(
            """{
              "mode": "server", "local_addr": "0.0.0.0:9000", "tunnel_addr": "10.0.0.1/24", "key": "your-secret-key",
              "mtu": 1400, "fec_data": 10, "fec_parity": 3, "timeout": 30, "keepalive": 10, "send_queue_size": 1000,
              "recv_queue_size": 1000, "multi_client": true, "max_clients": 100, "client_isolation": false
            }"""
        ),
        {},
        {},
    )
    assert config.is_hub
    assert config.local_addr == ("0.0.0.0", 9000)
    assert config.tunnel_addr == (ip_interface("10.0.0.1/24"),)
    assert config.secret == "your-secret-key"
    assert (config.transport, config.cipher) == (("transport_faketcp", "transport_udp"), "crypto_aesgcm")
    assert config.notices() == ()


def test_the_documented_client_file_works(write: Write) -> None:
    config = load(
        write(
            """{
              "mode": "client", "remote_addr": "192.0.2.1:9000", "tunnel_addr": "10.0.0.2/24",
              "key": "your-secret-key", "mtu": 1400, "fec_data": 10, "fec_parity": 3, "timeout": 30, "keepalive": 10,
              "send_queue_size": 1000, "recv_queue_size": 1000, "p2p_enabled": true, "p2p_port": 0,
              "enable_mesh_routing": true, "max_hops": 3, "route_update_interval": 30
            }"""
        ),
        {},
        {},
    )
    assert not config.is_hub
    assert config.remote_addr == ("192.0.2.1", 9000)
    assert (config.enable_mesh_routing, config.max_hops, config.route_update_interval) == (True, 3, 30.0)
    assert config.notices() == ()


def test_defaults_are_the_documents(write: Write) -> None:
    config = load(write({}), {}, {})
    assert config.model_dump(include={"mtu", "timeout", "keepalive", "max_clients", "multi_client", "tun_name"}) == {
        "mtu": 1400, "timeout": 30.0, "keepalive": 10.0, "max_clients": 100, "multi_client": True, "tun_name": "ltun0",
    }  # fmt: skip
    assert config.cipher == "crypto_plain"
    assert config.name
    assert config.notices() == ()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"mtu": "x"}, 'mtu: Input should be a valid integer, unable to parse string as an integer (got "x")'),
        ({"mtu": True}, "mtu: Input should be a number (got true)"),
        ({"mtu": 575}, "mtu: Input should be greater than or equal to 576 (got 575)"),
        ({"mtu": 65001}, "mtu: Input should be less than or equal to 65000 (got 65001)"),
        ({"mode": "sever"}, "mode: Input should be 'server' or 'client' (got \"sever\")"),
        ({"mtuu": 1}, "mtuu: is neither a field nor an installed plugin; did you mean mtu?"),
        ({"transport_upd": {}},
         "transport_upd: is neither a field nor an installed plugin; did you mean transport_udp?"),
        ({"zzz": 1}, "zzz: is neither a field nor an installed plugin"),
        ({"plugin_options": {}}, "plugin_options: is neither a field nor an installed plugin"),
        ({"transport_udp": 3}, "transport_udp: should be an object with the plugin's options (got 3)"),
        ({"local_addr": "9000"}, 'local_addr: should end in a port, such as 192.0.2.1:9000 (got "9000")'),
        ({"local_addr": "hub.example:9000"},
         "local_addr: should be a numeric address of this machine and a port, such as 0.0.0.0:9000 "
         '(got "hub.example:9000")'),
        ({"local_addr": "::1:9000"},
         'local_addr: should have brackets around the IPv6 address, such as [2001:db8::1]:9000 (got "::1:9000")'),
        ({"local_addr": "0.0.0.0:0"}, 'local_addr: should end in a port between 1 and 65535 (got "0.0.0.0:0")'),
        ({"local_addr": "0.0.0.0:70000"}, 'local_addr: should end in a port between 1 and 65535 (got "0.0.0.0:70000")'),
        ({**CLIENT, "remote_addr": "1.2.3:9000"},
         'remote_addr: should be a host and a port, such as hub.example:9000 (got "1.2.3:9000")'),
        ({**CLIENT, "remote_addr": "-x.example:9000"},
         'remote_addr: should be a host and a port, such as hub.example:9000 (got "-x.example:9000")'),
        ({**CLIENT, "remote_addr": "[1.2.3.4]:9000"},
         'remote_addr: has brackets, which only go around IPv6 addresses (got "[1.2.3.4]:9000")'),
        ({**CLIENT, "remote_addr": "[fe80::1%eth0]:9000"},
         'remote_addr: should be an address without a zone (got "[fe80::1%eth0]:9000")'),
        ({"mode": "client", "tunnel_addr": "10.0.0.2/24"},
         "remote_addr: is needed in client mode: where is the server? (-r HOST:PORT)"),
        ({"mode": "client", "remote_addr": "h:1"},
         "tunnel_addr: is needed: the own address in the tunnel (-t 10.0.0.2/24)"),
        ({"tunnel_addr": "10.0.0.1"}, 'tunnel_addr: should have a prefix length: 10.0.0.1/24 (got "10.0.0.1")'),
        ({"tunnel_addr": "fd00::1"}, 'tunnel_addr: should have a prefix length: fd00::1/64 (got "fd00::1")'),
        ({"tunnel_addr": "10.0.0.1/33"},
         'tunnel_addr: should be an address with a prefix length, such as 10.0.0.2/24 (got "10.0.0.1/33")'),
        ({"tunnel_addr": 10}, "tunnel_addr: should be an address with a prefix length, such as 10.0.0.2/24 (got 10)"),
        ({"tunnel_addr": "10.0.0.0/24"},
         'tunnel_addr: should be the address of one machine, and 10.0.0.0 is the network 10.0.0.0/24 itself '
         '(got "10.0.0.0/24")'),
        ({"tunnel_addr": "10.0.0.255/24"},
         "tunnel_addr: should be the address of one machine, and 10.0.0.255 is the broadcast address of 10.0.0.0/24 "
         '(got "10.0.0.255/24")'),
        ({"tunnel_addr": "127.0.0.1/8"},
         'tunnel_addr: should be the address of one machine, and 127.0.0.1 is a loopback address (got "127.0.0.1/8")'),
        ({"tunnel_addr": "fe80::1/64"},
         'tunnel_addr: should be the address of one machine, and fe80::1 is a link-local address (got "fe80::1/64")'),
        ({"tunnel_addr": ["10.0.0.1/24", "10.0.1.1/24"]},
         'tunnel_addr: should hold at most one IPv4 and one IPv6 address (got ["10.0.0.1/24", "10.0.1.1/24"])'),
        ({"tunnel_addr": "fd00::1/64", "mtu": 1279},
         "mtu: should be at least 1280 with an IPv6 tunnel_addr (got 1279)"),
        ({"routes": 7}, "routes: should be networks, such as 192.168.7.0/24 (got 7)"),
        ({"routes": "x/24"}, 'routes: should be networks, such as 192.168.7.0/24 (got "x/24")'),
        ({"routes": [7]}, "routes: should be networks, such as 192.168.7.0/24 (got [7])"),
        ({"routes": ""}, 'routes: should be networks, such as 192.168.7.0/24 (got "")'),
        ({"routes": "192.168.7.0"}, 'routes: should have a prefix length: 192.168.7.0/24 (got "192.168.7.0")'),
        ({"routes": "2001:db8:7::"}, 'routes: should have a prefix length: 2001:db8:7::/64 (got "2001:db8:7::")'),
        ({"routes": "2001:db8::%eth0/64"},
         'routes: should be networks, such as 192.168.7.0/24 (got "2001:db8::%eth0/64")'),
        ({"routes": "192.168.7.1/24"},
         'routes: should have no bits behind the prefix: 192.168.7.0/24 (got "192.168.7.1/24")'),
        ({"routes": "0.0.0.0/0"},
         'routes: should be networks with machines in them, and 0.0.0.0/0 is everything (got "0.0.0.0/0")'),
        ({"routes": ["::/0"]},
         'routes: should be networks with machines in them, and ::/0 is everything (got ["::/0"])'),
        ({"routes": "192.0.0.0/2"},
         "routes: should be networks with machines in them, and 192.0.0.0/2 overlaps 224.0.0.0/3, which is behind no "
         'machine (got "192.0.0.0/2")'),
        ({"routes": "127.1.0.0/16"},
         "routes: should be networks with machines in them, and 127.1.0.0/16 overlaps 127.0.0.0/8, which is behind no "
         'machine (got "127.1.0.0/16")'),
        ({"routes": "fe80::/64"},
         "routes: should be networks with machines in them, and fe80::/64 overlaps fe80::/10, which is behind no "
         'machine (got "fe80::/64")'),
        ({"routes": ["192.168.0.0/16", "192.168.7.0/24"]},
         "routes: should not overlap, and 192.168.0.0/16 and 192.168.7.0/24 do "
         '(got ["192.168.0.0/16", "192.168.7.0/24"])'),
        ({"routes": "192.168.7.0/24,192.168.7.0/24"},
         "routes: should not overlap, and 192.168.7.0/24 and 192.168.7.0/24 do "
         '(got "192.168.7.0/24,192.168.7.0/24")'),
        ({"routes": ["10.0.0.0/8"]}, "routes: 10.0.0.0/8 overlaps the tunnel's own network, 10.0.0.0/24"),
        ({"routes": "2001:db8:7::/48"}, "routes: 2001:db8:7::/48 needs an IPv6 address in tunnel_addr"),
        ({"tunnel_addr": "fd00::1/64", "routes": "192.168.7.0/24"},
         "routes: 192.168.7.0/24 needs an IPv4 address in tunnel_addr"),
        ({"accept_routes": True},
         "accept_routes: should be all, none, or networks such as 192.168.7.0/24 (got true)"),
        ({"accept_routes": ["all"]}, 'accept_routes: should be "all" without a list, or networks (got ["all"])'),
        ({"accept_routes": "10.1.2.3/8"},
         'accept_routes: should have no bits behind the prefix: 10.0.0.0/8 (got "10.1.2.3/8")'),
        ({"masquerade": "perhaps"},
         'masquerade: Input should be a valid boolean, unable to interpret input (got "perhaps")'),
        ({"keepalive": 30}, "keepalive: should be less than timeout, 30 s (got 30)"),
        ({"timeout": "NaN"}, 'timeout: Input should be greater than 0 (got "NaN")'),
        ({"timeout": 0}, "timeout: Input should be greater than 0 (got 0)"),
        ({"max_clients": 0}, "max_clients: Input should be greater than or equal to 1 (got 0)"),
        ({"multi_client": "perhaps"},
         'multi_client: Input should be a valid boolean, unable to interpret input (got "perhaps")'),
        ({"name": "a\nb"},
         'name: should be 1 to 63 bytes of printable text, without a blank at either end (got "a\\nb")'),
        ({"name": "x" * 64},
         f'name: should be 1 to 63 bytes of printable text, without a blank at either end (got "{"x" * 59}…)'),
        ({"tun_name": "sixteen-letters-"},
         "tun_name: should be the name of a device: 1 to 15 letters, digits, '-', '_' or '.' "
         '(got "sixteen-letters-")'),
        ({"tun_name": "a/b"},
         "tun_name: should be the name of a device: 1 to 15 letters, digits, '-', '_' or '.' (got \"a/b\")"),
        ({"tun_name": "lt%d"},
         "tun_name: should be the name of a device: 1 to 15 letters, digits, '-', '_' or '.' (got \"lt%d\")"),
        ({"transport": []}, "transport: should name at least one plugin"),
        (
            {"transport": ["a", "a"]},
            'transport: should not name a transport twice; give one a label: transport_faketcp:udp (got ["a", "a"])',
        ),
        ({"transport": "Transport-UDP"},
         'transport: should be the name of a plugin, such as transport_udp (got "Transport-UDP")'),
        ({"cipher": 1}, "cipher: should be the name of a plugin, such as transport_udp (got 1)"),
        ({"fec_data": 250, "fec_parity": 10}, "fec_parity: should be at most 5 with fec_data 250"),
        ({"p2p_port": 65536}, "p2p_port: Input should be less than or equal to 65535 (got 65536)"),
        ({"key": ""}, "key: is empty; leave it out to run without encryption"),
        ({"key": 12345}, "key: Input should be a valid string"),
        ({"log_level": "loud"}, "log_level: Input should be 'debug', 'info', 'warning' or 'error' (got \"loud\")"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_value(write: Write, fields: Mapping[str, Any], complaint: str) -> None:
    assert _error(write(fields)) == f"config.json: {complaint}"


def test_at_most_so_many_networks_are_offered(write: Write) -> None:
    networks = [f"192.168.{number}.0/24" for number in range(25)]
    assert len(load(write({"routes": networks[:24]}), {}, {}).routes) == 24
    assert _error(write({"routes": networks})).startswith("config.json: routes: should hold at most 24 networks (got ")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("none", []),
        ([], []),
        ("192.168.7.0/24", ["192.168.7.0/24"]),
        ("192.168.7.0/24, 172.16.0.0/12", ["192.168.7.0/24", "172.16.0.0/12"]),
        (["192.168.7.20/32", "2001:db8:7::/48"], ["192.168.7.20/32", "2001:db8:7::/48"]),
    ],
)
def test_networks_behind_this_machine(write: Write, written: object, expected: list[str]) -> None:
    file = write({"tunnel_addr": "10.0.0.1/24,fd00::1/64", "routes": written})
    assert load(file, {}, {}).routes == tuple(map(ip_network, expected))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("all", ["0.0.0.0/0", "::/0"]),
        ("none", []),
        ([], []),
        ("192.168.0.0/16,192.168.7.0/24", ["192.168.0.0/16", "192.168.7.0/24"]),
        (["0.0.0.0/0"], ["0.0.0.0/0"]),
    ],
)
def test_networks_that_are_accepted(write: Write, written: object, expected: list[str]) -> None:
    assert load(write({"accept_routes": written}), {}, {}).accept_routes == tuple(map(ip_network, expected))


def test_a_flag_takes_back_what_the_file_offers(write: Write) -> None:
    file = write({"routes": ["192.168.7.0/24"], "accept_routes": "all"})
    config = load(file, {"routes": "none", "accept_routes": "none"}, {})
    assert (config.routes, config.accept_routes) == ((), ())


def test_several_wrong_fields_are_one_line(write: Write) -> None:
    text = _error(write({"mtu": 1, "max_clients": 0, "timeout": -1, "keepalive": "x", "mode": 5}))
    assert text.count("config.json: ") == 3
    assert text.endswith("; and 2 more")


def test_a_key_is_never_shown(write: Write) -> None:
    for fields in ({"key": ["hunter2"]}, {"key": "hunter2", "mtu": 1}, {"key": "hunter2", "cipher": 3}):
        assert "hunter2" not in _error(write(fields))
    assert "hunter2" not in repr(load(write({"key": "hunter2"}), {}, {}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"mtu": 1400,\n  mode: "client"}',
         "line 2 column 3: Expecting property name enclosed in double quotes"),
        ('{"mtu": 1400', "line 1 column 13: Expecting ',' delimiter"),
        ("", "line 1 column 1: Expecting value"),
        ('{"mtu": 1300, "mtu": 1400}', "mtu: is written twice"),
        ('{"transport_udp": {"a": 1, "a": 2}}', "a: is written twice"),
        ('{"mtu": NaN}', "NaN is not JSON"),
        ("[1, 2]", "should be an object: { ... }"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)  # fmt: skip
def test_bad_json_is_one_line_with_its_place(write: Write, text: str, complaint: str) -> None:
    assert _error(write(text)) == f"config.json: {complaint}"


def test_toml_by_extension(write: Write) -> None:
    path = write('mode = "client"\nremote_addr = "[2001:db8::1]:9000"\ntunnel_addr = ["10.0.0.2/24", "fd00::2/64"]\n'
                 'key = "k"\n[transport_udp]\n', "config.toml")  # fmt: skip
    config = load(path, {}, {})
    assert config.remote_addr == ("2001:db8::1", 9000)
    assert str(config.remote_addr) == "[2001:db8::1]:9000"
    assert config.tunnel_addr == (ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64"))
    assert config.plugin_options == {"transport_udp": {}}
    assert _error(write("mtu = 1\nmtu = 2\n", "config.toml")).startswith(
        "config.toml: Cannot overwrite a value (at line 2"
    )
    assert _error(write("mtu: 1\n", "config.toml")).startswith("config.toml: Expected '='")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert _error(tmp_path / "none.json") == "none.json: cannot be read: No such file or directory"
    folder = tmp_path / "folder"
    folder.mkdir()
    assert _error(folder) == "folder: cannot be read: Is a directory"
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"mtu": 1400,\n"name": "caf\xe9"}')
    assert _error(latin) == "latin.json: line 2: is not UTF-8"
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (1 << 20) + b"{}")
    assert _error(large) == "large.json: is larger than 1048576 bytes"


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    path.write_bytes(b'\xef\xbb\xbf{"mtu": 1300}')
    assert load(path, {}, {}).mtu == 1300


def test_flags_go_before_the_file_and_are_blamed_by_name(write: Write) -> None:
    path = write({"mtu": 1200, "max_clients": 5})
    config = load(path, {"mtu": "1300"}, {}, flags={"mtu": "-mtu"})
    assert (config.mtu, config.max_clients) == (1300, 5)
    assert _error(path, {"mtu": "12"}, flags={"mtu": "-mtu"}) == (
        '-mtu: Input should be greater than or equal to 576 (got "12")'
    )


def test_null_in_the_file_is_the_default(write: Write) -> None:
    assert load(write({"mtu": None, "remote_addr": None}), {}, {}).mtu == 1400


@pytest.mark.parametrize(
    ("text", "expected"),
    [(":9000", ("::", 9000)), ("[::]:9000", ("::", 9000)), ("192.0.2.1:53", ("192.0.2.1", 53))],
)
def test_where_to_listen(text: str, expected: tuple[str, int]) -> None:
    assert Config(local_addr=text).local_addr == expected


def test_options_of_plugins_that_are_not_selected_have_a_notice(write: Write) -> None:
    config = load(write({"key": "k", "crypto_plain": {}}), {}, {})
    assert config.notices() == ("crypto_plain: its options are not in effect, since the plugin is not selected",)


@pytest.mark.parametrize(
    ("fields", "notices"),
    [
        ({"p2p_enabled": False, "enable_mesh_routing": False, "fec_parity": 0, "tls_enabled": False}, ()),
        ({"tls_enabled": True, "tls_cert_file": "a.crt"}, ()),
        ({"tls_cert_file": "a.crt"}, ("tls_cert_file: not in effect without tls_enabled",)),
        ({"tls_enabled": True, "tls_skip_verify": True}, ("tls_skip_verify: not in effect in server mode",)),
        ({**CLIENT, "tls_enabled": True, "tls_key_file": "k"}, ("tls_key_file: not in effect in client mode",)),
        ({"remote_addr": "h:1"}, ("remote_addr: not in effect in server mode",)),
        ({"remote_addr": ""}, ()),
        ({"p2p_port": 4000}, ("p2p_port: not in effect in server mode",)),
        ({**CLIENT, "p2p_port": 4000, "routing": "none"}, ()),
        ({**CLIENT, "p2p_enabled": False, "discovery": "d"}, ("discovery: not in effect without p2p_enabled",)),
        ({**CLIENT, "max_hops": 2}, ()),
        ({**CLIENT, "max_hops": 2, "p2p_enabled": False}, ("max_hops: not in effect without p2p_enabled",)),
        ({**CLIENT, "max_hops": 2, "routing": "none"}, ("max_hops: not in effect with routing none",)),
        (
            {**CLIENT, "route_update_interval": 5, "enable_mesh_routing": False},
            ("route_update_interval: not in effect without enable_mesh_routing",),
        ),
        ({"enable_mesh_routing": True}, ("enable_mesh_routing: not in effect in server mode",)),
        ({"masquerade": False}, ("masquerade: not in effect without routes",)),
        ({"masquerade": True, "routes": "none"}, ("masquerade: not in effect without routes",)),
        ({**CLIENT, "masquerade": False, "routes": ["192.168.7.0/24"]}, ()),
        ({**CLIENT, "local_addr": ":9000"}, ("local_addr: not in effect in client mode",)),
    ],
)  # fmt: skip
def test_what_is_not_in_effect_is_said(write: Write, fields: Mapping[str, Any], notices: tuple[str, ...]) -> None:
    assert load(write(fields), {}, {}).notices() == notices


def test_names_differ_where_host_names_do_not(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "vm")
    assert load(write({}), {}, {}).name == "vm"
    assert load(write({**CLIENT, "tunnel_addr": "10.0.0.7/24"}), {}, {}).name == "vm-10.0.0.7"
    monkeypatch.setattr("socket.gethostname", lambda: "ä" * 64)
    name = load(write({**CLIENT, "tunnel_addr": "fd00::7/64"}), {}, {}).name
    assert name.endswith("-fd00::7")
    assert len(name.encode()) <= 63
