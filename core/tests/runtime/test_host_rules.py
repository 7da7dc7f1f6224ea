import re
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.errors import HostError
from ltunnel.plugin import HostRule, HostRuleKind
from ltunnel.runtime import host_rules
from ltunnel.runtime.host_rules import Content, Forwarding, Masquerade, delete_table, load_table, table_name


def rule(port: int, host: str) -> HostRule:
    return HostRule(kind=HostRuleKind.DROP_RESETS, port=port, host=host)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `nft` was given."""
    given_to_nft: list[str] = []

    def run(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        assert command == ["/sbin/nft", "-f", "-"]
        given_to_nft.append(str(how["input"]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(host_rules.shutil, "which", lambda name, path: f"/sbin/{name}")
    monkeypatch.setattr(host_rules.subprocess, "run", run)
    return given_to_nft


def lines(text: str) -> list[str]:
    return [re.sub(r' comment "ltunnel: .*"$', "", line).strip() for line in text.splitlines()]


def test_resets_are_dropped_by_port_and_address(loaded):
    load_table("ltunnel_tun0", Content(rules=[rule(9000, "0.0.0.0"), rule(9001, "0.0.0.0"), rule(7, "192.0.2.1")]))
    assert lines(loaded[0]) == [
        "table inet ltunnel_tun0",
        "delete table inet ltunnel_tun0",
        "table inet ltunnel_tun0 {",
        'comment "made by ltunnel, which deletes it when it ends"',
        "chain segments {",
        "type filter hook input priority -300; policy accept;",
        "meta nfproto ipv4 tcp dport { 9000, 9001 } drop",
        "ip daddr 192.0.2.1 tcp dport { 7 } drop",
        "}",
        "chain resets {",
        "type filter hook output priority -300; policy accept;",
        "meta nfproto ipv4 tcp flags rst tcp sport { 9000, 9001 } drop",
        "ip saddr 192.0.2.1 tcp flags rst tcp sport { 7 } drop",
        "}",
        "}",
    ]


def test_the_wildcard_of_ipv6_stands_for_both(loaded):
    load_table("t", Content(rules=[rule(9000, "::"), rule(9000, "2001:db8::1")]))
    assert "tcp dport { 9000 } drop" in lines(loaded[0])
    assert "ip6 daddr 2001:db8::1 tcp dport { 9000 } drop" in lines(loaded[0])


def test_forwarding_goes_both_ways_and_no_further(loaded):
    way = Forwarding(
        device="tun0-tcp", inside={4: "169.254.7.2", 6: "fd01::2"}, numbers=(1, 2), bound=None,
        opened={4: ("eth0", "eth1"), 6: ()},
    )  # fmt: skip
    load_table("t", Content(forwarding=way))
    found = lines(loaded[0])
    ours = "fib daddr type local tcp dport { 1, 2 }"
    assert f'iifname != "tun0-tcp" meta nfproto ipv4 {ours} dnat ip to 169.254.7.2' in found
    assert f'iifname != "tun0-tcp" meta nfproto ipv6 {ours} dnat ip6 to fd01::2' in found
    assert "ip saddr 169.254.7.2 masquerade" in found
    assert "ip6 saddr fd01::2 masquerade" in found
    assert 'meta nfproto ipv4 iifname { "eth0", "eth1" } oifname != "tun0-tcp" drop' in found
    assert not any("ipv6 iifname {" in line for line in found)
    syns = f'tcp flags & (syn | ack) == syn iifname != "tun0-tcp" {ours}'
    flood = f"{syns} limit rate over 2000/second burst 400 packets drop"
    before_tracking = "type filter hook prerouting priority -300; policy accept;"
    assert found[found.index(flood) - 1] == before_tracking


def test_a_bound_port_is_forwarded_from_its_address(loaded):
    way = Forwarding(device="d", inside={4: "169.254.7.2"}, numbers=(1,), bound="192.0.2.1", opened={4: (), 6: ()})
    load_table("t", Content(forwarding=way))
    assert 'iifname != "d" meta nfproto ipv4 ip daddr 192.0.2.1 tcp dport { 1 } dnat ip to 169.254.7.2' in lines(
        loaded[0]
    )
    assert "ip saddr 169.254.7.2 snat ip to 192.0.2.1" in lines(loaded[0])


def test_what_comes_out_of_the_tunnel_is_masqueraded_by_ip_version(loaded):
    networks = [ip_network(text) for text in ("192.168.7.0/24", "fd07::/64", "10.9.0.0/16")]
    load_table("t", Content(masquerade=Masquerade(device="tun0", networks=networks)))
    assert lines(loaded[0])[4:] == [
        "chain behind {",
        "type nat hook postrouting priority 100; policy accept;",
        'iifname "tun0" ip daddr { 192.168.7.0/24, 10.9.0.0/16 } masquerade',
        'iifname "tun0" ip6 daddr { fd07::/64 } masquerade',
        "}",
        "}",
    ]
    load_table("t", Content(masquerade=Masquerade(device="tun0", networks=networks[:1])))
    assert not any("ip6" in line for line in lines(loaded[1]))


def test_deleting_works_where_there_is_no_table(loaded):
    delete_table("ltunnel_tun0")
    assert lines(loaded[0]) == ["table inet ltunnel_tun0", "delete table inet ltunnel_tun0"]


@given(st.sets(st.text("ab0_.-~", min_size=1, max_size=15), min_size=2, max_size=2))
def test_no_two_devices_have_one_table(devices):
    assert len({table_name(device) for device in devices}) == 2


def test_names_of_tables_are_what_nft_reads():
    assert table_name("tun0") == "ltunnel_tun0"
    assert table_name("my-tun.1") == "ltunnel_my.2d.tun.2e.1"


def test_a_missing_program_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(host_rules.shutil, "which", lambda name, path: None)
    with pytest.raises(HostError, match="install nftables"):
        delete_table("t")


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        ("/dev/stdin:1:1-2: Error: Could not process rule: Operation not permitted\n", "no permission.*CAP_NET_ADMIN"),
        (
            "netlink: Error: Protocol not supported\n",
            r"this kernel lacks nf_tables \(or nf_nat, for backend tun and masquerade\)$",
        ),
        ("Error: syntax error\x1b[2J, unexpected\nmore\n", r"Error: syntax error\\x1b\[2J, unexpected$"),
        ("", "says nothing"),
    ],
)
def test_what_nft_says_is_passed_on_in_one_line(tmp_path: Path, monkeypatch, said, explained):
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\nprintf %s {said!r} >&2\nexit 1\n".replace("\\x1b", "\x1b").replace("\\n", "\n"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(HostError, match=explained) as caught:
        delete_table("t")
    assert "\n" not in str(caught.value)
