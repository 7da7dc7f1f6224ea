"""Which addresses probes may go to."""

from ipaddress import ip_address

import pytest

from ltunnel.plugin import is_private, read_target


@pytest.mark.parametrize("host", ["192.0.2.1", "8.8.8.8", "10.0.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1",
                                  "2001:db8::1", "fd00::1", "fe80::1"])  # fmt: skip
def test_one_machines_addresses(host):
    assert read_target((host, 1)) == ip_address(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1",
                                  "ff02::1", "::ffff:192.0.2.1", "fe80::1%eth0", "", "host",
                                  "192.0.2.1\n"])  # fmt: skip
def test_addresses_of_nobody(host):
    assert read_target((host, 1)) is None


@pytest.mark.parametrize("port", [0, -1, 65_536, 2**70])
def test_ports_of_nobody(port):
    assert read_target(("192.0.2.1", port)) is None


@pytest.mark.parametrize(("host", "private"), [
    ("10.1.2.3", True), ("172.16.0.1", True), ("192.168.0.1", True), ("100.64.0.1", True), ("169.254.0.1", True),
    ("fd00::1", True), ("fe80::1", True), ("8.8.8.8", False), ("2606:4700::1", False), ("100.128.0.1", False),
    ("192.0.2.1", False), ("198.51.100.1", False), ("203.0.113.1", False), ("198.18.0.1", False),
    ("2001:db8::1", False),
])  # fmt: skip
def test_private_addresses_mean_something_elsewhere(host, private):
    assert is_private(ip_address(host)) is private
