"""Forward error correction, the same for all codes: groups, deadlines, interleaving, adaptation, hostile shards.

    Outbound ─► sender ─► data shards, at once; parity shards, when a group is full or its deadline has come
    Inbound  ─► receiver ─► frames, at once; lost ones when enough of their group is there

On a path that loses nothing what is large goes as records, as without FEC, and `record_parity` is parity of those.

A code (`ltunnel.plugin.FecCode`) only computes parity and restores rows.
"""
