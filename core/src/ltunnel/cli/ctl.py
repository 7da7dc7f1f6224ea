"""``ltunnel ctl``: orders to a running ltunnel, over its control socket."""

import json
from typing import Any

import rich_click as click


@click.group
def ctl() -> None:
    """Change a running ltunnel until it is started again."""


@ctl.command
@click.option("--mode", type=click.Choice(["off", "fixed", "auto", "latency", "spread"]), help="how parity is chosen")
@click.option("--data", type=int, metavar="K", help="data shards of a group; alone it means the mode fixed")
@click.option("--parity", type=int, metavar="M", help="parity shards of a group; 0 is off, alone it means fixed")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--tun-name", metavar="NAME", help="which ltunnel, if several run here: the name of its TUN device")
def fec(mode: str | None, data: int | None, parity: int | None, as_json: bool, tun_name: str | None) -> None:
    """Change what this side sends against losses; without options, show it. The far end needs no order."""
    from ltunnel.runtime.client import request

    order: dict[str, Any] = {"command": "fec"}
    order |= {name: value for name, value in (("mode", mode), ("data", data), ("parity", parity)) if value is not None}
    answer = request(order, tun_name)["fec"]
    if as_json:
        click.echo(json.dumps(answer))
    else:
        group = f", groups of {answer['data']} + {answer['parity']}" if answer["mode"] in ("fixed", "spread") else ""
        click.echo(f"{answer['plugin']}, mode {answer['mode']}{group}")
