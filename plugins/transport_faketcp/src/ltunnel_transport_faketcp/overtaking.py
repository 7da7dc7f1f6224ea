"""The last segment of a super-packet that arrives in front of all others of it.

Between two network namespaces of one machine (veth) that is the rule: Linux cuts the packet, lets its owner, the
socket, go with the last segment (``skb_segment``), and GRO joins only segments of one owner (``gro_list_prepare``). The
others are kept back to be joined, the last one is not.
"""

from __future__ import annotations

from ltunnel.plugin import Buffer
from ltunnel_transport_faketcp.segment import ACK, MASK, Segment

LARGEST = 65_535


def rejoin(buf: Buffer, last: Segment, others: Segment) -> Segment | None:
    """Put the payload of `last` behind that of `others`, as they were sent; None if they were not sent as one packet.

    `buf` must have room behind `others`.
    """
    key, seq, ack, flags, window, data, end, clock, echo = last
    size, begin, stop = end - data, others[5], others[6]
    its_seq, body = others[1], stop - begin
    if (
        others[0] != key
        or its_seq + body & MASK != seq
        or others[2:5] != (ack, ACK, window)
        or not 0 < body <= LARGEST - size
    ):
        return None
    buf[stop : stop + size] = buf[data:end]
    return key, its_seq, ack, flags, window, begin, stop + size, clock, echo
