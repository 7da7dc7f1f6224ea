"""What two parties share once a handshake is done: epochs (keys and counters), replay windows, peers, next hops."""

from ltunnel.session.epoch import Epoch
from ltunnel.session.fib import Fib
from ltunnel.session.hops import Hops
from ltunnel.session.peer import Drop, Path, Peer, Stats
from ltunnel.session.quality import Quality
from ltunnel.session.replay import ReplayWindow

__all__ = ["Drop", "Epoch", "Fib", "Hops", "Path", "Peer", "Quality", "ReplayWindow", "Stats"]
