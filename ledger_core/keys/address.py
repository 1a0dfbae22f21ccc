"""The text forms of a key: ``el1...`` for a public key, ``elsec1...`` for a secret seed."""

from typing import Final

from ledger_core.keys import bech32
from ledger_core.keys.bech32 import AddressError

ADDRESS_PREFIX: Final = "el"
SEED_PREFIX: Final = "elsec"
KEY_LENGTH: Final = 32
_PAYLOAD_CHARACTERS: Final = (KEY_LENGTH * 8 + 4) // 5


def address(public_key: bytes) -> str:
    """Give the address (61 characters) of a raw Ed25519 public key (32 bytes)."""
    return _encode(ADDRESS_PREFIX, public_key, "a public key")


def parse_address(text: str) -> bytes:
    """Give the raw public key (32 bytes) of an address, or raise AddressError that says what is wrong."""
    return _decode(ADDRESS_PREFIX, text, "an address")


def seed_text(seed: bytes) -> str:
    """Write a secret seed (32 bytes) as text with a checksum.  Whoever sees it owns the key."""
    return _encode(SEED_PREFIX, seed, "a seed")


def parse_seed_text(text: str) -> bytes:
    """Give the secret seed (32 bytes) of ``seed_text``; raises AddressError, which never repeats the text."""
    return _decode(SEED_PREFIX, text, "a secret seed")


def _encode(prefix: str, payload: bytes, what: str) -> str:
    if len(payload) != KEY_LENGTH:
        raise AddressError(
            "address_length",
            f"{what} has {KEY_LENGTH} bytes, not {len(payload)}",
            length=len(payload),
            expected=KEY_LENGTH,
        )
    return bech32.encode(prefix, bech32.pack(payload))


def _decode(prefix: str, text: str, what: str) -> bytes:
    _require_prefix(prefix, text, what)
    expected = len(prefix) + 1 + _PAYLOAD_CHARACTERS + bech32.CHECKSUM_LENGTH
    if len(text) != expected:
        off = len(text) - expected
        raise AddressError(
            "address_length",
            f"{what} has {expected} characters, this one has {len(text)}:"
            f" {abs(off)} {'too many' if off > 0 else 'missing'}",
            length=len(text),
            expected=expected,
        )
    _, values = bech32.decode(text, prefix)
    return bech32.unpack(values)


def _require_prefix(prefix: str, text: str, what: str) -> None:
    start = prefix + "1"
    if text[: len(start)].lower() == start:
        return
    if prefix == ADDRESS_PREFIX and text[: len(SEED_PREFIX) + 1].lower() == SEED_PREFIX + "1":
        raise AddressError(
            "address_prefix",
            f"this is a secret seed ({SEED_PREFIX}1...), not {what} ({start}...): keep it to yourself",
            expected=start,
        )
    if prefix == SEED_PREFIX and text[: len(ADDRESS_PREFIX) + 1].lower() == ADDRESS_PREFIX + "1":
        raise AddressError(
            "address_prefix",
            f"this is an address ({ADDRESS_PREFIX}1...), not {what} ({start}...)",
            expected=start,
        )
    raise AddressError("address_prefix", f"{what} starts with '{start}', this text does not", expected=start)
