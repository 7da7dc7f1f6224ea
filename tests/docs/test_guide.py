"""The users' guide against the program: fields, flags, commands, status, reasons of drops, events, exit codes."""

import ast
import json
import re
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
import pytest

import ltunnel_transport_faketcp
import ltunnel_transport_tls
from ltunnel.cli import main as cli_main
from ltunnel.cli.arguments import FLAGS
from ltunnel.cli.root import root as program
from ltunnel.config.fields import HostPort
from ltunnel.config.model import INTERNAL, Config, Mode
from ltunnel.control.candidates import Standing
from ltunnel.control.events import Level
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecSettings
from ltunnel.registry import read_entries
from ltunnel.runtime.tunnel_routes import METRIC, PROTOCOL
from ltunnel.session import Drop
from ltunnel.testing import World
from ltunnel_crypto_aesgcm import ltunnel_cipher
from ltunnel_fec_rs import ltunnel_fec
from ltunnel_transport_udp import ltunnel_transport

FIELDS = {name: field for name, field in Config.model_fields.items() if name not in INTERNAL}
SOURCE = Path(cli_main.__file__).parents[1]


def fields(guide):
    """Return (flag, default, meaning) by field."""
    return {cells[0].strip("`"): cells[1:] for cells in guide.section("Configuration").rows("field")}


def written(value):
    """Return a value as it is written in a configuration."""
    if value is None:
        return "none"
    if isinstance(value, HostPort):
        value = str(value)
    elif isinstance(value, Enum):
        value = value.value
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


def test_every_field_is_there_and_no_other(guide):
    assert set(fields(guide)) == set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_flag_default_and_bounds(name, guide):
    flag, default, meaning = fields(guide)[name]
    spelling = next((flag.spelling for flag in FLAGS if flag.field == name), None)
    assert flag == (f"`{spelling}`" if spelling else "")
    field = FIELDS[name]
    if field.default_factory is None:
        assert default == written(field.default)
    for bound in field.metadata:
        for limit in ("ge", "gt", "le", "lt"):
            number = getattr(bound, limit, None)
            if number:
                assert re.search(rf"\b{number:g}\b" if number < 100_000 else rf"\b{number}\b", meaning), number


def test_defaults_that_are_made(guide):
    """Fields whose default depends on others, or on the machine."""
    made = {name for name, field in FIELDS.items() if field.default_factory is not None}
    assert made == {"tunnel_addr", "name", "cipher"}
    table = fields(guide)
    hub = Config.model_validate({"mode": "server"})
    assert table["tunnel_addr"][1] == f"{written(str(hub.tunnel_addr[0]))} on a server"
    keyed = Config.model_validate({"mode": Mode.SERVER, "key": "x"})
    assert table["cipher"][1] == f"{written(keyed.cipher)}, without a key {written(hub.cipher)}"
    assert table["name"][1] == "the host's name, on a client with its address"
    client = {"mode": Mode.CLIENT, "remote_addr": "h:1", "tunnel_addr": "10.0.0.2/24"}
    assert Config.model_validate(client).name == f"{hub.name}-10.0.0.2"


def test_flags_that_are_no_field(guide):
    text = guide.section("Configuration").text
    (line,) = re.findall(r"^Flags that are no field: (.*)$", text, re.MULTILINE)
    assert re.findall(r"`(-\w)", line) == [flag.spelling for flag in FLAGS if flag.field is None]


def test_environment(guide):
    used = set()
    for path in SOURCE.rglob("*.py"):
        used |= set(re.findall(r"\"(LTUNNEL_[A-Z_]+)\"", path.read_text()))
    assert set(guide.section("Configuration").words("environment variable")) == used


def commands(group, context, prefix=""):
    """Give each subcommand with its name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, context, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_commands_and_their_options(guide):
    rows = {cells[0].strip("`").removeprefix("ltunnel "): cells for cells in guide.section("Commands").rows("command")}
    described = {re.sub(r" [A-Z|]+$", "", name): (name, cells[1]) for name, cells in rows.items()}
    found = dict(commands(program, click.Context(program)))
    assert set(described) == set(found)
    for name, command in found.items():
        title, text = described[name]
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                assert title != name, f"{name} takes an argument"
            else:
                for option in parameter.opts:
                    assert re.search(rf"`{option}\b", text), f"{name} {option}"


def test_every_reason_of_a_drop_is_explained(guide):
    assert set(guide.section("Status").words("reason")) == {reason.value for reason in Drop}


def test_status_keys(guide):
    """All keys of what `ltunnel status --json` prints, and no others."""
    world = World({"transport_udp": ltunnel_transport()}, ltunnel_cipher(), seed=1)
    fec = ltunnel_fec()
    codes = Codes("fec_rs", partial(fec.create, fec.options()))
    world.add_hub().fec = codes, FecSettings()
    node = world.add_node("a")
    node.fec = codes, FecSettings()
    world.start()
    assert world.run(10, until=world.all_up)
    status = node.status()
    section = guide.section("Status")
    assert set(section.words("key")) == {*status, *_keys_of_status_in_service()}
    assert set(section.words("key of a peer")) == set(status["peers"][0])
    assert set(section.words("key of a peer's `fec`")) == set(status["peers"][0]["fec"])


def _keys_of_status_in_service():
    """Return the keys that the runtime adds to a node's status."""
    tree = ast.parse((SOURCE / "runtime/service.py").read_text())
    function = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "status")
    answer = next(n.value for n in ast.walk(function) if isinstance(n, ast.Return))
    assert isinstance(answer, ast.Dict)
    return {key.value for key in answer.keys if key is not None}


