"""The conformance suites, over simulated raw and UDP ports."""

from typing import ClassVar

import ltunnel_transport_faketcp
from ltunnel.testing.conformance import PluginConformance, TransportConformance
from ltunnel_transport_faketcp import ltunnel_transport


class TestPlugin(PluginConformance):
    module = ltunnel_transport_faketcp
    name = "transport_faketcp"


class TestTcp(TransportConformance):
    descriptor = ltunnel_transport()

    def test_a_batch_larger_than_a_packet(self) -> None:
        """It goes as two, and the buffer is left as it was (`End.send` looks)."""
        for ipv6 in (False, True):
            lab = self.make_lab(ipv6=ipv6)
            flow, _ = lab.open_flow()
            batch = [bytes([i]) * 1424 for i in range(45)] + [b"last" * 330]
            assert 65_483 < sum(len(datagram) + 2 for datagram in batch) <= 65_507
            assert lab.node.send(flow, batch, lab.now)
            lab.run(0.5)
            assert lab.hub.datagrams == batch


class TestUdp(TransportConformance):
    descriptor = ltunnel_transport()
    options: ClassVar = {"framing": "udp"}
