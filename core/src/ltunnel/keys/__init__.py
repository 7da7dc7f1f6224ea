"""Secrets and what is made from them: the network's keys, identities, the Noise handshake, MACs and cookies."""
