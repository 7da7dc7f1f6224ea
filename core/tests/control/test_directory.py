"""Bindings and pins as values."""

import json
from ipaddress import ip_address, ip_interface

import pytest

from ltunnel.control.directory import Binding, Denial, Directory
from ltunnel.control.pins import Pins, pin_name
from ltunnel.wire.frames import DenyCode

A, B, C = (bytes((number,)) * 32 for number in (1, 2, 3))


def wanted(*addresses):
    return [ip_interface(address) for address in addresses]


@pytest.fixture
def directory():
    return Directory(wanted("10.0.0.1/24", "fd00::1/64"), "hub", limit=3)


def test_claims(directory):
    first = directory.claim(A, wanted("10.0.0.2/24", "fd00::2/64", "10.0.0.2/24"), "a")
    assert first == Binding(key=A, addresses=(ip_address("10.0.0.2"), ip_address("fd00::2")), name="a")
    assert directory.claim(A, wanted("10.0.0.2/24", "fd00::2/64"), "a") == first
    assert directory.owner(ip_address("fd00::2")) == A
    denial = directory.claim(B, wanted("10.0.0.3/24", "fd00::2/64"), "b")
    assert isinstance(denial, Denial)
    assert denial.code is DenyCode.ADDRESS_TAKEN
    assert directory.owner(ip_address("10.0.0.3")) is None, "together or not at all"
    assert directory.get(B) is None


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("10.0.0.1/24", DenyCode.ADDRESS_TAKEN),
        ("10.0.0.0/24", DenyCode.ADDRESS_OUTSIDE),
        ("10.0.0.255/24", DenyCode.ADDRESS_OUTSIDE),
        ("10.0.1.2/24", DenyCode.ADDRESS_OUTSIDE),
        ("fd00::/64", DenyCode.ADDRESS_OUTSIDE),
        ("fd01::2/64", DenyCode.ADDRESS_OUTSIDE),
        ("127.0.0.1/8", DenyCode.ADDRESS_OUTSIDE),
    ],
)
def test_addresses_that_nobody_gets(directory, address, code):
    assert directory.claim(A, wanted(address), "a").code is code


def test_a_network_of_two_has_no_broadcast_address():
    assert isinstance(Directory(wanted("10.0.0.0/31"), "hub").claim(A, wanted("10.0.0.1/31"), "a"), Binding)


def test_no_address_is_not_a_claim(directory):
    assert isinstance(directory.claim(A, [], "a"), Denial)


def test_names_differ_by_more_than_case(directory):
    directory.claim(A, wanted("10.0.0.2/24"), "Ada")
    assert directory.claim(B, wanted("10.0.0.3/24"), "ADA").code is DenyCode.NAME_TAKEN
    assert directory.claim(B, wanted("10.0.0.3/24"), "Hub").code is DenyCode.NAME_TAKEN
    assert directory.claim(A, wanted("10.0.0.2/24"), "ada").name == "ada"


def test_a_new_claim_replaces_the_old_one(directory):
    directory.claim(A, wanted("10.0.0.2/24"), "a")
    directory.claim(A, wanted("10.0.0.3/24"), "x")
    assert directory.claim(B, wanted("10.0.0.2/24"), "a").name == "a"
    assert len(directory.bindings) == 2


def test_it_is_bounded(directory):
    for number in range(3):
        assert isinstance(
            directory.claim(bytes((number,)) * 32, wanted(f"10.0.0.{number + 10}/24"), f"n{number}"), Binding
        )
    assert directory.claim(bytes((9,)) * 32, wanted("10.0.0.99/24"), "n9").code is DenyCode.FULL
    assert isinstance(directory.claim(bytes((1,)) * 32, wanted("10.0.0.77/24"), "n1"), Binding), "who is in may change"


def test_forget_and_find(directory):
    directory.claim(A, wanted("10.0.0.2/24"), "a")
    assert directory.find("A") == directory.find("10.0.0.2") == directory.find(A.hex()) == directory.get(A)
    assert directory.find("nobody") is None
    assert directory.forget(A).name == "a"
    assert directory.forget(A) is None
    assert isinstance(directory.claim(B, wanted("10.0.0.2/24"), "a"), Binding)


def test_bindings_are_kept_across_restarts(directory):
    directory.claim(A, wanted("10.0.0.2/24", "fd00::2/64"), "ada ü")
    stored = json.loads(json.dumps([binding.to_dict() for binding in directory.bindings]))
    again = Directory(wanted("10.0.0.1/24"), "hub", [Binding.from_dict(item) for item in stored])
    assert again.bindings == directory.bindings
    assert again.claim(B, wanted("10.0.0.2/24"), "b").code is DenyCode.ADDRESS_TAKEN


@pytest.mark.parametrize(
    "damage",
    [
        {"key": 7}, {"key": "zz"}, {"key": "00"}, {"addresses": "10.0.0.2"}, {"addresses": ["x"]}, {"name": None},
        {"name": "a\nb"}, {"name": ""},
    ],
)  # fmt: skip
def test_damaged_bindings_are_value_errors(damage):
    good = Binding(key=A, addresses=(ip_address("10.0.0.2"),), name="a").to_dict()
    with pytest.raises(ValueError, match=r".+"):
        Binding.from_dict(good | damage)
    with pytest.raises(ValueError, match=r".+"):
        Binding.from_dict({})


def test_pins():
    name = pin_name("hub.example:9000", "default")
    assert name == "hub.example:9000/default"
    pins = Pins({})
    assert not pins.conflict(name, A)
    assert pins.add(name, A)
    assert not pins.add(name, A)
    assert pins.conflict(name, B)
    assert not pins.conflict(pin_name("hub.example:9000", "other"), B)
    assert pins.forget(name)
    assert not pins.forget(name)
