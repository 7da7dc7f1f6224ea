"""Writes the UDP payloads to a port that pass a device: ``capture.py DEVICE PORT``, a line of hex each.

Prints ``ready`` first. Ends when it is stopped.
"""

import socket
import sys

_IPV4 = 0x0800
_ETHERNET = 14
_UDP = 17


def capture(device: str, port: int) -> None:
    """Print payloads as they pass."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_IPV4)) as wire:
        wire.bind((device, _IPV4))
        print("ready", flush=True)
        while True:
            frame = wire.recv(65_536)
            header = _ETHERNET + (frame[_ETHERNET] & 0x0F) * 4
            is_udp = frame[_ETHERNET + 9] == _UDP
            if is_udp and int.from_bytes(frame[header + 2 : header + 4], "big") == port:
                print(frame[header + 8 :].hex(), flush=True)


if __name__ == "__main__":
    capture(sys.argv[1], int(sys.argv[2]))
