"""A router's PCP server (RFC 6887): maps UDP ports to the hosts that ask, by nftables.

``gateway.py OUTSIDE`` prints ``ready``, and a line for each mapping that is made or ended, until it is killed.
"""

import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

_REQUEST = struct.Struct(">BBxxI16s12sBxxxHH16s")
_ANSWER = struct.Struct(">BBxBII12x12sBxxxHH16s")
_TABLE = """table ip mapped {
    chain arriving { type nat hook prerouting priority -110; }
}"""


def nft(rules: str) -> None:
    """Load rules."""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def serve(outside: str) -> None:
    """Answer requests."""
    nft(_TABLE)
    mapped = IPv6Address(f"::ffff:{outside}").packed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 5351))  # noqa: S104 (of a namespace)
        print("ready", flush=True)
        while True:
            data, source = server.recvfrom(1100)
            if len(data) != _REQUEST.size or data[0] != 2:
                continue
            _, _, lifetime, packed, nonce, protocol, port, _, _ = _REQUEST.unpack(data)
            client = str(IPv4Address(packed[12:]))
            nft(f"flush chain ip mapped arriving\n{_rule(port, client) if lifetime else ''}")
            print("mapped" if lifetime else "ended", client, port, flush=True)
            answer = _ANSWER.pack(2, 129, 0, min(lifetime, 600), 1, nonce, protocol, port, port, mapped)
            server.sendto(answer, source)


def _rule(port: int, client: str) -> str:
    return f'add rule ip mapped arriving iifname "wan" udp dport {port} dnat to {client}:{port}'


if __name__ == "__main__":
    serve(sys.argv[1])
