"""Which plugins there are, and the loading of those that a configuration selects.

Reading entry points (`read_entries`) imports nothing. `build_stack` imports what is selected and nothing else, checks
it and returns a `Stack`. `ltunnel.registry.survey`, which a running node never imports, looks at every installed
plugin, each in a process of its own, for ``ltunnel plugins list``.
"""

from ltunnel.registry.entries import Entries, Entry, read_entries
from ltunnel.registry.kinds import Kind
from ltunnel.registry.load import Plugin, load
from ltunnel.registry.refusal import PluginRefusedError, Status
from ltunnel.registry.stack import Part, Selection, Stack, build_stack, plugin_of

__all__ = [
    "Entries",
    "Entry",
    "Kind",
    "Part",
    "Plugin",
    "PluginRefusedError",
    "Selection",
    "Stack",
    "Status",
    "build_stack",
    "load",
    "plugin_of",
    "read_entries",
]
