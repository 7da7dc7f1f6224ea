"""The largest datagrams in records of the relay, as only an odd node would send them."""

from __future__ import annotations

from struct import Struct

import pytest

from ltunnel.constants import MAX_DATAGRAM, RELAY_TRAILER, TAG
from ltunnel.data.relay_frames import LONGEST
from ltunnel.session import Drop
from ltunnel.wire.relay import TTL, RelayTrailer, node_name

HEADER = Struct(">IBBHI")
AS_RECORD = 1 << 24


def in_two_parts(one, other, sizes: tuple[int, ...], size: int | None = None) -> list[bytes]:
    """Seal datagrams of zeros for the hub, which is to pass them on, as one record of two parts."""
    trailer = RelayTrailer(node_name(other.key), bytes(8), TTL).pack()
    frame = bytes(sum(sizes)) + (sizes[0] if size is None else size).to_bytes(2, "big") + trailer
    epoch, sealed = one.hub.epoch, memoryview(bytearray(len(frame) + TAG))
    part, counter = -(-len(sealed) // 2), epoch.take(2)
    headers = [HEADER.pack(epoch.send_word + AS_RECORD, 2, place, part, counter + place) for place in (0, 1)]
    epoch.sealer.seal((memoryview(headers[0]),), (memoryview(frame),), (sealed,))
    return [headers[0] + sealed[:part], headers[1] + sealed[part:]]


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("sizes", [(LONGEST,), (LONGEST - 50, 20), (40_000, 25_000)])
def test_they_are_passed_on(net, sizes, clean):
    hub, one, other = net.relayed()
    if clean:
        net.use_records(hub)
    passed = [datagram for _, datagram in hub.take(one, in_two_parts(one, other, sizes))]
    assert sum(map(len, passed)) > sum(sizes) + RELAY_TRAILER
    assert max(map(len, passed)) <= MAX_DATAGRAM
    assert hub.fib.names[node_name(one.key)].stats.drops == {}


@pytest.mark.parametrize("size", [None, MAX_DATAGRAM])
def test_what_no_datagram_could_carry_on_is_dropped(net, size):
    hub, one, other = net.relayed()
    assert hub.take(one, in_two_parts(one, other, (LONGEST + 1,), size)) == []
    assert hub.fib.names[node_name(one.key)].stats.drops == {Drop.MALFORMED: 1}
