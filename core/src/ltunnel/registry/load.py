"""Loading one plugin by name.

    import -> identity hook -> API version -> hookspecs, pending hooks -> descriptors

All of it happens in a pluggy manager that belongs to this plugin alone and is dropped afterwards: what is kept are
descriptors. (pluggy's own `load_setuptools_entrypoints` imports every plugin there is, lets exceptions through and
keeps the first of two that share a name.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pluggy

from ltunnel.plugin import API_VERSION, GROUP, Options, PluginInfo, hookspecs
from ltunnel.registry.entries import Entry
from ltunnel.registry.kinds import Descriptor, Kind, fault
from ltunnel.registry.refusal import PluginRefusedError, Status
from ltunnel.registry.text import one_line, printable

T = TypeVar("T")

_INFO = "ltunnel_plugin_info"
_IDENTITY = type("Identity", (), {_INFO: getattr(hookspecs, _INFO)})
_KINDS = type("Kinds", (), {kind.hook: getattr(hookspecs, kind.hook) for kind in Kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin that was imported and keeps the rules."""

    entry: Entry
    info: PluginInfo
    descriptors: Mapping[Kind, Descriptor]

    @property
    def options(self) -> type[Options]:
        """The model of its section in the config; one for all its kinds."""
        return next(iter(self.descriptors.values())).options


def load(entry: Entry) -> Plugin:
    """Import a plugin and ask it what it is. Raises `PluginRefusedError`, whatever the plugin's code does."""
    module = guard(entry, "cannot be imported", entry.load)
    probe = pluggy.PluginManager(GROUP)
    probe.add_hookspecs(_IDENTITY)
    guard(entry, "has a bad hook", lambda: probe.register(module, entry.name))
    info = _identity(entry, _call(entry, probe, _INFO))
    # Only now: a plugin for another API may have hooks and signatures that this one does not know.
    guard(entry, "has a bad hook", lambda: probe.add_hookspecs(_KINDS))
    guard(entry, "has a bad hook", probe.check_pending)
    descriptors: dict[Kind, Descriptor] = {}
    for kind in Kind:
        if getattr(probe.hook, kind.hook).get_hookimpls():
            descriptor: Any = _call(entry, probe, kind.hook)
            wrong = guard(entry, f"{kind.hook} returned a bad descriptor", lambda: fault(kind, descriptor))  # noqa: B023
            if wrong:
                raise PluginRefusedError(entry, wrong)
            descriptors[kind] = descriptor
    if not descriptors:
        raise PluginRefusedError(entry, "implements no hook but ltunnel_plugin_info (are they marked with @hookimpl?)")
    if len({descriptor.options for descriptor in descriptors.values()}) > 1:
        raise PluginRefusedError(entry, "its hooks name different options models, and a plugin has one section")
    return Plugin(entry=entry, info=info, descriptors=descriptors)


def _identity(entry: Entry, info: object) -> PluginInfo:
    if not isinstance(info, PluginInfo):
        raise PluginRefusedError(entry, f"{_INFO} returned {type(info).__name__}, not PluginInfo")
    if info.name != entry.name:
        raise PluginRefusedError(entry, f"calls itself {printable(repr(info.name))}, unlike its entry point")
    match info.api:
        case (int(major), int(minor)):
            pass
        case _:
            raise PluginRefusedError(entry, f"states no plugin API version: {printable(repr(info.api))}")
    if major != API_VERSION[0] or minor > API_VERSION[1]:
        reason = f"written for plugin API {major}.{minor}, and this ltunnel has {API_VERSION[0]}.{API_VERSION[1]}"
        raise PluginRefusedError(entry, reason, Status.INCOMPATIBLE)
    return info


def _call(entry: Entry, probe: pluggy.PluginManager, hook: str) -> object:
    """Call a hook on the one plugin of the probe."""
    results = guard(entry, f"{hook} raises", getattr(probe.hook, hook))
    match results:
        case [result]:
            return result
        case []:
            raise PluginRefusedError(entry, f"{hook} is missing or returned None (is it marked with @hookimpl?)")
        case _:
            raise PluginRefusedError(entry, f"implements {hook} more than once")


def guard(entry: Entry, what: str, step: Callable[[], T]) -> T:
    """Run a step that runs code of the plugin; whatever it raises, a call of `sys.exit` too, becomes a refusal."""
    try:
        return step()
    except (KeyboardInterrupt, PluginRefusedError):
        raise
    except pluggy.PluginValidationError as error:
        raise PluginRefusedError(entry, f"{what}: {printable(str(error))}") from error
    except BaseException as error:
        raise PluginRefusedError(entry, f"{what}: {one_line(error)}") from error
