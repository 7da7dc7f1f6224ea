"""Rows and bundles as docs/wire-format.md lays them out, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ltunnel.constants import HEADROOM
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.record_parity import TRAILER, Plan, RecordParity, Shape, parity_of
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.grid import Arena, ReceiveGrid
from ltunnel.data.records import PartGrid, RecordSealer
from ltunnel.session import Epoch, Peer
from ltunnel.session.fec import FecStats
from ltunnel.testing import packets
from ltunnel.wire.types import FrameType
from ltunnel_crypto_aesgcm import AesGcm
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity

DOCUMENT = Path(__file__).parents[3] / "docs" / "wire-format.md"


def example(name: str) -> bytes:
    body = re.search(rf"^```golden {name}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)[1]
    return bytes.fromhex("".join(line.split("#")[0] for line in body.splitlines()))


def super_packet() -> bytes:
    """A TCP packet of 10 bytes that is to be cut after 8: two rows."""
    return packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, b"ABCDEFGHIJ", seq=3, ack=4, ident=5)


def datagrams() -> list[bytes]:
    return [packets.udp("10.0.0.1", "10.0.0.2", 1, 2, text, ident=5) for text in (b"one", b"two")]


@pytest.fixture
def opened(net):
    """Sends packets from left and opens what leaves."""

    def send(sent, gso_size=None):
        left, right = net.pair()
        for packet in sent:
            left.tun.inject(packet, gso_size=gso_size)
        (epoch,) = right.control.sessions.values()
        return [epoch.open_frame(datagram) for _, datagram in left.pump()]

    return send


def test_rows(opened):
    first, second = opened([super_packet()], gso_size=8)
    assert first[1] + bytes((first[0],)) == example("row-first")
    assert second[1] + bytes((second[0],)) == example("row-last")


def test_bundle(opened):
    (frame,) = opened(datagrams())
    assert frame[1] + bytes((frame[0],)) == example("bundle")


def test_shards(net):
    left, right = net.pair(fec=(Codes("rs", ReedSolomon), FecSettings(mode=FecMode.FIXED, data=3, parity=1)))
    sent = []
    for text in (b"one", b"three"):
        left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, text, ident=5))
        sent += [datagram for _, datagram in left.pump()]
    (epoch,) = right.control.sessions.values()
    frames = [epoch.open_frame(datagram) for datagram in sent + left.close_groups()]
    found = [body + bytes((kind,)) for kind, body in frames]
    assert found == [example("shard-first"), example("shard-second"), example("shard-parity")]


@pytest.mark.parametrize("lost", ["shard-first", "shard-second"])
def test_the_documented_shards_repair_each_other(net, lost):
    left, right = net.pair(fec=(Codes("xor", XorParity), FecSettings()))
    (peer,) = set(left.fib._hosts.values())
    names = [name for name in ("shard-first", "shard-second", "shard-parity") if name != lost]
    bodies = [example(name) for name in names]
    right.take(left, [peer.epoch.seal_frame(body[-1], body[:-1]) for body in bodies])
    assert sorted(packet.payload for packet in right.tun.parsed()) == [b"one", b"three"]


def key() -> bytes:
    """The key of the examples, from the node to the hub: the first half of its block."""
    return example("keys")[:32]


class Whole:
    """What is asked of a transport that takes large datagrams."""

    prefix, largest_slot = 0, 65_400


def session(net) -> tuple[Peer, Epoch]:
    """A peer and its epoch, after five datagrams."""
    peer = net.pair()[0].peer(net.pair()[1], 1, is_hub=False)
    epoch = Epoch(
        peer, local_index=0x0A0B0C, remote_index=0x0D0E0F, sealer=AesGcm(key()), opener=AesGcm(key()), created=0.0,
        initiator=True,
    )  # fmt: skip
    epoch.take(5)
    return peer, epoch


def sealed(net, plaintext: bytes, size: int) -> list[bytes]:
    """The datagrams of a record with a plaintext, after five others."""
    _, epoch = session(net)
    out = Arena(HEADROOM + 65_600)
    end = RecordSealer(out).seal(epoch, memoryview(plaintext), PartGrid(out, size, 0), size)
    sent = bytes(out.view[HEADROOM:end])
    return [sent[at : at + 12 + size] for at in range(0, len(sent), 12 + size)]


def test_record(net):
    datagrams = sealed(net, example("super"), 40)
    assert [datagram.hex(" ") for datagram in datagrams] == [
        example("record-first").hex(" "), example("record-last").hex(" ")
    ]  # fmt: skip


def test_record_of_one_part(net):
    plain = memoryview(bytearray(example("super")))
    peer, epoch = session(net)
    peer.mtu = 0
    out = Arena(HEADROOM + 65_600)
    end, size = RecordSealer(out).seal_for(peer, epoch, plain, Whole())
    assert bytes(out.view[HEADROOM:end]).hex(" ") == example("record-whole").hex(" ")
    assert size == 0
    assert epoch.counter == 6


@pytest.mark.parametrize("code", [ReedSolomon(2, 1), XorParity(2, 1)])
def test_record_parity(code):
    parts = [example("record-first")[12:], example("record-last")[12:]]
    ciphertext = Arena(1000)
    ciphertext.view[:77] = b"".join(parts)
    (row,) = parity_of(ciphertext, 77, 40, Plan(parts=2, groups=1, slices=1), code, 5)
    assert row.tobytes().hex(" ") == example("record-parity").hex(" ")
    *numbers, kind = TRAILER.unpack(example("record-parity")[40:])
    counter, count, last, groups, group, index, k, m = numbers
    assert (counter, kind) == (5, FrameType.RECORD_PARITY)
    parity = RecordParity(Shape(count, 40, last, groups, k, m), code, FecStats())
    assert parity.keep(group, index, example("record-parity")[:40])
    for lost in range(2):
        ciphertext.data[40 * lost : 40 * lost + len(parts[lost])] = bytes(len(parts[lost]))
        assert parity.restore(ciphertext, 0b11 & ~(1 << lost), 37) == {lost: parts[lost]}
        ciphertext.view[:77] = b"".join(parts)


def test_super(net, monkeypatch):
    sealed_plaintexts = []
    left, _ = net.pair()
    net.use_records(left)
    (peer,) = set(left.fib._hosts.values())
    monkeypatch.setattr(
        RecordSealer, "seal", lambda _self, _epoch, plain, *_: sealed_plaintexts.append(bytes(plain)) or HEADROOM + 1
    )
    peer.mtu = 576
    left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, b"ABCDEFGHIJ", seq=3, ack=4, ident=5), gso_size=8)
    left.pump()
    assert sealed_plaintexts[0].hex(" ") == example("super").hex(" ")


@pytest.mark.parametrize("gso_size", [8, None])
def test_what_the_document_says_is_understood(net, gso_size):
    left, right = net.pair()
    (peer,) = set(left.fib._hosts.values())
    names = ("row-first", "row-last") if gso_size else ("bundle",)
    bodies = [example(name) for name in names]
    assert {body[-1] for body in bodies} == {FrameType.ROW if gso_size else FrameType.BUNDLE}
    right.take(left, [peer.epoch.seal_frame(body[-1], body[:-1]) for body in bodies])
    texts = [b"ABCDEFGH", b"IJ"] if gso_size else [b"one", b"two"]
    assert [packet.payload for packet in right.tun.parsed()] == texts


def test_opened_rows_go_to_the_arena_that_is_asked_for():
    grid = ReceiveGrid(Arena(5000), 0, 100, 100)
    first, second = Arena(5000), Arena(5000)
    for arena, mark in ((first, b"1"), (second, b"2"), (first, b"3")):
        grid.outputs(arena, 72, 72)[1][:1] = mark
    assert first.data[72:73] + second.data[72:73] == b"32"
