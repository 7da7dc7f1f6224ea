import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.cli.arguments import FLAGS, normalise
from ltunnel.config import Config


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ""),
        ("-m server -l 0.0.0.0:9000", "--mode=server --local-addr=0.0.0.0:9000"),
        ("-mtu 1300", "--mtu=1300"),
        ("-mtu=1300", "--mtu=1300"),
        ("--mtu 1300", "--mtu=1300"),
        ("--mtu=1300", "--mtu=1300"),
        ("-t=10.0.0.2/24", "--tunnel-addr=10.0.0.2/24"),
        ("--t 10.0.0.2/24", "--tunnel-addr=10.0.0.2/24"),
        ("-k -secret -c x.json", "--key=-secret --config=x.json"),
        ("-k=a=b", "--key=a=b"),
        ("-k=", "--key="),
        ("-fec-data 10 -fec-parity 3", "--fec-data=10 --fec-parity=3"),
        ("-multi-client=false", "--multi-client=false"),
        ("-client-isolation", "--client-isolation=true"),
        ("-client-isolation -mtu 9", "--client-isolation=true --mtu=9"),
        ("-p2p -m client", "--p2p=true --mode=client"),
        ("-client-isolation false", "--client-isolation=true false"),  # as in Go: a switch takes no argument
        ("-routes 192.168.7.0/24 -masquerade=false", "--routes=192.168.7.0/24 --masquerade=false"),
        ("-accept-routes all", "--accept-routes=all"),
        ("-v", "--version"),
        ("-h", "--help"),
        ("-help", "--help"),
        ("-mtu", "--mtu"),
        ("-nonsense 3", "--nonsense 3"),
        ("-mserver", "--mserver"),
        ("status -json --watch", "status --json --watch"),
        ("status -tun-name=lt1", "status --tun-name=lt1"),
        ("plugins list -c config.json", "plugins list -c config.json"),
        ("forget -- -alice", "forget -- -alice"),
        ("-m server status -m client", "--mode=server status -m client"),
        ("-- -m", "-- -m"),
        ("- -m", "- -m"),
    ],
)
def test_go_style_becomes_one_form(written: str, expected: str) -> None:
    assert normalise(written.split()) == expected.split()


@given(st.sampled_from([flag for flag in FLAGS if flag.field is not None and not flag.switch]), st.text())
def test_a_value_arrives_whole_whatever_it_is(flag: object, value: str) -> None:
    name, spelling = flag.name, flag.spelling  # type: ignore[attr-defined]
    assert normalise([spelling, value]) == [f"--{name}={value}"]
    assert normalise([f"{spelling}={value}"]) == [f"--{name}={value}"]
    assert normalise([f"-{spelling}={value}"]) == [f"--{name}={value}"]


def test_flags_set_fields_that_exist_and_switches_are_booleans() -> None:
    for flag in FLAGS:
        if flag.field is not None:
            assert (Config.model_fields[flag.field].annotation is bool) == flag.switch, flag


def test_the_documented_flags_are_there() -> None:
    documented = """-m -l -r -t -k -c -v -mtu -fec-data -fec-parity -send-queue -recv-queue -multi-client -max-clients
        -client-isolation -p2p -p2p-port -mesh-routing -max-hops -route-update"""
    assert set(documented.split()) <= {flag.spelling for flag in FLAGS}
