"""UDP over simulated ports: the conformance suite, and what is particular to it."""

import pytest

from ltunnel.plugin import API_VERSION, NoOptions, PortKind, TransportContext
from ltunnel.testing.conformance import TransportConformance
from ltunnel_transport_udp import UdpTransport, ltunnel_plugin_info, ltunnel_transport


class TestConformance(TransportConformance):
    descriptor = ltunnel_transport()


class FakePort:
    def __init__(self, *local):
        self.local = local

    def send(self, buf, start, end, seg, to):
        return True

    def recv(self, buf, pos):
        raise BlockingIOError


def ports(**context):
    return ltunnel_transport().ports(NoOptions(), TransportContext(**{"listen": None, "remote": None} | context))


def test_a_hub_listens_where_it_is_told():
    (spec,) = ports(listen=("192.0.2.1", 9000))
    assert (spec.kind, spec.host, spec.port, spec.dual_stack) == (PortKind.UDP, "192.0.2.1", 9000, False)
    (spec,) = ports(listen=("::", 9000))
    assert spec.dual_stack, "the IPv6 wildcard takes IPv4 too"
    (spec,) = ports(listen=("2001:db8::1", 9000))
    assert not spec.dual_stack


@pytest.mark.parametrize(("remote", "host"), [("192.0.2.1", "0.0.0.0"), ("2001:db8::1", "::")])
def test_a_node_takes_an_ephemeral_port_of_the_hubs_family(remote, host):
    (spec,) = ports(remote=(remote, 9000))
    assert (spec.host, spec.port) == (host, 0)
    (spec,) = ports(remote=(remote, 9000), local_port=4242)
    assert (spec.host, spec.port) == (host, 4242), "unless it is told which"


def test_with_direct_paths_over_both_versions_its_port_is_dual_stack():
    (spec,) = ports(remote=("192.0.2.1", 9000), both_versions=True)
    assert (spec.host, spec.dual_stack) == ("::", True)


@pytest.mark.parametrize(
    ("local", "remote", "flow", "text"),
    [
        (("0.0.0.0", 1), ("192.0.2.7", 9), ("192.0.2.7", 9), "192.0.2.7:9"),
        (("::", 1, 0, 0), ("2001:db8::7", 9), ("2001:db8::7", 9, 0, 0), "[2001:db8::7]:9"),
        (("::", 1, 0, 0), ("192.0.2.7", 9), ("::ffff:192.0.2.7", 9, 0, 0), "192.0.2.7:9"),
    ],
)
def test_flows_are_socket_addresses(local, remote, flow, text):
    transport = UdpTransport(FakePort(*local))
    assert transport.connect(remote, 0.0) == flow
    assert transport.describe(flow) == text


def test_info():
    assert (ltunnel_plugin_info().name, ltunnel_plugin_info().api) == ("transport_udp", API_VERSION)
