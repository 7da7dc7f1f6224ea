"""Sends what a stranger might send: ``strangers.py ADDRESS PORT COUNT SEED FILE``.

A third of the datagrams is random, a third is cut off real ones, a third is real ones with flipped bits. FILE holds the
real ones as `capture.py` writes them. Prints how many answers came.
"""

import random
import socket
import sys
import time
from pathlib import Path

_INIT = 1
_MAC2 = 16  # at the end of an INIT, not covered by MAC1: whatever stands there, the message is a real one
_TYPES = 16
_PAUSE_EVERY = 50  # 50 datagrams each 10 ms: a rate that no socket buffer overflows at


def datagrams(real: list[bytes], count: int, seed: int) -> list[bytes]:
    """Make up `count` datagrams."""
    source = random.Random(seed)  # noqa: S311 # repeatable, not secret
    made = []
    for number in range(count):
        if number % 3 == 0:
            body = source.randbytes(source.randrange(1473))
            made.append(bytes([source.randrange(_TYPES)]) + body)
            continue
        whole = source.choice(real)
        if number % 3 == 1:
            made.append(whole[: source.randrange(len(whole))])
        else:
            made.append(_flipped(whole, source))
    return made


def _flipped(whole: bytes, source: random.Random) -> bytes:
    covered = len(whole) - (_MAC2 if whole[0] == _INIT else 0)
    bits = bytearray(whole)
    for place in source.sample(range(covered * 8), source.randint(1, 4)):
        bits[place // 8] ^= 1 << place % 8
    return bytes(bits)


def main(address: str, port: int, count: int, seed: int, file: str) -> None:
    """Send, listen, count."""
    real = [bytes.fromhex(line) for line in Path(file).read_text().split()]
    answers = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("", 0))
        wire.setblocking(False)
        for number, datagram in enumerate(datagrams(real, count, seed)):
            wire.sendto(datagram, (address, port))
            if number % _PAUSE_EVERY == 0:
                time.sleep(0.01)
                answers += _arrived(wire)
        time.sleep(1)
        answers += _arrived(wire)
    print(answers)


def _arrived(wire: socket.socket) -> int:
    count = 0
    try:
        while wire.recv(2048):
            count += 1
    except BlockingIOError:
        return count
    return count


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
