"""``ltunnel genkey`` and ``ltunnel keycheck``."""

import os

import rich_click as click

from ltunnel.config import load, network_keys
from ltunnel.errors import ConfigError
from ltunnel.keys.psk import KEY_SIZE, format_key


@click.command
def genkey() -> None:
    """Print a new key for a network. Every machine of the network needs the same."""
    click.echo(format_key(os.urandom(KEY_SIZE)))


@click.command
@click.option("-c", "--config", metavar="FILE", help="configuration file that holds the key")
@click.option("-k", "--key", metavar="KEY", help="the key")
@click.option("--key-file", metavar="FILE", help="file that holds the key")
@click.option("--network", metavar="NAME", help="name of the network, if not the default")
def keycheck(config: str | None, **given: str | None) -> None:
    """Print the four characters that both ends show at start if they have the same key and network."""
    fields = {name: value for name, value in given.items() if value is not None}
    loaded = load(config, fields, os.environ, flags={"key": "-k", "key_file": "-key-file", "network": "-network"})
    if loaded.key is None:
        raise ConfigError("no key: give -k, -key-file, -c or LTUNNEL_KEY")
    click.echo(network_keys(loaded).check)
