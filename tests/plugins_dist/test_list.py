"""`ltunnel plugins list` and `info` with distributions that are broken in every way: each is shown, none does harm."""

import json
from collections.abc import Callable
from pathlib import Path

STATUSES = {
    "cipher_alias": "broken",
    "cipher_crash": "broken",
    "cipher_exit": "broken",
    "cipher_future": "incompatible",
    "cipher_good": "available",
    "cipher_idle": "broken",
    "cipher_import": "broken",
    "cipher_minor": "incompatible",
    "cipher_misspelt": "broken",
    "cipher_nameless": "broken",
    "cipher_needs": "broken",
    "cipher_noisy": "available",
    "cipher_raises": "broken",
    "cipher_signature": "broken",
    "cipher_twin": "conflict",
    "cipher_untyped": "broken",
    "crypto_aesgcm": "available",
    "crypto_plain": "available",
    "transport_udp": "available",
}


def _rows(text: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(text)}


def test_list_shows_every_plugin_with_its_status(ltunnel: Callable[..., object]) -> None:
    result = ltunnel("plugins", "list", "--json")
    assert result.returncode == 0
    assert result.stderr == ""
    rows = _rows(result.stdout)
    assert {name: row["status"] for name, row in rows.items() if name in STATUSES} == STATUSES
    assert rows["cipher_good"] == {
        "name": "cipher_good", "distribution": "cipher-good-dist", "version": "1.0", "status": "available",
        "reason": "", "selected": False, "kinds": ["cipher"], "api": "1.0", "summary": "a cipher for tests",
    }  # fmt: skip
    assert rows["cipher_crash"]["reason"] == "the process that loaded it was ended by signal 9"
    twins = [row for row in json.loads(result.stdout) if row["name"] == "cipher_twin"]
    assert [row["distribution"] for row in twins] == ["twin-one", "twin-two"]


def test_unreadable_metadata_of_one_distribution_hides_no_other(
    ltunnel: Callable[..., object], torn_site: Path
) -> None:
    result = ltunnel("plugins", "list", "--json", more=torn_site)
    assert result.returncode == 0
    assert _rows(result.stdout).keys() >= STATUSES.keys()


def test_list_for_people_has_a_line_for_each(ltunnel: Callable[..., object]) -> None:
    result = ltunnel("plugins", "list")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    for name, status in STATUSES.items():
        assert any(line.split()[0] == name and status in line for line in lines if line.strip()), name
    assert "\x1b" not in result.stdout, "no colours where there is no terminal"
    assert "hello from a plugin" not in result.stdout


def test_list_succeeds_when_what_is_selected_is_good(
    ltunnel: Callable[..., object], config: Callable[..., Path]
) -> None:
    result = ltunnel("plugins", "list", "--json", "-c", str(config("cipher_good", disable_plugins=["cipher_noisy"])))
    assert result.returncode == 0
    rows = _rows(result.stdout)
    assert rows["cipher_good"]["status"] == rows["transport_udp"]["status"] == "selected"
    assert rows["cipher_noisy"]["status"] == "disabled"
    assert rows["crypto_plain"]["status"] == "available"


def test_list_fails_when_what_is_selected_cannot_be_used(
    ltunnel: Callable[..., object], config: Callable[..., Path]
) -> None:
    expected = {
        "cipher_import": ("broken", "cannot be imported: RuntimeError: the moon is in the wrong house"),
        "cipher_twin": ("conflict", "provided more than once, by twin-one 1.0 and twin-two 2.0; uninstall all but one"),
        "cipher_none": ("broken", "not installed: no distribution provides it; did you mean cipher_noisy?"),
        "transport_udp": ("broken", "selected as cipher, but provides transport"),
    }  # fmt: skip
    for name, (status, reason) in expected.items():
        result = ltunnel("plugins", "list", "--json", "-c", str(config(name)))
        assert result.returncode == 1, name
        row = _rows(result.stdout)[name]
        assert (row["status"], row["reason"], row["selected"]) == (status, reason, True)


def test_list_fails_for_options_that_the_plugin_does_not_take(
    ltunnel: Callable[..., object], config: Callable[..., Path]
) -> None:
    result = ltunnel("plugins", "list", "--json", "-c", str(config("cipher_good", cipher_good={"rounds": 0})))
    assert result.returncode == 1
    row = _rows(result.stdout)["cipher_good"]
    assert row["status"] == "broken"
    assert row["reason"] == "cipher_good.rounds: Input should be greater than or equal to 1 (got 0)"


def test_info_shows_options(ltunnel: Callable[..., object]) -> None:
    result = ltunnel("plugins", "info", "cipher_good", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["options"] == [
        {
            "name": "rounds", "type": "integer", "default": 3, "required": False, "bounds": ">= 1, < 128",
            "meaning": "how often to do it",
        }
    ]  # fmt: skip
    table = ltunnel("plugins", "info", "cipher_good").stdout
    for word in ("cipher-good-dist 1.0", "rounds", "integer", ">= 1, < 128", "how often to do it"):
        assert word in table


def test_info_of_a_broken_plugin_says_why(ltunnel: Callable[..., object]) -> None:
    result = ltunnel("plugins", "info", "cipher_exit")
    assert result.returncode == 1
    assert "cannot be imported: SystemExit: 0" in result.stdout


def test_info_of_an_unknown_plugin_is_an_error(ltunnel: Callable[..., object]) -> None:
    result = ltunnel("plugins", "info", "cipher_godo")
    assert result.returncode == 2
    assert result.stderr.startswith("ltunnel: plugin cipher_godo: not installed")
    assert "did you mean cipher_good?" in result.stderr
    assert result.stderr.count("\n") == 1
