"""Figures of the protocol that more than one package needs. Times are seconds, sizes bytes."""

# Layout of a DATA datagram: type 1, receiver index 3, counter 8, ciphertext, tag 16.
DATA_HEADER = 12
TAG = 16
DATA_OVERHEAD = DATA_HEADER + TAG
ROW_TRAILER = 8  # what an IP row carries after payload and header, its frame type included
BUNDLE_ENTRY = 11  # what a bundled packet carries besides itself: virtio-net header 10, frame type 1
SHARD_TRAILER = 10  # what FEC adds to a frame
RELAY_TRAILER = 18  # what a RELAY frame adds to a datagram: two names of 8, ttl 1, frame type 1
MAX_DATAGRAM = 65_507  # largest UDP payload over IPv4

# Headroom in front of the first datagram of a batch: transports put their headers there (DESIGN: >= 96).
HEADROOM = 128

# A UDP_SEGMENT call takes at most 64 segments on kernels before 6.9, UDP_GRO joins at most 64.
MAX_ROWS = 64

DEFAULT_MTU = 1400
MIN_MTU_IPV4 = 576
MIN_MTU_IPV6 = 1280

# Rekeying: WireGuard's timers, with limits for AES-GCM (NIST SP 800-38D bounds invocations per key).
REKEY_AFTER_TIME = 120.0
REKEY_AFTER_PACKETS = 1 << 26
REJECT_AFTER_TIME = 180.0
REJECT_AFTER_PACKETS = 1 << 28
OLD_EPOCH_TIME = 30.0
REPLAY_WINDOW = 8192
