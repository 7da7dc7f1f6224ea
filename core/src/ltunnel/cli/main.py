"""The entry point: from arguments to an exit code.

0 is success, 1 a check that failed, 2 a wrong command line, configuration, plugin or machine, 130 the keyboard. An
error that an operator can meet is one line on stderr, never a traceback.
"""

import os
import sys
from collections.abc import Sequence

import rich_click as click

from ltunnel.cli.arguments import normalise
from ltunnel.errors import LtunnelError

_USAGE = 2
_INTERRUPTED = 130


def run() -> None:
    """Run the program with the process's arguments."""
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has left; nothing more is written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    # pydantic would import every plugin of its own that is installed, here in a process of root's.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from ltunnel.cli.root import root

    try:
        result = root.main(args=normalise(arguments), prog_name="ltunnel", standalone_mode=False)
    except click.UsageError as error:
        return _fail(f"{error.format_message()} (see ltunnel --help)")
    except click.ClickException as error:
        return _fail(error.format_message())
    except LtunnelError as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return result if isinstance(result, int) else 0


def _fail(text: str) -> int:
    line = " ".join(text.split())
    print(f"ltunnel: {line}", file=sys.stderr)
    return _USAGE
