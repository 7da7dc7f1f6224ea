"""What the suites share: options, descriptors, and the plugin as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from random import Random
from types import ModuleType
from typing import Any, ClassVar

import pluggy

from ltunnel.plugin import API_VERSION, GROUP, Options, PluginInfo, hookspecs

_KINDS = ("ltunnel_transport", "ltunnel_cipher", "ltunnel_fec", "ltunnel_discovery", "ltunnel_routing")


class DescriptorConformance:
    """Base of the suites: set `descriptor` to what your hook returns, and `options` where the defaults do not do."""

    descriptor: ClassVar[Any]
    options: ClassVar[Mapping[str, Any]] = {}
    """What an operator would write in the plugin's section of the config."""

    def make_options(self) -> Options:
        """Return the validated options."""
        made: Options = self.descriptor.options.model_validate(dict(self.options))
        return made

    def make_random(self) -> Random:
        """Return the randomness of a test: the same in every run."""
        return Random(type(self).__name__)

    def test_descriptor_is_frozen(self) -> None:
        """A descriptor is a frozen dataclass: it can be shown without being run."""
        field = dataclasses.fields(self.descriptor)[0].name
        try:
            setattr(self.descriptor, field, getattr(self.descriptor, field))
        except dataclasses.FrozenInstanceError:
            return
        raise AssertionError("the descriptor can be changed")

    def test_options_are_strict_and_described(self) -> None:
        """Options derive from `Options`, refuse unknown fields, cannot be changed, and say what each field means."""
        model = self.descriptor.options
        assert issubclass(model, Options), "options must derive from ltunnel.plugin.Options"
        assert model.model_config.get("extra") == "forbid", "unknown fields must be errors"
        assert model.model_config.get("frozen") is True, "options must be frozen"
        for name, field in model.model_fields.items():
            assert field.description, f"option {name} has no description; `ltunnel plugins info` shows it"
        self.make_options()


class PluginConformance:
    """A plugin as a whole: set `module` to the one that the entry point names, and `name` to the entry point's name."""

    module: ClassVar[ModuleType]
    name: ClassVar[str]

    def register(self) -> pluggy.PluginManager:
        """Return a fresh plugin manager that knows the plugin."""
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(hookspecs)
        manager.register(self.module, name=self.name)
        return manager

    def test_hooks_are_known(self) -> None:
        """Every hook that it implements exists and takes what it is given."""
        self.register().check_pending()

    def test_info(self) -> None:
        """It says who it is, with the entry point's name and an API version that this core serves."""
        answers = self.register().hook.ltunnel_plugin_info()
        assert len(answers) == 1, "ltunnel_plugin_info is missing"
        info = answers[0]
        assert isinstance(info, PluginInfo)
        assert info.name == self.name
        assert info.summary
        assert "\n" not in info.summary
        assert info.api[0] == API_VERSION[0]
        assert info.api[1] <= API_VERSION[1]

    def test_is_of_some_kind(self) -> None:
        """It implements at least one of the hooks for a kind, and each returns a descriptor."""
        manager = self.register()
        answers = [answer for kind in _KINDS for answer in getattr(manager.hook, kind)()]
        assert answers, f"none of {', '.join(_KINDS)} is implemented"
        for answer in answers:
            assert dataclasses.is_dataclass(answer)
