"""``ltunnel pins`` and ``ltunnel forget``: what this machine remembers of others, and making it forget.

What is remembered lies in the state folder. A running ltunnel has it in memory too, so it is told over its control
socket; a hub that runs is the only one to change its bindings.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import rich_click as click

from ltunnel.cli.output import console, table
from ltunnel.errors import HostError
from ltunnel.registry.text import printable

if TYPE_CHECKING:
    from ltunnel.runtime.state import State


@click.group
def pins() -> None:
    """List or forget the keys of servers and nodes that this machine has met. One with another key is refused."""


@pins.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_(as_json: bool) -> None:
    """List the servers and, as NAME@SERVER, the nodes that this machine has met, with their public keys."""
    state = _state()
    known = {} if state is None else state.load_pins()
    if as_json:
        click.echo(json.dumps({name: key.hex() for name, key in sorted(known.items())}, indent=2))
    elif not known:
        click.echo("nothing is pinned")
    else:
        rows = table("server/network", "public key")
        for name, key in sorted(known.items()):
            rows.add_row(printable(name), key.hex())
        console().print(rows)


@pins.command("forget")
@click.argument("label")
def forget_pin(label: str) -> None:
    """Forget a server or node, by the name that `pins list` shows; the next one under that name is taken for it."""
    state = _state()
    known = {} if state is None else state.load_pins()
    names = [name for name in known if label in (name, name.rpartition("/")[0], name.rpartition("@")[0] or None)]
    if state is None or not names:
        raise HostError(f"no pin is called {printable(label)}; see `ltunnel pins list`")
    if len(names) > 1:
        raise HostError(f"{printable(label)} is pinned in several networks: say which ({', '.join(sorted(names))})")
    (name,) = names
    with _stored(state):
        state.save_pin(name, None)
    _tell_all({"command": "forget-pin", "name": name})
    click.echo(f"forgot {printable(name)}")


@click.command
@click.argument("who", metavar="NAME|ADDRESS|KEY")
@click.option("--tun-name", metavar="NAME", help="which server, if several run here: the name of its TUN device")
def forget(who: str, tun_name: str | None) -> None:
    """Release the address and name that this server keeps for a client, so that another may have them."""
    from ltunnel.runtime.client import request

    state = _state()
    with ExitStack() as stack:
        if state is not None and _hold(state, stack):
            forgotten = _forget_stored(state, who)
        else:
            forgotten = str(request({"command": "forget", "peer": who}, tun_name)["forgotten"]["name"])
    click.echo(f"forgot {printable(forgotten)}")


def _forget_stored(state: "State", who: str) -> str:
    """Take a binding out of the state folder of a hub that does not run; returns its name."""
    from ltunnel.control.directory import Directory

    directory = Directory((), "", state.load_bindings())
    binding = directory.find(who)
    if binding is None:
        raise HostError(f"no client has the name, address or key {printable(who)}")
    directory.forget(binding.key)
    with _stored(state):
        state.save_bindings(directory.bindings)
    return binding.name


def _hold(state: "State", stack: ExitStack) -> bool:
    """Keep hubs off the state folder; False when one runs and has it already."""
    try:
        stack.enter_context(state.held_by_hub())
    except HostError:
        return False
    except OSError as error:
        raise HostError(f"cannot use {state.folder}: {error.strerror}") from None
    return True


def _state() -> "State | None":
    """Return the state folder, or None where nothing was ever stored."""
    from ltunnel.runtime.folders import state_folder
    from ltunnel.runtime.state import State

    folder = state_folder()
    return State(folder) if folder.is_dir() else None


@contextmanager
def _stored(state: "State") -> Iterator[None]:
    """Turn a failure to store into one line."""
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot write to {state.folder}: {error.strerror}") from None


def _tell_all(message: dict[str, Any]) -> None:
    """Send a request to every ltunnel that runs with this run folder; those that know nothing of it say so in vain."""
    from ltunnel.runtime.client import request
    from ltunnel.runtime.folders import SOCKET_SUFFIX, run_folder

    with suppress(OSError):  # no folder, nobody to tell
        for path in sorted(run_folder().iterdir()):
            if path.suffix == SOCKET_SUFFIX:
                with suppress(HostError):
                    request(message, path.stem)
