"""Floods a port with SYNs from made-up sources in 100.64.0.0/10: ``flood.py ADDRESS PORT PER_SECOND SECONDS``.

Prints ``ready``, then how many it sent.
"""

import random
import socket
import struct
import sys
import time

_SYN_OPTIONS = bytes.fromhex(
    "020405b40402080a00000000000000000103030a"
)  # as Linux: MSS, SACK, timestamps, window scale
_PAUSE = 0.005
_WORD = 0xFFFF


def syn(source: int, target: bytes, port: int, sequence: int, source_port: int) -> bytes:
    """Make a SYN with its IP header. The kernel fills in length and checksum of IP (raw(7))."""
    tcp = struct.pack("!HHIIBBHHH", source_port, port, sequence, 0, 10 << 4, 2, 64_240, 0, 0) + _SYN_OPTIONS
    pseudo = struct.pack("!I4sBBH", source, target, 0, 6, len(tcp))
    total: int = sum(struct.unpack("!26H", pseudo + tcp))
    total = (total & _WORD) + (total >> 16)
    total = (total & _WORD) + (total >> 16)
    tcp = tcp[:16] + (~total & _WORD).to_bytes(2, "big") + tcp[18:]
    ip: bytes = struct.pack("!BBHHHBBHI4s", 0x45, 0, 0, 0, 0x4000, 64, 6, 0, source, target)
    return ip + tcp


def main(address: str, port: int, per_second: int, seconds: float) -> None:
    """Send at an even rate."""
    dice = random.Random(1)  # noqa: S311 # repeatable, not secret
    target = socket.inet_aton(address)
    # Made beforehand, so that making them takes nothing from those who are measured.
    sources = ((100 << 24) + (64 << 16) + dice.getrandbits(22) for _ in range(per_second))
    packets = [syn(source, target, port, dice.getrandbits(32), dice.randrange(1024, 1 << 16)) for source in sources]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as wire:
        print("ready", flush=True)
        began = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * per_second)
            for number in range(sent, due):
                wire.sendto(packets[number % per_second], (address, 0))
            sent = due
            time.sleep(_PAUSE)
    print(sent)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