def test_sockets_reasons(guide):
    """What ports count."""
    counted = set()
    for name in ("udp", "stream", "raw_packet", "raw_tun"):
        source = (SOURCE / f"runtime/{name}.py").read_text()
        counted |= set(re.findall(r"self\._drop\(\"([\w ]+)\"", source))
        counted |= {word for line in re.findall(r"reason = (.*)", source) for word in re.findall(r"\"([\w ]+)\"", line)}
    paragraph = re.search(r"^The sockets under `ports` count (.*?)\n\n", guide.text, re.MULTILINE | re.DOTALL)[1]
    assert counted == set(re.findall(r"`([^`]+)`", paragraph))


@pytest.mark.parametrize("plugin", [ltunnel_transport_faketcp, ltunnel_transport_tls])
def test_what_transports_count(plugin, guide):
    """Every reason and name that stands in a transport's source, and no other."""
    counted = set()
    for path in Path(plugin.__file__).parent.glob("*.py"):
        source = path.read_text()
        counted |= set(re.findall(r"\"([a-z ]+)\": self\.\w+", source))
        counted |= set(re.findall(r"self\.drops\[\"([\w ]+)\"\] =", source))
        counted |= set(re.findall(r"self\._(?:drop|lose)\((?:\w+, now, )?\"([\w ]+)\"", source))
        counted |= set(re.findall(r"self\.tallies = {\"([\w ]+)\"", source))
        counted |= set(re.findall(r"self\.ended = \"([^\"]+)\"", source))
    (row,) = [row for row in guide.section("Status").rows("transport") if plugin.__name__.endswith(row[0].strip("`"))]
    assert counted
    assert counted == set(re.findall(r"`([^`]+)`", " ".join(row[1:]))) - {"udp"}


@pytest.mark.parametrize("plugin", [ltunnel_transport_faketcp, ltunnel_transport_tls])
def test_options_of_transports(plugin, guide):
    """Every option with its default, and every choice and bound."""
    name = plugin.ltunnel_plugin_info().name
    model = plugin.ltunnel_transport().options
    rows = {cells[0].strip("`"): cells[1:] for cells in guide.rows(f"option of `{name}`")}
    assert set(rows) == set(model.model_fields)
    for option, field in model.model_fields.items():
        default, meaning = rows[option]
        assert default == written(field.default)
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        assert set(choices) <= set(re.findall(r"`(\w+)`", meaning))


def test_transports_and_their_candidates(guide):
    """Every transport that comes along is in the table, and what the status says of each of them to the hub."""
    selected = {entry.name for entry in read_entries().all if entry.name.startswith("transport_")}
    assert set(guide.section("Transports").words("transport")) == selected
    world = World({"transport_udp": ltunnel_transport()}, ltunnel_cipher(), seed=1)
    world.add_hub()
    node = world.add_node("a")
    world.start()
    assert world.run(10, until=world.all_up)
    (candidate,) = node.status()["peers"][0]["candidates"]
    (meaning,) = [cells[1] for cells in guide.section("Status").rows("key of a peer") if cells[0] == "`candidates`"]
    assert set(re.findall(r"`(\w+)`", meaning)) == {*candidate, *(standing.value for standing in Standing)}


def test_every_event_is_in_the_table(guide):
    assert set(guide.section("Log").words("event")) == event_names()


def event_names():
    """Find the names of all events in the source: arguments of `emit` and `Event`, also through functions."""
    names, through = set(), 0
    for path in SOURCE.rglob("*.py"):
        tree, by_function = ast.parse(path.read_text()), {}
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            parameters = [argument.arg for argument in function.args.args]
            for name in _event_arguments(function):
                if isinstance(name, ast.Constant):
                    names.add(name.value)
                elif isinstance(name, ast.Name) and name.id in parameters and function.name != "emit":
                    assert function.name.startswith("_"), "events are made through functions of the same file"
                    by_function[function.name] = parameters.index(name.id) - (parameters[0] == "self")
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if called in by_function:
                argument = call.args[by_function[called]]
                if isinstance(argument, ast.Constant):
                    names.add(argument.value)
                    through += 1
    assert through, "events are no longer made through functions; simplify this"
    return names


def _event_arguments(function):
    for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "emit":
            yield call.args[0]
        elif isinstance(call.func, ast.Name) and call.func.id == "Event":
            yield from (keyword.value for keyword in call.keywords if keyword.arg == "name")


def test_how_routes_into_the_tunnel_are_marked(guide):
    assert f"metric {METRIC} (`ip route show proto {PROTOCOL}`)" in guide.section("Networks behind a machine").text


def test_log_levels(guide):
    meaning = fields(guide)["log_level"][2]
    assert re.findall(r"`(\w+)`", meaning) == [level.value for level in Level]


def test_exit_codes(guide):
    codes = [int(cells[0]) for cells in guide.section("Exit codes").rows("code")]
    assert codes == [0, 1, cli_main._USAGE, cli_main._INTERRUPTED]
