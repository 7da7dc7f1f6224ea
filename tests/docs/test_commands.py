"""Command lines and configurations in the documents are understood by the program."""

import json
import re
import shlex
import tomllib

import click
import pytest

from ltunnel.cli.arguments import FLAGS, normalise
from ltunnel.cli.root import root as program
from ltunnel.config import load, load_stack
from ltunnel.registry import Entries, Entry
from ltunnel_transport_tls.command import main as make_certificate
from ltunnel_transport_tls.options import TlsOptions

DOCUMENTS = ("README.md", "docs/guide.md", "docs/plugins.md", "examples/cipher_chacha/README.md")
ENTRIES = Entries(
    all=tuple(
        Entry(name=name, target=f"ltunnel_{name}", distribution=name, version="1")
        for name in ("transport_udp", "transport_marked", "cipher_chacha")
    )
)
FLAG_OF = {flag.name.replace("-", "_"): flag for flag in FLAGS}


def command_lines(document):
    """Give the words of each command line, in blocks and in the text, that starts ltunnel."""
    inline = re.findall(r"`(ltunnel [^`]+)`", document.text)
    indented = [line.strip() for line in document.text.splitlines() if line.startswith("    ")]
    for line in [*inline, *"\n".join([*document.blocks("sh"), *indented]).splitlines()]:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
            words.pop(0)
        if words and words[0].rpartition("/")[2] == "ltunnel" and "..." not in line:
            yield words[1:]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_command_lines(name, document):
    lines = list(command_lines(document(name)))
    assert lines
    for words in lines:
        words = ["hub:9000" if word == "HUB:PORT" else word for word in words]
        context = program.make_context("ltunnel", normalise(words))
        rest = [*context._protected_args, *context.args]
        if rest:
            check_subcommand(context, rest)
        elif not context.params.get("config"):
            check_tunnel(context.params, words)


def check_subcommand(context, rest):
    command = program
    while rest and isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, name
    if rest or not any(parameter.required for parameter in command.params):  # else it is only mentioned by name
        command.make_context(command.name, rest, parent=context)


def check_tunnel(given, words):
    overrides = {
        FLAG_OF[name].field: value
        for name, value in given.items()
        if value not in (None, False) and FLAG_OF[name].field is not None
    }
    if "mode" in overrides:  # a whole command line, not a flag that is being explained
        load(None, overrides, {}, entries=ENTRIES)
    else:
        assert words


def test_certificates(document, tmp_path, capsys):
    """What is written on `ltunnel-tls-cert` makes a certificate, and the lines that it prints are valid options."""
    for name in ("docs/guide.md", "plugins/transport_tls/README.md"):
        (line,) = re.findall(r"^`?(ltunnel-tls-cert --[^`\n]+)", document(name).text, re.MULTILINE)
        words = shlex.split(line)[1:]
        words[words.index("--out") + 1] = str(tmp_path / name.partition("/")[0])
        assert make_certificate(words) == 0
        printed = capsys.readouterr().out
        sections = [
            json.loads(f"{{{text}}}") for text in re.findall(r"^ +(\"transport_tls\": .*)$", printed, re.MULTILINE)
        ]
        assert [sorted(section["transport_tls"]) for section in sections] == [["cert", "key"], ["pin"]]
        for section in sections:
            TlsOptions.model_validate(section["transport_tls"])


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md"])
@pytest.mark.parametrize("kind", ["json", "toml"])
def test_configurations(name, kind, document, tmp_path):
    blocks = document(name).blocks(f"{kind} config")
    if name == "docs/guide.md" or kind == "json":
        assert blocks
    for block in blocks:
        file = tmp_path / f"config.{kind}"
        file.write_text(block)
        file.chmod(0o600)
        config = load(file, {}, {}, entries=ENTRIES)
        names = set(json.loads(block) if kind == "json" else tomllib.loads(block)) - config.plugin_options.keys()
        made = {"source", "remarks", "plugin_options", "transport"}
        assert config.model_fields_set - made == names - made
        load_stack(config)  # its sections are valid options of real plugins
        assert not config.notices()
