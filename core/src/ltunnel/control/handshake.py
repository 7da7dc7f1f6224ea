"""One Noise handshake from either end: `Initiator` and `Responder` make and read the three messages.

    initiator                               responder
      INIT     e, sealed time       ────►   (judged by `admission`)
               ◄────   e, s, sealed stack   RESP
      CONFIRM  s, sealed claim      ────►   now the initiator's key is known

Both end with a pair of keys. Retransmission, timers and what is to be made of a claim live elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from ltunnel.control.settings import ControlSettings, Random
from ltunnel.keys.mac import mac1, mac2, verify
from ltunnel.keys.noise import HandshakeState, protocol_name
from ltunnel.wire.messages import (
    CONFIRM_MAC1,
    INIT_MAC1,
    NO_MAC,
    PROLOGUE,
    RESP_MAC1,
    Confirm,
    Init,
    Resp,
    cipher_mark,
)


class TrafficKeys(NamedTuple):
    """What a handshake is for: one key (32 bytes) for each direction."""

    send: bytes
    receive: bytes


def _state(settings: ControlSettings, random: Random, *, initiator: bool) -> HandshakeState:
    return HandshakeState(
        protocol_name(settings.cipher),
        initiator=initiator,
        prologue=PROLOGUE,
        new_aead=settings.new_aead,
        ephemeral=random,
        static=settings.identity,
        psks=(settings.keys.psk,),
    )


class Initiator:
    """The side that sends INIT and CONFIRM. `index` is what the other side will write into its messages to us."""

    __slots__ = ("_cipher", "_keys", "_noise", "_remote", "index", "mac1")

    def __init__(self, settings: ControlSettings, random: Random, index: int) -> None:
        self._noise = _state(settings, random, initiator=True)
        self._keys = settings.keys
        self._cipher = cipher_mark(settings.cipher)
        self._remote = 0
        self.index = index
        self.mac1 = NO_MAC
        """Of the INIT, once made: COOKIE and TIME are bound to it."""

    def init(self, payload: bytes, cookie: bytes | None) -> bytes:
        """Make the INIT (144 bytes). `cookie`, where the hub gave one, makes MAC2."""
        bare = Init(self.index, self._cipher, self._noise.write_message(payload)).pack()
        self.mac1 = mac1(self._keys.mac1, bare[:INIT_MAC1])
        data = bare[:INIT_MAC1] + self.mac1
        return data + (NO_MAC if cookie is None else mac2(cookie, data))

    def read_resp(self, resp: Resp) -> bytes | None:
        """Take a RESP and return its payload; None, and nothing changed, if it does not authenticate."""
        payload = self._noise.read_message(resp.noise)
        if payload is not None:
            self._remote = resp.sender
        return payload

    @property
    def remote_static(self) -> bytes:
        """The responder's key (32 bytes), after `read_resp`."""
        key = self._noise.remote_static
        if key is None:
            raise ValueError("no RESP was read")
        return key

    @property
    def remote_index(self) -> int:
        """The responder's index, after `read_resp`."""
        return self._remote

    def confirm(self, payload: bytes) -> tuple[bytes, TrafficKeys]:
        """Make the CONFIRM (92 bytes and the payload) and the keys."""
        bare = Confirm(self.index, self._remote, self._noise.write_message(payload)).pack()[:CONFIRM_MAC1]
        to_responder, to_initiator = self._noise.split()
        return bare + mac1(self._keys.mac1, bare), TrafficKeys(send=to_responder, receive=to_initiator)


class Responder:
    """The side that answers an INIT."""

    __slots__ = ("_keys", "_noise")

    def __init__(self, settings: ControlSettings, random: Random) -> None:
        self._noise = _state(settings, random, initiator=False)
        self._keys = settings.keys

    def read_init(self, init: Init) -> bytes | None:
        """Take an INIT and return its payload (56 bytes); None if it does not authenticate."""
        return self._noise.read_message(init.noise)

    def resp(self, index: int, remote_index: int, payload: bytes) -> bytes:
        """Make the RESP (140 bytes): `index` is ours, `remote_index` the initiator's."""
        bare = Resp(index, remote_index, self._noise.write_message(payload)).pack()[:RESP_MAC1]
        return bare + mac1(self._keys.mac1, bare)

    def read_confirm(self, confirm: Confirm) -> bytes | None:
        """Take a CONFIRM and return its payload; None, and nothing changed, if it does not authenticate."""
        return self._noise.read_message(confirm.noise)

    @property
    def remote_static(self) -> bytes:
        """The initiator's key (32 bytes), after `read_confirm`."""
        key = self._noise.remote_static
        if key is None:
            raise ValueError("no CONFIRM was read")
        return key

    def keys(self) -> TrafficKeys:
        """Return the keys, after `read_confirm`."""
        to_responder, to_initiator = self._noise.split()
        return TrafficKeys(send=to_initiator, receive=to_responder)


def mac_ok(settings: ControlSettings, message: Resp | Confirm, data: bytes) -> bool:
    """Whether MAC1 of a RESP or CONFIRM (`data` is all of it) verifies."""
    end = RESP_MAC1 if isinstance(message, Resp) else CONFIRM_MAC1
    return verify(settings.keys.mac1, data[:end], message.mac1)
