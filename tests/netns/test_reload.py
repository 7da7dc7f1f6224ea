"""SIGHUP with the real program: what the file says about losses takes effect, and the far end follows."""

import json
import signal

import pytest

from lab import Lab, traffic
from lab.network import Network
from lab.tunnel import config_file

pytestmark = pytest.mark.netns


def test_the_file_is_read_again(lab: Lab) -> None:
    path = lab.folder / "node.json"
    config_file(path, {"fec_parity": 0})
    network = Network.build(lab, nodes=1, node_args=["-c", str(path), "-log-format", "json"])
    node, hub = network.nodes[0], network.hub

    def events(name: str) -> list[dict[str, object]]:
        entries = [json.loads(line) for line in node.program.output().splitlines()]
        return [entry for entry in entries if entry["event"] == name]

    def reload(content: dict[str, object], name: str, count: int) -> dict[str, object]:
        config_file(path, content)
        node.program.signal(signal.SIGHUP)
        node.wait_status(lambda _: len(events(name)) >= count, "read its file", 10)
        return events(name)[-1]

    assert node.status()["fec"]["mode"] == "off"
    reload({"fec_data": 5, "fec_parity": 2, "timeout": 99}, "reloaded", 1)
    assert events("notice")[-1]["text"].startswith("timeout: ")
    traffic.transfer(node.host, hub.host, network.hub_inner, megabytes=2)
    sent, came = (tunnel.status()["peers"][0]["fec"] for tunnel in (node, hub))
    assert (sent["mode"], sent["data"], sent["parity"]) == ("fixed", 5, 2)
    assert sent["parity_sent"] > 100
    assert came["parity_received"] > 0.9 * sent["parity_sent"]

    wrong = reload({"fec_data": "many"}, "not-reloaded", 1)
    assert "node.json: fec_data: " in str(wrong["text"])
    fec = node.status()["fec"]
    assert (fec["mode"], fec["data"], fec["parity"]) == ("fixed", 5, 2)

    reload({}, "reloaded", 2)
    assert node.status()["fec"]["mode"] == "auto"
