"""The suites for plugins and transports, over simulated streams."""

from typing import ClassVar

import pytest

import ltunnel_transport_tls
from ltunnel.testing.conformance import PluginConformance, TransportConformance
from ltunnel_transport_tls import ltunnel_transport


class TestPlugin(PluginConformance):
    module = ltunnel_transport_tls
    name = "transport_tls"


class TestPinned(TransportConformance):
    """One pair of options serves both ends: the suite gives them the same."""

    descriptor = ltunnel_transport()
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _use_pair(self, files):
        type(self).options = files.hub | {"pin": files.pair.pin}


class TestVerified(TestPinned):
    """The certificate leads to a CA that the node knows, and names the hub's address."""

    @pytest.fixture(autouse=True)
    def _use_pair(self, files):
        type(self).options = files.hub | {"ca": files.cert}
