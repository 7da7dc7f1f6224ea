"""The program itself, ``ltunnel [flags]``, and the table of its subcommands."""

import os
from functools import partial
from importlib import import_module
from typing import Any

import rich_click as click

from ltunnel import __version__
from ltunnel.cli.arguments import CONFIG_FILE, FLAGS, HELP, VERSION, Flag
from ltunnel.config import Config, load

_USAGE = 2

_SUBCOMMANDS = {
    "ctl": "ltunnel.cli.ctl",
    "forget": "ltunnel.cli.memory",
    "genkey": "ltunnel.cli.keys",
    "keycheck": "ltunnel.cli.keys",
    "nat": "ltunnel.cli.nat",
    "pins": "ltunnel.cli.memory",
    "plugins": "ltunnel.cli.plugins",
    "status": "ltunnel.cli.status",
}
"""Name of a subcommand and the module that has it as an attribute of that name."""

_HELP = """Join machines behind NATs and firewalls into one private network.

One machine with a public address is the server, the others are clients:

ltunnel -m server -l 0.0.0.0:9000 -t 10.0.0.1/24 -k KEY

ltunnel -m client -r SERVER:9000 -t 10.0.0.2/24 -k KEY
"""
_EPILOG = (
    "Long flags may have one dash or two, and their value after a blank or an equals sign. "
    "LTUNNEL_KEY holds the key when neither flags nor the file give one. "
    "LTUNNEL_STATE_DIR is where identity and memory are kept."
)


class _Root(click.RichGroup):
    """A group that imports the module of a subcommand when it is named, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all subcommands."""
        return sorted(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a subcommand."""
        if cmd_name not in _SUBCOMMANDS:
            return None
        command: click.Command = getattr(import_module(_SUBCOMMANDS[cmd_name]), cmd_name)
        return command


def _option(flag: Flag) -> click.Option:
    names = [f"--{flag.name}", *([f"-{flag.letter}"] if flag.letter else [])]
    if flag.field is None and flag.switch:
        return click.Option(names, is_flag=True, help=_meaning(flag))
    metavar = "true|false" if flag.switch else flag.metavar
    return click.Option(names, metavar=metavar, help=_meaning(flag))


def _meaning(flag: Flag) -> str:
    """Say what a flag does: the description of its field, and the default where there is one to show."""
    if flag.field is None:
        return {CONFIG_FILE: "configuration file, JSON or .toml", VERSION: "print the version"}[flag.name]
    field = Config.model_fields[flag.field]
    meaning, default = field.description or "", field.default
    if field.default_factory is not None or default is None:
        return meaning
    if isinstance(default, bool):
        shown = str(default).lower()
    elif type(default) is tuple:
        shown = ",".join(map(str, default)) or "none"
    else:
        shown = str(getattr(default, "value", default))
    return f"{meaning} (default: {shown})"


def _run(context: click.Context, **given: Any) -> int | None:
    """Run a tunnel with the flags that were given."""
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    if context.invoked_subcommand is not None:
        if given:
            raise click.UsageError(f"flags of {context.invoked_subcommand} go behind it")
        return None
    if given.pop(VERSION, False):
        click.echo(f"ltunnel {__version__}")
        return 0
    if not given:
        click.echo(context.get_help(), err=True)
        return _USAGE
    file = given.pop(CONFIG_FILE, None)
    overrides, spellings = {}, {}
    for flag in FLAGS:
        value = given.get(flag.name.replace("-", "_"))
        if flag.field is not None and value is not None:
            overrides[flag.field] = value
            spellings[flag.field] = flag.spelling
    read = partial(load, file, overrides, os.environ, flags=spellings)
    config = read()

    from ltunnel.runtime.daemon import serve

    return serve(config, None if file is None else read)


root = _Root(
    name="ltunnel",
    callback=click.pass_context(_run),
    params=[_option(flag) for flag in FLAGS if flag.name != HELP],
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGUMENTS]...]",
    help=_HELP,
    epilog=_EPILOG,
)
