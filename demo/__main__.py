"""Run it: ``python -m demo``. Exit code 0: everything was shown; 1: something failed; 130: interrupted."""

import signal
import sys
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Show it, and leave nothing behind."""
    try:
        for number in _ENDING:
            signal.signal(number, _interrupt)
        from demo.story import tell

        return tell()
    except KeyboardInterrupt:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # a second one would end the interpreter while it ends
        print("\ninterrupted; everything that was built is removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
