import json
from pathlib import Path

import pytest

from ltunnel.config import load
from ltunnel.errors import ConfigError


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("from the key file\n")
    path.chmod(0o600)
    return path


def _config(folder: Path, **fields: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(fields))
    path.chmod(0o600)
    return path


def test_flags_then_file_then_environment(tmp_path: Path, key_file: Path) -> None:
    environ = {"LTUNNEL_KEY": "from the environment"}
    empty, keyed = _config(tmp_path), {"key": "from the file"}
    assert load(None, {}, {}).secret is None
    assert load(empty, {}, environ).secret == "from the environment"
    assert load(_config(tmp_path, **keyed), {}, environ).secret == "from the file"
    assert load(_config(tmp_path, key_file="key"), {}, environ).secret == "from the key file"
    assert load(_config(tmp_path, **keyed), {"key": "from a flag"}, environ).secret == "from a flag"
    assert load(_config(tmp_path, **keyed), {"key_file": str(key_file)}, environ).secret == "from the key file"
    assert load(_config(tmp_path, key_file="key"), {"key": "from a flag"}, {}).secret == "from a flag"


def test_an_ignored_variable_is_mentioned(tmp_path: Path) -> None:
    environ = {"LTUNNEL_KEY": "x"}
    path = _config(tmp_path, key="y")
    assert load(path, {}, environ).notices() == (f"LTUNNEL_KEY is ignored, since the key comes from {path}",)
    assert load(None, {"key": "y"}, environ).notices() == (
        "LTUNNEL_KEY is ignored, since the key comes from the flags",
    )
    assert load(None, {}, environ).notices() == ()


def test_an_empty_variable_is_an_error_and_not_no_encryption() -> None:
    with pytest.raises(ConfigError, match=r"^LTUNNEL_KEY: is empty; unset it to run without encryption$"):
        load(None, {}, {"LTUNNEL_KEY": ""})


def test_a_key_given_twice_in_one_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.json: key and key_file are both given; give one$"):
        load(_config(tmp_path, key="a", key_file="b"), {}, {})
    with pytest.raises(ConfigError, match=r"^the flags: key and key_file are both given; give one$"):
        load(None, {"key": "a", "key_file": "b"}, {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_file_for_all_to_read_is_an_error(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(None, {"key_file": str(key_file)}, {})
    assert str(caught.value) == (f"key_file {key_file}: can be read or changed by others; run: chmod 600 {key_file}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "should hold one line, the key"), (b"a\nb\n", "should hold one line, the key"), (b"\xff", "is not text"),
     (b"x" * 5000, "is larger than 4096 bytes")],
)  # fmt: skip
def test_key_files_that_hold_no_key(key_file: Path, content: bytes, reason: str) -> None:
    key_file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(None, {"key_file": str(key_file)}, {})
    assert str(caught.value) == f"key_file {key_file}: {reason}"


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key_file .*/none: cannot be read: No such file or directory$"):
        load(_config(tmp_path, key_file="none"), {}, {})


def test_a_file_with_a_key_that_others_can_read_has_a_notice(tmp_path: Path) -> None:
    path = _config(tmp_path, key="secret")
    path.chmod(0o644)
    assert load(path, {}, {}).notices() == (f"{path} holds the key and can be read by others; run: chmod 600 {path}",)
    path.chmod(0o600)
    assert load(path, {}, {}).notices() == ()
