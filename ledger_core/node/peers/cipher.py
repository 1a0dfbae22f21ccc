"""Sealed frames: ChaCha20-Poly1305 (RFC 8439), a counter as nonce, a key per direction, regular new keys.

Frames must arrive in order, each once: a repeated, missing, swapped or altered frame does not open.
"""

import hmac
from typing import Final

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_ABYTES,
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from ledger_core.node.peers.errors import Misbehaviour

TAG_BYTES: Final[int] = crypto_aead_chacha20poly1305_ietf_ABYTES
REKEY_FRAMES: Final = 1 << 16
"""Frames sealed with one key. The next key follows from it by a one-way function."""

_REKEY_LABEL: Final = b"energy-ledger/peer-rekey/1"


class _Counter:
    """A key and the number of frames that it has served."""

    __slots__ = ("_count", "_key", "_rekey_frames")

    def __init__(self, key: bytes, rekey_frames: int = REKEY_FRAMES) -> None:
        self._key = key
        self._count = 0
        self._rekey_frames = rekey_frames

    def _nonce(self) -> bytes:
        return self._count.to_bytes(12, "little")

    def _advance(self) -> None:
        self._count += 1
        if self._count == self._rekey_frames:
            self._key = hmac.digest(self._key, _REKEY_LABEL, "sha256")
            self._count = 0


class Sealer(_Counter):
    """Seals the frames of one direction."""

    def seal(self, plaintext: bytes, bound_to: bytes = b"") -> bytes:
        """Return the ciphertext: `TAG_BYTES` longer than the plaintext; `bound_to` is authenticated too."""
        sealed = crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, bound_to, self._nonce(), self._key)
        self._advance()
        return sealed


class Opener(_Counter):
    """Opens the frames of one direction."""

    def open(self, ciphertext: bytes, bound_to: bytes = b"") -> bytes:
        """Return the plaintext; raises Misbehaviour `frame_forged` for anything but the next sealed frame."""
        # PyNaCl computes the plaintext's length before it looks: a shorter text would be a negative one.
        if len(ciphertext) < TAG_BYTES:
            raise Misbehaviour("frame_forged", f"a frame of {len(ciphertext)} bytes holds no tag")
        try:
            plaintext = crypto_aead_chacha20poly1305_ietf_decrypt(
                ciphertext, bound_to, self._nonce(), self._key
            )
        except CryptoError as error:
            raise Misbehaviour(
                "frame_forged", "a frame is not the one that comes next on this link"
            ) from error
        self._advance()
        return plaintext
