"""What a machine is told that offers networks, and what it asks of the kernel."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from ltunnel.errors import HostError
from ltunnel.runtime.gateway import masquerade, not_forwarded

FOUR, OTHER, SIX = ip_network("192.168.7.0/24"), ip_network("10.9.0.0/16"), ip_network("fd07::/64")


class Changes:
    """Settings that there are, and what is to be masqueraded."""

    def __init__(self, **settings: str) -> None:
        self.settings = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"} | settings
        self.masqueraded: list[IPv4Network | IPv6Network] = []
        self.broken = False

    def setting(self, name: str) -> str | None:
        return self.settings.get(name)

    def masquerade(self, networks: list[IPv4Network | IPv6Network]) -> None:
        if self.broken:
            raise HostError("nft is missing")
        self.masqueraded += networks


def test_a_machine_that_forwards_needs_masquerade_alone():
    changes = Changes()
    assert not_forwarded([FOUR, SIX], changes) == []
    assert masquerade([FOUR, SIX], changes) == []
    assert changes.masqueraded == [FOUR, SIX]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("net/ipv4/ip_forward", "192.168.7.0/24, 10.9.0.0/16 through this machine, which does not forward: "
         "sysctl -w net.ipv4.ip_forward=1"),
        ("net/ipv6/conf/all/forwarding", "fd07::/64 through this machine, which does not forward: "
         "sysctl -w net.ipv6.conf.all.forwarding=1"),
    ],
)  # fmt: skip
def test_what_to_switch_on_is_said_for_the_networks_that_need_it(setting, text):
    changes = Changes(**{setting: "0"})
    assert not_forwarded([FOUR, SIX, OTHER], changes) == [f"nobody reaches {text}"]
    assert not_forwarded([], changes) == []
    changes.settings[setting] = "1"
    assert not_forwarded([FOUR, SIX, OTHER], changes) == []


def test_a_version_that_is_not_offered_need_not_be_forwarded():
    assert not_forwarded([FOUR], Changes(**{"net/ipv6/conf/all/forwarding": "0"})) == []


def test_without_nft_it_goes_on_with_a_warning():
    changes = Changes()
    changes.broken = True
    assert masquerade([FOUR, OTHER], changes) == [
        "goes without masquerade, so devices in 192.168.7.0/24, 10.9.0.0/16 need a route back to here: nft is missing"
    ]


def test_who_offers_nothing_needs_no_nft():
    changes = Changes()
    changes.broken = True
    assert masquerade([], changes) == []
