"""The demo: a hub and six nodes, the real program, on a small internet of this machine."""
