"""Scenario scripts do what they say, when they say it, and can be read."""

import pytest

from ltunnel.testing import Firewall, Host, Network, Quality, Router, Script


def test_script():
    network = Network()
    network.run(100)
    internet = Router(network, "internet")
    host = Host(network, "host")
    link = host.attach(internet, "192.0.2.1", quality=Quality(delay=0.01))
    firewall = Firewall(network, "office", stateful=True)
    script = Script(network)
    seen: list[float] = []
    script.at(10).unblock(link)
    script.at(5).block(link, "up").at(12).change(link, loss=0.3, delay=0.2)
    script.at(13).take_down(link).at(14).bring_up(link)
    script.at(15).flush(firewall)
    script.every(0.5, start=1, stop=3).do("look", lambda: seen.append(network.clock.now))
    assert str(script).splitlines() == [
        "at 1 s: look (4 times)",
        "at 5 s: block host<>internet up",
        "at 10 s: unblock host<>internet both",
        "at 12 s: change host<>internet both: loss=0.3, delay=0.2",
        "at 13 s: take down host<>internet",
        "at 14 s: bring up host<>internet",
        "at 15 s: flush office",
    ]
    network.run(4)
    assert seen == [101, 101.5, 102, 102.5]
    assert not link.up.blocked
    network.run(2)
    assert link.up.blocked
    assert not link.down.blocked
    network.run(5)
    assert not link.up.blocked
    network.run(1.5)
    assert link.up.quality == Quality(loss=0.3, delay=0.2)
    network.run(1)
    assert not link.is_up
    network.run(1)
    assert link.is_up


def test_the_past_is_refused():
    network = Network()
    script = Script(network)
    network.run(10)
    with pytest.raises(ValueError, match="at 5 s: nothing: it is 10 s already"):
        script.at(5).do("nothing", lambda: None)
    with pytest.raises(ValueError, match="interval"):
        script.every(0, stop=20)
