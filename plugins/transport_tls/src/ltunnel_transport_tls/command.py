"""``ltunnel-tls-cert``: a self-signed certificate and its key, and the fingerprint for the clients' configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from ltunnel_transport_tls.certificate import make_pair

CERTIFICATE, KEY = "cert.pem", "key.pem"
_USAGE = 2
_TEN_YEARS = 3650
_LONGEST = 36_500


@click.command
@click.option("--name", "names", metavar="HOST", multiple=True, required=True,
              help="name or address that clients reach the server by; may be given more than once")  # fmt: skip
@click.option("--out", metavar="DIR", required=True, help="folder for cert.pem and key.pem; made if it is not there")
@click.option("--days", type=click.IntRange(1, _LONGEST), default=_TEN_YEARS, show_default=True,
              help="days that the certificate is valid")  # fmt: skip
@click.option("--force", is_flag=True, help="replace files that are there")
def make_certificate(names: Sequence[str], out: str, days: int, force: bool) -> None:
    """Make a certificate that a server signs itself, and print the pin by which clients know it."""
    folder = Path(out)
    certificate, key = folder / CERTIFICATE, folder / KEY
    try:
        pair = make_pair(names, now=datetime.now(UTC), days=days)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from None
    for path in (certificate, key):
        if path.exists() and not force:
            raise click.ClickException(f"{path} is there already; --force replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    _write(key, pair.key, mode=0o600)
    _write(certificate, pair.certificate, mode=0o644)
    click.echo(f"wrote {certificate} and {key}\n")
    click.echo("In the server's configuration:")
    click.echo(f'  "transport_tls": {{"cert": "{certificate.resolve()}", "key": "{key.resolve()}"}}')
    click.echo("In the clients' configuration:")
    click.echo(f'  "transport_tls": {{"pin": "{pair.pin}"}}')


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file beside its place and put it there whole, so that nobody ever reads half of it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123
        file.write(content)
    temporary.replace(path)


def run() -> None:
    """Run the command with the process's arguments."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; an error is one line on stderr."""
    try:
        result = make_certificate.main(args=list(arguments), prog_name="ltunnel-tls-cert", standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message())
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}")
    except (click.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else 0


def _fail(text: str) -> int:
    print(f"ltunnel-tls-cert: {' '.join(text.split())}", file=sys.stderr)
    return _USAGE
