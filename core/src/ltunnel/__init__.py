"""ltunnel: one private network out of machines behind NATs and firewalls.

`ARCHITECTURE.md` in the repository is the map. Plugin authors import `ltunnel.plugin` and, in their tests,
`ltunnel.testing`; everything else is the core's own and may change between versions.
"""

from importlib.metadata import version

__version__ = version("ltunnel")
