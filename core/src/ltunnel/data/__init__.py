"""The data path: packets between a TUN device and sealed datagrams, in batches, for many peers.

    out   TUN -> `Outbound` (next hop, rows and bundles, seal) -> transport
    in    transport -> `Inbound` (replay, open, inner source) -> TUN, or `Outbound` again on a hub

`grid` and `staging` lay batches out in preallocated buffers, `segments` and `udp_runs` join what was cut, `records`
seal what is large at once, `reports` say whether that pays, `inet` knows IP, TCP and UDP headers, `plain` does in
software what a TUN device without offloads cannot.
"""
