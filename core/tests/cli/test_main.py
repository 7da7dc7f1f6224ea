import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltunnel import __version__
from ltunnel.cli.main import main
from ltunnel.config import Config
from ltunnel.errors import HostError


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Return the configurations that would have been run."""
    configs: list[Config] = []
    daemon = types.ModuleType("ltunnel.runtime.daemon")

    def serve(config: Config, read: Callable[[], Config] | None) -> int:
        configs.append(config)
        assert read is None or read() == config
        return 0

    daemon.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ltunnel.runtime.daemon", daemon)
    monkeypatch.delenv("LTUNNEL_KEY", raising=False)
    return configs


def _failure(capsys: pytest.CaptureFixture[str], arguments: str, code: int = 2) -> str:
    """Run, expect an exit code and one line on stderr, and return the line."""
    assert main(arguments.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ltunnel: ")
    assert err.count("\n") == 1
    return err.removeprefix("ltunnel: ").rstrip("\n")


def test_the_documented_server_line(served: list[Config]) -> None:
    assert main(["-m", "server", "-l", "0.0.0.0:9000", "-t", "10.0.0.1/24", "-k", "KEY"]) == 0
    (config,) = served
    assert (config.is_hub, config.local_addr, str(config.tunnel_addr[0])) == (True, ("0.0.0.0", 9000), "10.0.0.1/24")
    assert config.secret == "KEY"


def test_the_documented_client_line(served: list[Config]) -> None:
    assert (
        main(
            [
                "-m",
                "client",
                "-r",
                "HUB:9000",
                "-t",
                "10.0.0.2/24",
                "-k",
                "KEY",
                "-p2p",
                "-mtu",
                "1300",
                "-multi-client=false",
            ]
        )
        == 0
    )
    (config,) = served
    assert (config.is_hub, config.remote_addr, config.mtu, config.multi_client) == (False, ("HUB", 9000), 1300, False)
    assert config.notices() == ()


def test_every_flag_arrives_at_its_field(served: list[Config], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from a file")
    key.chmod(0o600)
    line = (
        f"-m server -l [::]:53 -t 10.9.0.1/16,fd00::1/64 -key-file {key} -name box -network lan -mtu 1350 "
        "-tun-name lt7 -multi-client -max-clients 3 -client-isolation -send-queue 7 -recv-queue 8 "
        "-transport transport_udp -cipher crypto_aesgcm -log-level debug -log-format json "
        "-fec-data 20 -fec-parity 2 -p2p=false -p2p-port 4000 "
        "-mesh-routing=false -max-hops 2 -route-update 5"
    )
    assert main(line.split()) == 0
    (config,) = served
    expected: dict[str, Any] = {
        "name": "box", "network": "lan", "mtu": 1350, "tun_name": "lt7", "multi_client": True, "max_clients": 3,
        "client_isolation": True, "send_queue_size": 7, "recv_queue_size": 8, "transport": ("transport_udp",),
        "cipher": "crypto_aesgcm", "log_level": "debug", "log_format": "json", "fec_data": 20, "fec_parity": 2,
        "p2p_enabled": False, "p2p_port": 4000, "enable_mesh_routing": False, "max_hops": 2,
        "route_update_interval": 5.0, "local_addr": ("::", 53), "key_file": str(key),
    }  # fmt: skip
    assert config.model_dump(include=set(expected)) == expected
    assert list(map(str, config.tunnel_addr)) == ["10.9.0.1/16", "fd00::1/64"]
    assert config.secret == "from a file"


def test_flags_change_what_the_file_says(served: list[Config], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"mtu": 1200, "max_clients": 4}))
    assert main(["-c", str(path), "-mtu", "1300"]) == 0
    assert (served[0].mtu, served[0].max_clients, served[0].source) == (1300, 4, str(path))


def test_the_exit_code_is_that_of_the_run(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["ltunnel.runtime.daemon"], "serve", lambda _config, _read: 3)
    assert main(["-m", "server"]) == 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("-m client -t 10.0.0.2/24", "remote_addr: is needed in client mode: where is the server? (-r HOST:PORT)"),
        ("-mtu 5", '-mtu: Input should be greater than or equal to 576 (got "5")'),
        ("-send-queue x",
         '-send-queue: Input should be a valid integer, unable to parse string as an integer (got "x")'),
        ("-m=sever", "-m: Input should be 'server' or 'client' (got \"sever\")"),
        ("-t 10.0.0.1", '-t: should have a prefix length: 10.0.0.1/24 (got "10.0.0.1")'),
        ("-multi-client=maybe",
         '-multi-client: Input should be a valid boolean, unable to interpret input (got "maybe")'),
        ("-c /nowhere/x.json", "/nowhere/x.json: cannot be read: No such file or directory"),
        ("-mtuu 5", "No such option '--mtuu'. Did you mean '--mtu'? (see ltunnel --help)"),
        ("-k", "Option '--key' requires an argument. (see ltunnel --help)"),
        ("server", "No such command 'server'. (see ltunnel --help)"),
        ("-m server status", "flags of status go behind it (see ltunnel --help)"),
        ("status extra", "Got unexpected extra argument (extra) (see ltunnel --help)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    served: list[Config], capsys: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    assert _failure(capsys, arguments) == line
    assert served == []


def test_errors_of_the_run_are_one_line(
    served: list[Config], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(_config: Config, _read: object) -> int:
        raise HostError("/dev/net/tun is missing:\nload the module with `modprobe tun`")

    monkeypatch.setattr(sys.modules["ltunnel.runtime.daemon"], "serve", serve)
    assert _failure(capsys, "-m server") == "/dev/net/tun is missing: load the module with `modprobe tun`"


def test_an_interrupted_run_is_not_an_error_message(
    served: list[Config], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(_config: Config, _read: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["ltunnel.runtime.daemon"], "serve", serve)
    assert main(["-m", "server"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_without_anything_help_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("--tunnel-addr", "-t", "own address in the tunnel", "(default: 1400)", "genkey", "plugins", "status"):
        assert word in err
    assert "--fec-data" in err
    assert "--max-hops" in err


def test_help_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == main(["-help"]) == main(["--help"]) == 0
    assert "--tunnel-addr" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v"]) == 0
    assert capsys.readouterr().out == f"ltunnel {__version__}\n"


def test_genkey_makes_keys_that_are_taken(served: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genkey"]) == main(["genkey"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    assert main(["keycheck", "-k", first]) == main(["keycheck", "-k", first]) == main(["keycheck", "-k", second]) == 0
    checks = capsys.readouterr().out.split()
    assert checks[0] == checks[1] != checks[2]
    assert [len(check) for check in checks] == [4, 4, 4]


def test_keycheck_takes_the_key_from_where_the_program_does(
    served: list[Config], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = "ab" * 32
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"mode": "client", "remote_addr": "h:1", "tunnel_addr": "10.0.0.2/24", "key": key}))
    assert main(["keycheck", "-k", key]) == main(["keycheck", "-c", str(path)]) == 0
    monkeypatch.setenv("LTUNNEL_KEY", key)
    assert main(["keycheck"]) == 0
    assert main(["keycheck", "-network", "another"]) == 0
    checks = capsys.readouterr().out.split()
    assert checks[0] == checks[1] == checks[2] != checks[3]


def test_keycheck_without_a_key(served: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    assert _failure(capsys, "keycheck") == "no key: give -k, -key-file, -c or LTUNNEL_KEY"


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    code = "from ltunnel.cli.main import run; run()"
    command = f"{sys.executable} -c '{code}' plugins list --json | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert result.stderr == ""


def test_the_program_stays_small_until_a_command_needs_more(tmp_path: Path) -> None:
    code = (
        "import sys; from ltunnel.cli.main import main; main(['-m', 'client']);"
        "print([name for name in ('rich.console', 'numpy', 'multiprocessing', 'ltunnel.registry.survey', 'pip')"
        " if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "[]\n"
