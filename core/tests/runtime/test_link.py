import re
import subprocess

import pytest

from ltunnel.runtime.link import ETHERNET_MTU, link_mtu


def loopback_mtu() -> int:
    listing = subprocess.run(["ip", "-o", "link", "show", "lo"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"mtu (\d+)", listing)[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_mtu_towards_a_remote_is_that_of_its_link(host):
    assert link_mtu(remote=(host, 9000)) in (loopback_mtu(), 65_535)  # as much as an IPv4 length says


def test_without_any_route_the_answer_is_still_a_link():
    assert 0 < link_mtu(remote=("192.0.2.1", 9000)) <= max(ETHERNET_MTU, loopback_mtu())
    assert 0 < link_mtu(listen=("0.0.0.0", 9000)) <= max(ETHERNET_MTU, loopback_mtu())
