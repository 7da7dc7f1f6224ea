"""The demo: a hub and two nodes, the real program, on a small internet of this machine."""
