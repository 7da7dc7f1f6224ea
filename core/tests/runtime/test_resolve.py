import socket
import threading
from collections.abc import Callable

import pytest

from ltunnel.plugin import Address
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.resolve import Answer, ResolveError, Resolver, is_numeric, look_up


def resolve(loop: Loop, lookup: Callable[[str, int], list[Address]], times: int = 1) -> list[Answer]:
    answers: list[Answer] = []

    def deliver(answer: Answer, _now: float) -> None:
        answers.append(answer)
        if len(answers) == times:
            loop.stop()
        else:
            resolver.start()

    resolver = Resolver(loop, "hub.example", 9000, deliver, lookup)
    resolver.start()
    loop.run(lambda _now: None)
    resolver.close()
    return answers


def test_answers_come_on_the_loop_from_another_thread(loop):
    threads = []

    def lookup(host: str, port: int) -> list[Address]:
        threads.append(threading.current_thread())
        return [("192.0.2.1", port)]

    assert resolve(loop, lookup) == [[("192.0.2.1", 9000)]]
    assert threads[0] is not threading.current_thread()


def test_a_name_can_be_looked_up_again(loop):
    found = iter(["192.0.2.1", "192.0.2.2"])
    answers = resolve(loop, lambda _host, port: [(next(found), port)], times=2)
    assert answers == [[("192.0.2.1", 9000)], [("192.0.2.2", 9000)]]


def test_a_failure_is_an_answer(loop):
    def lookup(host: str, port: int) -> list[Address]:
        raise ResolveError("no", final=False)

    (answer,) = resolve(loop, lookup)
    assert isinstance(answer, ResolveError)


def test_only_one_lookup_is_under_way(loop):
    calls = []
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        calls.append(host)
        release.wait(5)
        return []

    resolver = Resolver(loop, "hub.example", 9000, lambda _answer, _now: loop.stop(), lookup)
    resolver.start()
    resolver.start()
    release.set()
    loop.run(lambda _now: None)
    resolver.close()
    assert calls == ["hub.example"]


def test_closing_does_not_wait_for_a_lookup_and_hears_it_no_more(loop):
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        release.wait(5)
        return []

    resolver = Resolver(loop, "hub.example", 9000, lambda _answer, _now: pytest.fail("heard"), lookup)
    resolver.start()
    thread = resolver._thread
    resolver.close()
    release.set()
    thread.join(5)
    assert not thread.is_alive()


def test_addresses_come_once_each_in_the_systems_order(monkeypatch):
    def entries(*args: object, **kwargs: object) -> list[tuple]:
        six = ("2001:db8::1", 9000, 0, 0)
        four = ("192.0.2.1", 9000)
        return [(socket.AF_INET6, 0, 0, "", six), (socket.AF_INET, 0, 0, "", four), (socket.AF_INET, 0, 0, "", four)]

    monkeypatch.setattr(socket, "getaddrinfo", entries)
    assert look_up("hub.example", 9000) == [("2001:db8::1", 9000), ("192.0.2.1", 9000)]


@pytest.mark.parametrize(
    ("code", "final"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False), (socket.EAI_FAIL, False)]
)
def test_a_missing_name_is_told_from_a_missing_network(monkeypatch, code, final):
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(code, "no luck")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ResolveError, match=r"hub\.example: no luck") as caught:
        look_up("hub.example", 9000)
    assert caught.value.final is final


def test_what_cannot_be_a_name_is_final():
    with pytest.raises(ResolveError) as caught:
        look_up("a" * 64 + ".example", 9000)
    assert caught.value.final


@pytest.mark.parametrize(("host", "numeric"), [("192.0.2.1", True), ("2001:db8::1", True), ("hub", False)])
def test_numeric_hosts_are_known(host, numeric):
    assert is_numeric(host) is numeric
