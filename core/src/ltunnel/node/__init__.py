"""The node: control and data path tied together, still without a socket, a clock or a thread."""

from ltunnel.node.node import Node

__all__ = ["Node"]
