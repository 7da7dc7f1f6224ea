"""What the namespace tests share: a lab for each test."""

from collections.abc import Callable, Iterator

import pytest

from lab import Host, Lab
from lab.raw import HUB, HUB6, NODE, NODE6, RawPortOn

Open = Callable[..., RawPortOn]


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """An empty lab; when the test fails, the last output of its programs is in the report."""
    with Lab() as lab:
        yield lab
        for host in lab.hosts.values():
            for program in host.programs:
                request.node.add_report_section("teardown", program.name, program.last_lines(40))


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Two hosts on one link."""
    hub, node = lab.host("hub", ipv6=True), lab.host("node", ipv6=True)
    hub.veth("eth0", node, "eth0")
    for host, address, address6 in ((hub, HUB, HUB6), (node, NODE, NODE6)):
        host.add_address("eth0", f"{address}/24")
        host.add_address("eth0", f"{address6}/64")
    return hub, node


@pytest.fixture
def open_port() -> Iterator[Open]:
    opened = []

    def open_one(*args: object, **kwargs: object) -> RawPortOn:
        opened.append(RawPortOn(*args, backend="packet", **kwargs))
        return opened[-1]

    yield open_one
    for port in opened:
        port.close()


@pytest.fixture
def pair(hosts: tuple[Host, Host], open_port: Open) -> tuple[RawPortOn, RawPortOn]:
    hub, node = hosts
    return open_port(hub, port=9000), open_port(node)
