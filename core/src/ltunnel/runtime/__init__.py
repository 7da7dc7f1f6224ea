"""The one place with sockets, devices, clocks, netlink and privileges. `daemon.serve` runs a node from start to end."""
