"""The node: control and data path tied together, still without a socket, a clock or a thread."""

from ltunnel.node.node import Node
from ltunnel.node.ports import CloseOrder, OpenOrder, PortOrder

__all__ = ["CloseOrder", "Node", "OpenOrder", "PortOrder"]
