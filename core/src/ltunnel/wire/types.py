"""Numbers that name messages and frames on the wire.

A datagram's first byte says what it is. Inside an opened DATA datagram the *last* byte says which frame it holds, so
that frames compose by appending (a shard is a frame and then its FEC trailer) and rows can be opened back to back.
"""

from enum import IntEnum


class MessageType(IntEnum):
    """First byte of a datagram. 0x16 (TLS) and 0x45 (an IP header) are left alone for those who look at first bytes."""

    INIT = 1
    RESP = 2
    CONFIRM = 3
    COOKIE = 4
    TIME = 5
    DATA = 6
    RECORD = 7  # one part of a record that spans datagrams
    ECHO = 8  # to oneself, see `ltunnel.wire.echo`


class FrameType(IntEnum):
    """Last byte of an opened DATA datagram."""

    PADDING = 0x00
    ROW = 0x01  # one segment of a super-packet, see `ltunnel.data.rows`
    BUNDLE = 0x02  # whole packets, see `ltunnel.data.bundle`
    FEC_DATA = 0x03  # a frame and its place in a group, see `ltunnel.data.fec.layout`
    FEC_PARITY = 0x04  # parity of a group
    RELAY = 0x05  # a whole datagram between two nodes, see `ltunnel.wire.relay`
    SUPER = 0x06  # one whole super-packet, in a record
    RECORD_PARITY = 0x07  # parity of a record, see `ltunnel.data.fec.record_parity`
    PING = 0x10
    PONG = 0x11
    PUNCH = 0x12  # a step towards a direct path
    REPORT = 0x13  # what has arrived, for the sender to judge the path by
    PROBE = 0x14  # a PING that tries a path which is not in use
    OBSERVE = 0x15  # asks the hub for the address that a datagram came from
    OBSERVED = 0x16
    ADVERT = 0x17  # which nodes are reached, see `ltunnel.wire.advert`
    WELCOME = 0x20
    PEERS = 0x21
    DENY = 0x23
    BYE = 0x24


STAYING = frozenset({FrameType.PONG, FrameType.PROBE, FrameType.OBSERVE, FrameType.OBSERVED})
"""Frames that say nothing about which path is in use: wherever they come from, the session does not move there."""
