"""Run it: ``python -m bench [--rounds 3] [--seconds 4] [--peers default|all|NAME,...] [--only ROW,...]``."""

import argparse
import sys
import time

from rich.console import Console

from bench.measures import MEASURES
from bench.others import OTHERS
from bench.peers import Arena, Ltunnel, LtunnelDirect, LtunnelRs, LtunnelXor, Peer, PlainLink, WireguardGo
from bench.report import Samples, save, table, transports
from bench.transports import TRANSPORTS
from lab import Lab, LabError, ProgramError, become_root, missing_ability

_WIDTH = 160  # where stdout is no terminal

DEFAULT: tuple[type[Peer], ...] = (PlainLink, WireguardGo, Ltunnel, LtunnelDirect, LtunnelRs, LtunnelXor, *TRANSPORTS)


def main() -> int:
    """Measure, print the table, write the JSON."""
    options = _options()
    become_root()
    if reason := missing_ability():
        sys.exit(f"The benchmark cannot run: {reason}.")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    chosen = [kind() for kind in (*DEFAULT, *OTHERS) if _is_chosen(kind, options.peers)]
    absent = {peer.name: reason for peer in chosen if (reason := peer.missing())}
    for name, reason in absent.items():
        console.print(f"{name} is left out: {reason}", style="yellow")
    peers = [peer for peer in chosen if peer.name not in absent]
    names = [peer.name for peer in peers if peer.column is None]
    samples: Samples = {}
    started: list[Peer] = []
    try:
        with Lab() as lab:
            try:
                for peer in peers:
                    console.print(f"starting {peer.name}")
                    peer.arena = Arena.build(lab, peer.name)
                    started.append(peer)
                    peer.start()
                    peer.wait()
                for number in range(1, options.rounds + 1):
                    _round(console, peers, samples, f"round {number} of {options.rounds}", options)
            finally:
                for peer in started:
                    peer.stop()
    except (LabError, ProgramError) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; everything that was built is removed", style="yellow")
        return 130
    console.print(table(samples, names, options.rounds))
    if beside := transports(samples, names):
        console.print(beside)
    console.print(f"all figures: {save(samples, names, absent, options.rounds, options.seconds)}", soft_wrap=True)
    return 0


def _round(console: Console, peers: list[Peer], samples: Samples, title: str, options: argparse.Namespace) -> None:
    """Run each measure on one peer after the other, so that what disturbs the machine disturbs all alike."""
    began = time.monotonic()
    for measure in MEASURES:
        if options.only and measure.__name__ not in options.only:
            continue
        shown = []
        for peer in peers:
            if peer.measures is not None and measure.__name__ not in peer.measures:
                continue
            try:
                figures = measure(peer, options.seconds)
            except LabError as error:
                shown.append(f"{peer.name} failed ({error})")
                continue
            for row, figure in figures.items():
                samples.setdefault(row, {}).setdefault(peer.column or peer.name, []).append(figure)
            shown.append(f"{peer.name} " + " ".join(f"{figure:.2f}" for figure in figures.values()))
        console.print(f"  {measure.__name__}: " + ", ".join(shown), style="dim", highlight=False, soft_wrap=True)
    console.print(f"{title}: {time.monotonic() - began:.0f} s")


def _is_chosen(kind: type[Peer], peers: str) -> bool:
    if peers == "all":
        return True
    return kind in DEFAULT if peers == "default" else kind.name in peers.split(",")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure ltunnel beside a plain link and other VPNs.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="for each measure")
    parser.add_argument("--peers", default="default", help="default, all, or names with commas between")
    parser.add_argument("--only", type=lambda text: text.split(","), help="measures, with commas between")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
