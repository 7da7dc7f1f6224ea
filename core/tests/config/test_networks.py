"""Whatever is written as a network: it is read, or refused in one line."""

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.config import load
from ltunnel.errors import ConfigError

ADDRESSES = st.ip_addresses().map(str)
NETWORKS = st.one_of(
    st.builds("{}/{}".format, ADDRESSES, st.integers(-1, 129)),
    st.text(alphabet="0123456789abcdef.:/%, ", max_size=30),
    st.text(max_size=12),
)
WRITTEN = st.one_of(
    NETWORKS,
    st.lists(st.one_of(NETWORKS, st.none(), st.integers(), st.booleans()), max_size=30),
    st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats()), st.lists, max_leaves=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.mark.parametrize("field", ["routes", "accept_routes"])
@given(written=WRITTEN)
def test_it_is_read_or_refused(field: str, written: Any) -> None:
    refused = ""
    try:
        networks = _read(field, written)
    except ConfigError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        assert refused.startswith(f"{field}: ")
        return
    assert all(isinstance(network, IPv4Network | IPv6Network) for network in networks)
    if field == "routes":
        assert len(networks) <= 24
        assert all(network.prefixlen for network in networks)
        pairs = [(one, other) for one in networks for other in networks if one.version == other.version]
        assert all(one is other or not one.overlaps(other) for one, other in pairs)
    assert _read(field, ",".join(map(str, networks)) or "none") == networks


def _read(field: str, written: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    config = load(None, {field: written, "tunnel_addr": "198.18.0.1/24,fd00:1::1/64"}, {})
    return getattr(config, field)  # type: ignore[no-any-return]
