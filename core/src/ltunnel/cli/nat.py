"""``ltunnel nat``: what stands between this machine and the others, and what was done about it."""

import json

import rich_click as click

from ltunnel.cli.output import console


@click.command
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--tun-name", metavar="NAME", help="which ltunnel, if several run here: the name of its TUN device")
def nat(as_json: bool, tun_name: str | None) -> None:
    """Explain the NAT in front of this machine, its addresses, and for each other client what was tried and chosen."""
    from ltunnel.cli.nat_view import nat_view
    from ltunnel.runtime.client import request

    answer = request("nat", tun_name)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        console().print(nat_view(answer))
