"""Options, ports, host rules, and the diagram of states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from ltunnel.plugin import Carrier, HostRuleKind, PortKind, TransportContext
from ltunnel.testing import Host, Network, SimRawPort
from ltunnel_transport_faketcp import FakeTcpOptions, is_framed, ltunnel_transport
from ltunnel_transport_faketcp.states import TRANSITIONS, Cause, State, diagram

HUB = TransportContext(listen=("::", 9000), remote=None)
NODE = TransportContext(listen=None, remote=("192.0.2.1", 9000))


def test_ports():
    ports = ltunnel_transport().ports
    (spec,) = ports(FakeTcpOptions(), HUB)
    assert (spec.kind, spec.host, spec.port, spec.dual_stack) == (PortKind.RAW, "::", 9000, True)
    assert spec.extra == {"protocol": 6, "backend": "auto"}
    (spec,) = ports(FakeTcpOptions(backend="tun"), NODE)
    assert (spec.host, spec.port, spec.dual_stack) == ("0.0.0.0", 0, False)
    assert spec.extra == {"protocol": 6, "backend": "tun", "numbers": 8}
    (spec,) = ports(FakeTcpOptions(framing="udp"), NODE)
    assert (spec.kind, spec.extra, spec.accepts) == (PortKind.UDP, {}, None)
    (spec,) = ports(FakeTcpOptions(framing="udp"), HUB)
    assert (spec.kind, spec.port, spec.accepts) == (PortKind.UDP, 9000, is_framed), "it may be another's number, too"


@pytest.mark.parametrize(("options", "host"), [
    (FakeTcpOptions(), "::"), (FakeTcpOptions(backend="packet"), "::"), (FakeTcpOptions(backend="tun"), "0.0.0.0"),
    (FakeTcpOptions(framing="udp"), "0.0.0.0"),
])  # fmt: skip
def test_ports_for_direct_paths_over_both_versions(options: FakeTcpOptions, host: str):
    """Not where the machine would have to forward the other version for it, nor where there are no direct paths."""
    (spec,) = ltunnel_transport().ports(options, replace(NODE, both_versions=True))
    assert (spec.host, spec.dual_stack) == (host, host == "::")


def test_direct_paths():
    descriptor = ltunnel_transport()
    direct = [descriptor.direct_with(FakeTcpOptions(framing=framing)) for framing in ("tcp", "udp")]
    assert direct == [Carrier.TCP, None]


def test_overhead():
    descriptor = ltunnel_transport()
    assert [descriptor.overhead_with(FakeTcpOptions(framing=framing)) for framing in ("tcp", "udp")] == [34, 28]


def test_host_rules():
    """The kernel's resets are stopped for every number that is in use, and only with real segments."""
    descriptor = ltunnel_transport()
    host = Host(Network(), "host")
    (spec,) = descriptor.ports(FakeTcpOptions(), NODE)
    port = SimRawPort(host, spec)
    rules = descriptor.host_rules(FakeTcpOptions(), [port])
    assert [rule.port for rule in rules] == list(port.numbers)
    assert {(rule.kind, rule.host) for rule in rules} == {(HostRuleKind.DROP_RESETS, "0.0.0.0")}
    assert descriptor.host_rules(FakeTcpOptions(framing="udp"), []) == ()


def test_options():
    with pytest.raises(ValidationError, match="backend tun goes with framing tcp"):
        FakeTcpOptions(framing="udp", backend="tun")
    with pytest.raises(ValidationError):
        FakeTcpOptions(framing="sctp")


def test_every_state_can_be_left_and_reached():
    assert {old for old, _ in TRANSITIONS} == set(State) - {State.CLOSED}
    assert set(TRANSITIONS.values()) | {State.OPEN} == set(State)
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


def test_the_diagram_in_the_readme_is_the_table():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{diagram()}\n```" in readme
