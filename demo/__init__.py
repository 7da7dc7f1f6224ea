"""The demo: a hub and four nodes, the real program, on a small internet of this machine."""
