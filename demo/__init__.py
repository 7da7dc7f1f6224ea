"""The demo: a hub and three nodes, the real program, on a small internet of this machine."""
