"""Small internets made of network namespaces, for the demo, the benchmarks and the tests.

`Lab` owns everything that is built: namespaces, links, programs, files. It takes all of it away again, whatever
happens: when its `with` block ends, when an exception or Ctrl-C passes through, at the end of the interpreter, and,
should even that have been denied (SIGKILL), at the start of the next lab.
"""

from lab.host import Host, LabError
from lab.internet import Lab
from lab.privilege import become_root, missing_ability
from lab.program import Program, ProgramError
from lab.tunnel import Tunnel

__all__ = [
    "Host",
    "Lab",
    "LabError",
    "Program",
    "ProgramError",
    "Tunnel",
    "become_root",
    "missing_ability",
]
