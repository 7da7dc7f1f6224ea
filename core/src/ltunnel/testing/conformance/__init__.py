"""Conformance suites: one class for each kind of plugin.

Derive from it and pytest does the rest::

    from ltunnel.testing.conformance import AeadConformance
    from my_cipher import ltunnel_cipher

    class TestMyCipher(AeadConformance):
        descriptor = ltunnel_cipher()

Nothing here imports pytest: the classes are plain, with methods named ``test_*`` that assert. With
``pytest.register_assert_rewrite("ltunnel.testing")`` at the top of ``conftest.py`` failures show the values.
"""

from ltunnel.testing.conformance.base import DescriptorConformance, PluginConformance
from ltunnel.testing.conformance.cipher import AeadConformance
from ltunnel.testing.conformance.discovery import DiscoveryConformance
from ltunnel.testing.conformance.fec import FecConformance
from ltunnel.testing.conformance.routing import RoutingConformance
from ltunnel.testing.conformance.transport import TransportConformance

__all__ = [
    "AeadConformance",
    "DescriptorConformance",
    "DiscoveryConformance",
    "FecConformance",
    "PluginConformance",
    "RoutingConformance",
    "TransportConformance",
]
