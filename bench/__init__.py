"""Benchmarks: ltunnel beside a plain link and other VPNs, interleaved in one run on namespaces of this machine."""
