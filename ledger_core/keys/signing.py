"""Ed25519 signatures by PyNaCl (libsodium).

Keys, signatures and messages are raw ``bytes``: public key 32, seed 32, detached signature 64.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, Self

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError
from nacl.utils import random

from ledger_core.keys.address import address

PUBLIC_KEY_LENGTH: Final = 32
SEED_LENGTH: Final = 32
SIGNATURE_LENGTH: Final = 64


class Signer(Protocol):
    """Whatever can sign for one key: a seed in memory, or a secure module that never gives it out."""

    @property
    def public_key(self) -> bytes:
        """Raw Ed25519 public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Give the detached Ed25519 signature (64 bytes) of ``message``."""


class SoftwareSigner:
    """A signer whose secret seed (32 bytes) is in this process's memory."""

    __slots__ = ("_public_key", "_secret_key")

    def __init__(self, seed: bytes) -> None:
        """Derive the key pair; raises ValueError unless ``seed`` has 32 bytes."""
        if len(seed) != SEED_LENGTH:
            raise ValueError(f"a seed has {SEED_LENGTH} bytes, not {len(seed)}")
        self._public_key, self._secret_key = crypto_sign_seed_keypair(bytes(seed))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the operating system's random source."""
        return cls(random(SEED_LENGTH))

    @property
    def public_key(self) -> bytes:
        """Raw Ed25519 public key, 32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Give the detached Ed25519 signature (64 bytes) of ``message``."""
        return crypto_sign(message, self._secret_key)[:SIGNATURE_LENGTH]

    def export_seed(self) -> bytes:
        """Give the secret seed (32 bytes), for a backup or a key file."""
        return self._secret_key[:SEED_LENGTH]

    def __repr__(self) -> str:
        return f"SoftwareSigner({address(self._public_key)})"

    def __reduce__(self) -> str:
        raise TypeError("a SoftwareSigner is not copied or pickled: its seed would leave with it")


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether ``signature`` is the key's Ed25519 signature of ``message``.

    Never raises for bytes of any length.  Refuses S >= L and small-order or non-canonical keys, as
    libsodium does.  Releases the GIL while libsodium works, so threads verify in parallel.
    """
    # libsodium reads 32 bytes of the key whatever its length: the check guards the memory, too.
    if len(public_key) != PUBLIC_KEY_LENGTH or len(signature) != SIGNATURE_LENGTH:
        return False
    signed = signature + message
    return _crypto_open(_NOWHERE, _NOWHERE, signed, len(signed), public_key) == 0


def _open_by_copy(_message: Any, _length: Any, signed: bytes, _size: int, public_key: bytes) -> int:
    """Do what libsodium's function does, through PyNaCl's public one: give 0 for a valid signed message."""
    try:
        crypto_sign_open(signed, public_key)
    except BadSignatureError:
        return -1
    return 0


def _fastest_open() -> tuple[Callable[[Any, Any, bytes, int, bytes], int], Any, int | None]:
    """Give libsodium's ``crypto_sign_open``, its null pointer, and its address.

    PyNaCl's own function gives back a copy of the message, which nobody needs here: where its library can be
    reached, libsodium is asked for the verdict alone. Elsewhere the address is None.
    """
    try:
        # No part of PyNaCl's public interface.
        from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError:
        return _open_by_copy, None, None
    address = int(ffi.cast("uintptr_t", ffi.addressof(lib, "crypto_sign_open")))
    return lib.crypto_sign_open, ffi.NULL, address


_crypto_open, _NOWHERE, CRYPTO_OPEN_ADDRESS = _fastest_open()
"""The address serves interpreters that can't load PyNaCl; None where only its public function is there."""


def is_valid_public_key(public_key: bytes) -> bool:
    """Tell whether the bytes are a canonical Ed25519 point of the prime-order group.

    Ask once, when a key is admitted: a key with a small-order part could make signatures on which
    implementations of Ed25519 disagree.
    """
    if len(public_key) != PUBLIC_KEY_LENGTH:
        return False
    return crypto_core_ed25519_is_valid_point(public_key)
