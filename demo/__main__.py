"""Run it: ``python -m demo``. Exit code 0: everything was shown; 1: something failed; 130: interrupted."""

import signal
import sys
from types import FrameType


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Show it, and leave nothing behind."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        from demo.story import tell

        return tell()
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was built is removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
