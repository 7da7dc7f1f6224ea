"""Run a command with the rights that a lab needs: ``python -m lab COMMAND...``.

As root it is just started; else in a user namespace where the system allows that; else as it is, which tests that
need the rights take as a reason to be skipped.
"""

import os
import sys

from lab.privilege import become_root, user_namespaces_work


def main() -> None:
    """Become root if possible and turn into the command."""
    if os.geteuid() == 0 or user_namespaces_work():
        become_root()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
