"""How fast the transport alone is: one flow over loopback, a process at each end, in batches as the core makes them.

``python plugins/transport_tls/bench/throughput.py [seconds]`` prints Gbit/s of datagrams, what was dropped for want of
room, and the CPU time of each end per GB.
"""

from __future__ import annotations

import multiprocessing
import select
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from ltunnel.constants import HEADROOM
from ltunnel.plugin import TransportContext
from ltunnel.runtime.stream import TcpPort, open_stream
from ltunnel_transport_tls import ltunnel_transport
from ltunnel_transport_tls.certificate import make_pair
from ltunnel_transport_tls.transport import TlsTransport

BATCHES = {"44 x 1430": (44, 1430), "10 x 1430": (10, 1430), "1 x 1430": (1, 1430), "1 x 100": (1, 100)}
ADDRESS = "127.0.0.1"


def make(context: TransportContext, **options: str) -> tuple[TlsTransport, TcpPort]:
    """Open a port for the transport and make it."""
    descriptor = ltunnel_transport()
    chosen = descriptor.options.model_validate(options)
    port = open_stream(ADDRESS, 0, listen=context.listen is not None, dual_stack=False)
    return cast(TlsTransport, descriptor.create(chosen, [port], context)), port


def serve(transport: TlsTransport, port: TcpPort, patience: float, take: Callable[[int], None] | None = None) -> None:
    """Work as the loop does until nothing comes for a while."""
    buf = memoryview(bytearray(1 << 18))
    answered = set()
    while select.select([port], [], [], patience)[0]:
        now = time.monotonic()
        while True:
            try:
                flow, start, end, _ = transport.receive(port, buf, 0, now)
            except BlockingIOError:
                break
            if flow is None or take is None:
                continue
            take(end - start)
            if flow not in answered:  # as the core does, for which it is no stranger any more
                answered.add(flow)
                transport.send(flow, buf, 0, transport.prefix + 1, transport.prefix + 1, now)


def receiver(pair: tuple[str, str], told: Connection) -> None:
    """Count what arrives until a second passes without any."""
    context = TransportContext(listen=(ADDRESS, 0), remote=None)
    transport, port = make(context, cert=pair[0], key=pair[1])
    told.send(port.local[1])
    total = 0

    def take(size: int) -> None:
        nonlocal total
        total += size

    while True:
        told.recv()
        total, before = 0, time.process_time()
        serve(transport, port, 1.0, take)
        told.send((total, time.process_time() - before))


def measure(name: str, seconds: float, transport: TlsTransport, port: TcpPort, number: int, far: Connection) -> None:
    """Send batches of one kind for some seconds, and print what came of it."""
    rows, size = BATCHES[name]
    slot = transport.prefix + size
    buf = memoryview(bytearray(HEADROOM + rows * slot))
    far.send(name)
    flow = transport.connect((ADDRESS, number), time.monotonic())
    while not (flow.channel and flow.channel.ready):
        serve(transport, port, 0.01)
    sent = dropped = 0
    begin, before = time.monotonic(), time.process_time()
    while (now := time.monotonic()) < begin + seconds:
        for _ in range(16):
            if transport.send(flow, buf, HEADROOM, HEADROOM + rows * slot, slot, now):
                sent += rows
            else:
                dropped += rows
                select.select([port], [], [], 0.0002)
        serve(transport, port, 0.0)
    spent, used = time.monotonic() - begin, time.process_time() - before
    serve(transport, port, 0.5)
    total, far_used = far.recv()
    rate = total * 8 / spent / 1e9
    gigabytes = total / 1e9
    share = dropped / (sent + dropped)
    print(
        f"{name:>10}: {rate:6.2f} Gbit/s, {100 * share:4.1f} % dropped, "
        f"CPU s/GB {used / gigabytes:5.2f} sending {far_used / gigabytes:5.2f} receiving"
    )


def main() -> None:
    """Measure all batches."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory() as folder:
        made = make_pair([ADDRESS], now=datetime.now(UTC), days=1)
        cert, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        cert.write_bytes(made.certificate)
        key.write_bytes(made.key)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=receiver, args=((str(cert), str(key)), there), daemon=True)
        process.start()
        number = here.recv()
        transport, port = make(TransportContext(listen=None, remote=(ADDRESS, number)), pin=made.pin)
        for name in BATCHES:
            measure(name, seconds, transport, port, number, here)
        process.terminate()
        process.join()


if __name__ == "__main__":
    main()
