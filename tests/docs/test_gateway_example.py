"""The guide's example of a network behind a machine, as it stands there: configurations, sysctl, firewall, ping."""

import json
import re

import pytest

from lab import Lab, Tunnel, traffic
from lab.lan import Lan, reaches
from lab.network import HUB_OUTER, KEY, attach_node
from lab.tunnel import config_file

SECTION = "Networks behind a machine"
PRINTER = "192.168.7.20"


@pytest.mark.netns
@pytest.mark.parametrize("chain", ["FORWARD", "DOCKER-USER"])
def test_the_example_works(guide, chain):
    section = guide.section(SECTION)
    assert f"`ping {PRINTER}`" in section.text
    written = [json.loads(block) for block in section.blocks("json config")]
    with Lab() as lab:
        lan = Lan(lab, 1, subnet=7)
        lan.gate.sysctl({"net.ipv4.ip_forward": 0})
        hub_host, far_host = lab.host("hub"), attach_node(lab, 2)
        lab.attach(hub_host, f"{HUB_OUTER}/24")
        hosts = {None: hub_host, "office": lan.gate, "laptop": far_host}
        tunnels = {}
        for fields in sorted(written, key=lambda fields: fields["mode"], reverse=True):
            name, more = fields.get("name"), {"key": KEY}
            if "remote_addr" in fields:
                more["remote_addr"] = f"{HUB_OUTER}:9000"
            file = config_file(lab.folder / f"{name}.json", {**fields, **more})
            tunnels[name] = Tunnel(hosts[name], ["-c", file], device="ltun0")
        laptop = tunnels["laptop"]
        laptop.wait_status(lambda status: bool(status["accepted_routes"]), "accept the office's network")
        assert traffic.ping(far_host, PRINTER, count=1).received == 0, "the office does not forward"

        lan.gate.run("iptables", "-P", "FORWARD", "DROP")
        if chain == "DOCKER-USER":
            lan.gate.run("iptables", "-N", chain)
            lan.gate.run("iptables", "-A", "FORWARD", "-j", chain)
        lan.gate.run(*re.search(r"`(sysctl -w net\.ipv4\.\S+)`", section.text)[1].split())
        assert traffic.ping(far_host, PRINTER, count=1).received == 0, "the firewall drops what is forwarded"

        (rules,) = (block for block in section.blocks("sh") if "iptables" in block)
        for line in rules.replace("FORWARD", chain).splitlines():
            lan.gate.run(*line.split())
        assert reaches(far_host, PRINTER)
        there = traffic.transfer(far_host, lan.device, PRINTER, megabytes=2)
        assert there.sent == there.received
        assert laptop.run("status").stdout.count("192.168.7.0/24") == 1
        assert "accepted" in laptop.run("status").stdout
        assert re.search(r"192\.168\.7\.0/24 +this machine +offered", tunnels["office"].run("status").stdout)
