"""The keys of a link: an X25519 exchange, and HKDF-SHA256 bound to everything that was said before."""

import hmac
from hashlib import sha256
from typing import Final, NamedTuple

from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError
from nacl.utils import random

from ledger_core.node.peers.errors import HandshakeError

KEY_BYTES: Final = 32


class Ephemeral:
    """An X25519 key pair for one handshake; the secret is 32 bytes, random unless given (golden tests)."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = random(KEY_BYTES) if secret is None else secret
        self.public: bytes = crypto_scalarmult_base(self._secret)

    def exchange(self, other: bytes) -> bytes:
        """Return the shared secret (RFC 7748); raises HandshakeError for a point of low order."""
        try:
            return crypto_scalarmult(self._secret, other)
        except CryptoError as error:
            raise HandshakeError(
                "handshake_weak_key", "the other side's ephemeral key is a point of low order"
            ) from error


class DirectionKeys(NamedTuple):
    """One key for each direction of a link."""

    from_initiator: bytes
    from_responder: bytes


def transcript(domain: bytes, *parts: bytes) -> bytes:
    """Return the SHA-256 of a domain tag and parts, each with its length before it."""
    digest = sha256(domain)
    for part in parts:
        digest.update(len(part).to_bytes(4))
        digest.update(part)
    return digest.digest()


def derive(secret: bytes, bound_to: bytes, label: bytes) -> bytes:
    """Return one 32-byte key by HKDF-SHA256 (RFC 5869): salt `bound_to`, info `label`."""
    extracted = hmac.digest(bound_to, secret, "sha256")
    return hmac.digest(extracted, label + b"\x01", "sha256")


def direction_keys(secret: bytes, bound_to: bytes, purpose: bytes) -> DirectionKeys:
    """Return both directions' keys for one purpose."""
    return DirectionKeys(
        derive(secret, bound_to, purpose + b"/initiator"),
        derive(secret, bound_to, purpose + b"/responder"),
    )
