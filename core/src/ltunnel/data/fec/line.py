"""What is under way to one peer."""

from __future__ import annotations

from ltunnel.data.fec.flows import SlowFlows
from ltunnel.data.fec.open_group import OpenGroup
from ltunnel.data.fec.steering import NOTHING, Choice, Steering
from ltunnel.plugin import FecCode
from ltunnel.session import Epoch, Peer

MOST_CREDIT = 32.0
"""Parity shards that groups closed early may have at once beyond the overhead."""


class Line:
    """The path to a peer with what is chosen for it, and its open groups."""

    __slots__ = ("choice", "code", "credit", "credited", "epoch", "exempt", "groups", "next",
                 "path", "peer", "slow", "steering", "turn", "until")  # fmt: skip

    def __init__(self, peer: Peer, epoch: Epoch, steering: Steering) -> None:
        self.peer = peer
        self.epoch = epoch
        self.steering = steering
        self.path = peer.path
        self.exempt = False
        """Whether the path repairs losses itself."""
        self.slow = SlowFlows()
        self.choice: Choice = NOTHING
        self.code: FecCode | None = None
        self.groups: list[OpenGroup] = []
        """Open groups, at most ``choice.depth``."""
        self.turn = 0
        self.credit = MOST_CREDIT
        self.credited = 0.0
        self.until = float("inf")
        """When an answer to soundings is no longer waited for."""
        self.next = 0
        """Number of the next group."""

    @property
    def may_be_sounded(self) -> bool:
        """Whether the path loses what it loses, and has proved itself."""
        return not self.exempt and self.path is not None and self.path.budget is None
