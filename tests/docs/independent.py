"""A reader of a community's bytes, written from docs/formats.md and docs/rules.md alone.

It shares no code with the ledger: hashlib, struct, and libsodium through PyNaCl. What it could not know from
the pages would be a fault of the pages. It reads and checks form, hashes, signatures, work and difficulty; it
does not apply records.
"""

import hashlib
import struct
from base64 import b32decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

type Check = Callable[[Any], bool]


class WrongError(Exception):
    """The bytes are not what the pages allow; the text says why."""


def need(right: object, what: str) -> None:
    """Raise WrongError unless something holds."""
    if not right:
        raise WrongError(what)


def H(*parts: bytes) -> bytes:  # noqa: N802 - the pages' own name
    """SHA-256 of all parts."""
    return hashlib.sha256(b"".join(parts)).digest()


# Encoding

_INTS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_LENGTHS = {
    **dict.fromkeys((0xC4, 0xD9), ">B"),
    **dict.fromkeys((0xC5, 0xDA, 0xDC), ">H"),
    **dict.fromkeys((0xC6, 0xDB, 0xDD), ">I"),
}


def encode(value: Any) -> bytes:
    """Return a value's one encoding."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _encode_int(value)
    if isinstance(value, bytes):
        return _head(len(value), None, 0, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, str):
        data = value.encode()
        return _head(len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + data
    return _head(len(value), 0x90, 16, (None, 0xDC, 0xDD)) + b"".join(map(encode, value))


def _encode_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    for first in range(0xCC, 0xD0) if value >= 0 else range(0xD0, 0xD4):
        try:
            return bytes([first]) + struct.pack(_INTS[first], value)
        except struct.error:
            continue
    raise WrongError(f"{value} does not fit into 64 bits")


def _head(length: int, short: int | None, below: int, firsts: Sequence[int | None]) -> bytes:
    if short is not None and length < below:
        return bytes([short + length])
    for first, limit in zip(firsts, (2**8, 2**16, 2**32), strict=True):
        if first is not None and length < limit:
            return bytes([first]) + struct.pack(_LENGTHS[first], length)
    raise WrongError("too long")


def decode(data: bytes) -> Any:
    """Return the value in bytes; WrongError unless they are its one encoding."""
    value, end = _decode(data, 0)
    need(end == len(data), "bytes are left over")
    need(encode(value) == data, "not the shortest form")
    return value


def _decode(data: bytes, at: int) -> tuple[Any, int]:
    need(at < len(data), "cut short")
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0:
        return first if first < 0x80 else first - 256, at
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], at
    if first in _INTS:
        size = struct.calcsize(_INTS[first])
        return struct.unpack(_INTS[first], _cut(data, at, size))[0], at + size
    if 0x90 <= first < 0xC0:
        length = first - (0x90 if first < 0xA0 else 0xA0)
    else:
        need(first in _LENGTHS, f"kind {first:#x} is none of the page's")
        size = struct.calcsize(_LENGTHS[first])
        length = struct.unpack(_LENGTHS[first], _cut(data, at, size))[0]
        at += size
    if first in (0xDC, 0xDD) or 0x90 <= first < 0xA0:
        items = []
        for _ in range(length):
            item, at = _decode(data, at)
            items.append(item)
        return items, at
    content = _cut(data, at, length)
    return (content if first in (0xC4, 0xC5, 0xC6) else content.decode()), at + length


def _cut(data: bytes, at: int, size: int) -> bytes:
    need(at + size <= len(data), "cut short")
    return data[at : at + size]


# Types of fields


def bytes_of(low: int, high: int | None = None) -> Check:
    """A check of bytes of so many."""
    return lambda value: isinstance(value, bytes) and low <= len(value) <= (low if high is None else high)


def number(low: int, high: int) -> Check:
    """A check of an int within bounds."""
    return lambda value: type(value) is int and low <= value <= high


def one_of(*values: Any) -> Check:
    """A check of a value among some."""
    return lambda value: value in values and type(value) is type(values[0])


def text(low: int, high: int) -> Check:
    """A check of a text of so many code points."""
    return lambda value: isinstance(value, str) and low <= len(value) <= high


def maybe(check: Check) -> Check:
    """A check that nil passes, too."""
    return lambda value: value is None or check(value)


def many(check: Check, low: int, high: int) -> Check:
    """A check of an array."""
    return lambda value: isinstance(value, list) and low <= len(value) <= high and all(map(check, value))


def structure(*checks: Check) -> Check:
    """A check of an array of exactly these fields."""
    return lambda value: (
        isinstance(value, list)
        and len(value) == len(checks)
        and all(check(item) for check, item in zip(checks, value, strict=True))
    )


KEY = HASH = bytes_of(32)
SIGNATURE = bytes_of(64)
ASSET = bytes_of(16)
TIME = number(0, 2**40)
WATTS = number(0, 10**9)
WATT_HOURS = number(0, 10**12)
QUANTITY = number(1, 10**12)
PRICE = number(0, 10**9)
HEIGHT = number(0, 2**32 - 1)
ROLES = number(0, 15)
CARRIER = one_of("electricity", "heat", "gas", "hydrogen", "water")
ASSET_KIND = one_of(
    *("pv", "wind", "battery", "fuel_cell", "generator", "load", "ev", "charge_point", "portable", "meter"),
    "line",
)
LOCATION = structure(number(-90_000_000, 90_000_000), number(-180_000_000, 180_000_000))
INVITATION = structure(KEY, KEY, ROLES, TIME, SIGNATURE)
LINK = (HEIGHT, HASH, HEIGHT, HASH)
SIGNED_VOTE = structure(bytes_of(0, 256), SIGNATURE)
AUCTION = structure(TIME, PRICE, PRICE)
READING_ROW = structure(TIME, WATT_HOURS, WATT_HOURS, one_of(0, 1, 2))
STORED = structure(ASSET, WATT_HOURS, maybe(number(0, 10**9)))
CURVE_STEP = structure(TIME, WATTS)

KINDS: dict[int, tuple[str, tuple[Check, ...]]] = {
    1: ("member", (KEY, ROLES, maybe(KEY), HASH, maybe(LOCATION), maybe(INVITATION))),
    2: (
        "asset",
        (
            *(ASSET, ASSET_KIND, CARRIER, WATTS, many(CURVE_STEP, 0, 192), maybe(WATT_HOURS)),
            *(maybe(WATT_HOURS), maybe(ASSET), maybe(KEY), maybe(LOCATION), maybe(HASH)),
        ),
    ),
    3: (
        "offer",
        (
            *(one_of("sell", "buy"), maybe(ASSET), CARRIER, one_of("energy", "capacity"), QUANTITY),
            *(maybe(QUANTITY), WATTS, TIME, TIME, PRICE, PRICE, maybe(many(KEY, 1, 64)), TIME),
            maybe(AUCTION),
        ),
    ),
    4: ("withdrawal", (HASH,)),
    5: ("acceptance", (HASH, maybe(ASSET), QUANTITY, TIME, TIME, PRICE, TIME)),
    6: ("confirmation", (HASH,)),
    7: ("rejection", (HASH,)),
    8: ("termination", (HASH, TIME, number(0, 10**15))),
    9: ("reading", (ASSET, many(READING_ROW, 1, 192), many(STORED, 0, 16))),
    10: ("transfer", (one_of("pay", "issue", "redeem"), KEY, number(1, 10**15), maybe(HASH))),
    11: ("score", (HASH, number(0, 10))),
    12: ("vote", LINK),
    13: ("evidence", (SIGNED_VOTE, SIGNED_VOTE)),
}
COSIGNATURE = structure(KEY, SIGNATURE)
ENVELOPE = structure(bytes_of(0, 16384), SIGNATURE, many(COSIGNATURE, 0, 4))
FOUNDER = structure(KEY, ROLES, maybe(KEY), HASH, maybe(LOCATION))
PARAMETERS: dict[str, Check] = {
    "slot_s": number(60, 86400),
    "block_spacing_s": number(1, 3600),
    "checkpoint_interval": number(2, 10000),
    "difficulty_half_life_s": number(10, 604800),
    "min_difficulty_bits": number(1, 64),
    "grace_s": number(0, 604800),
    "record_max_age_s": number(600, 604800),
    "record_max_bytes": number(1024, 16384),
    "block_max_bytes": number(2**16, 2**20),
    "window_max_slots": number(1, 10000),
    "horizon_s": number(3600, 34560000),
    "loss_permille": number(0, 500),
    "loss_wh": number(0, 10000),
    "money_mode": one_of("mutual_credit", "prepaid"),
    "credit_limit": number(0, 10**15),
    "fee": number(0, 10**6),
    "termination_permille": number(0, 1000),
    "asset_approval": one_of("owner", "authority"),
    "silence_s": number(600, 7776000),
    "score_window_s": number(0, 7776000),
}
GENESIS = structure(text(1, 64), text(1, 8), TIME, structure(*PARAMETERS.values()), many(FOUNDER, 1, 256))
BUNDLE = structure(TIME, *LINK, bytes_of(66, 2**20))
BODY = structure(many(ENVELOPE, 0, 2**20), many(BUNDLE, 0, 2**20))

# Keys


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature is valid."""
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _polymod(values: Sequence[int]) -> int:
    """BIP-173's checksum function."""
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check


def key_text(prefix: str, data: bytes) -> str:
    """Return 32 bytes as Bech32m with a prefix: `el` for an address, `elsec` for a recovery code."""
    whole = int.from_bytes(data) << 4
    values = [whole >> 5 * (51 - place) & 31 for place in range(52)]
    expanded = [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]
    check = _polymod([*expanded, *values, 0, 0, 0, 0, 0, 0]) ^ 0x2BC830A3
    values += [check >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(_ALPHABET[value] for value in values)


# Genesis and records


@dataclass(frozen=True)
class Community:
    """A genesis that was read."""

    chain_id: bytes
    created: int
    parameters: dict[str, Any]
    founders: list[list[Any]]


def read_genesis(data: bytes) -> Community:
    """Check a genesis."""
    genesis = decode(data)
    need(GENESIS(genesis), "a field of the genesis is out of its bounds")
    _, _, created, values, founders = genesis
    given = dict(zip(PARAMETERS, values, strict=True))
    need(86400 % given["slot_s"] == 0, "slot_s does not divide a day")
    need(given["block_max_bytes"] >= 2 * given["record_max_bytes"], "block_max_bytes")
    need(given["horizon_s"] >= given["window_max_slots"] * given["slot_s"], "horizon_s")
    need(given["difficulty_half_life_s"] >= given["block_spacing_s"], "difficulty_half_life_s")
    members = [founder[0] for founder in founders]
    nodes = [founder[2] for founder in founders if founder[2] is not None]
    need(len(set(members)) == len(members) and len(set(nodes)) == len(nodes), "a key stands twice")
    need(founders[0][1] & 4, "the first founder is no authority")
    need(any(founder[1] & 2 for founder in founders), "no founder has a node")
    need(all(founder[2] is not None for founder in founders if founder[1] & 2), "a node has no key")
    need(all(map(crypto_core_ed25519_is_valid_point, members + nodes)), "a key is no point")
    return Community(H(b"energy-ledger/genesis/1\0", data), created, given, founders)


@dataclass(frozen=True)
class Record:
    """A record that was read, its signatures verified."""

    id: bytes
    kind: str
    fields: list[Any]
    """From `author` on."""
    signers: list[bytes]
    leaf: bytes


def read_body(data: bytes) -> tuple[str, list[Any]]:
    """Check a record's body; return its kind and fields."""
    body = decode(data)
    need(isinstance(body, list) and body and body[0] in KINDS, "no kind of record")
    kind, checks = KINDS[body[0]]
    need(structure(number(1, 13), KEY, TIME, bytes_of(8), *checks)(body), f"a field of the {kind}")
    return kind, body[1:]


def read_record(envelope: list[Any], chain_id: bytes) -> Record:
    """Check an envelope that was decoded, with every signature."""
    need(ENVELOPE(envelope), "a field of the envelope is out of its bounds")
    body, signature, extra = envelope
    kind, fields = read_body(body)
    keys = [key for key, _ in extra]
    need(keys == sorted(set(keys)) and fields[0] not in keys, "co-signatures do not ascend")
    message = b"energy-ledger/record/1\0" + chain_id + body
    for key, each in [(fields[0], signature), *extra]:
        need(verify(key, message, each), f"a signature of the {kind} is not valid")
    number_of_record = H(message)
    leaf = H(b"\0", number_of_record, signature, *(key + each for key, each in extra))
    return Record(number_of_record, kind, fields, [fields[0], *keys], leaf)


def invitation_message(chain_id: bytes, authority: bytes, key: bytes, roles: int, expires: int) -> bytes:
    """Return what an authority signs."""
    return b"energy-ledger/invitation/1\0" + chain_id + encode([authority, key, roles, expires])


def read_invitation_text(line: str) -> tuple[Community, list[str], bytes, list[Any] | None]:
    """Check an invitation as text; return community, addresses, the one-time seed and the anchor."""
    line = "".join(line.split()).upper()
    need(line.startswith("ELINVITE-1-"), "no invitation")
    digits = line.removeprefix("ELINVITE-1-").translate(str.maketrans("018", "OIB"))
    data = b32decode(digits + "=" * (-len(digits) % 8))
    (length,) = struct.unpack(">H", data[:2])
    content, check = data[2 : 2 + length], data[2 + length :]
    need(check == H(b"energy-ledger/invitation-text/1\0", content)[:5], "the checksum is wrong")
    address = text(1, 200)
    parts = decode(content)
    fits = structure(
        *(bytes_of(0, 40000), many(address, 0, 8), KEY, ROLES, TIME, SIGNATURE, KEY),
        maybe(structure(HEIGHT, HASH)),
    )
    need(fits(parts), "a field of the invitation is out of its bounds")
    genesis, addresses, authority, roles, expires, signature, secret, anchor = parts
    community = read_genesis(genesis)
    one_time = crypto_sign_seed_keypair(secret)[0]
    message = invitation_message(community.chain_id, authority, one_time, roles, expires)
    need(verify(authority, message, signature), "the authority did not sign")
    return community, addresses, secret, anchor


def read_block_file(data: bytes) -> tuple[bytes, Iterator[bytes]]:
    """Take a file of blocks apart: the genesis' bytes, and each block's."""
    line, rest = data.split(b"\n", 1)
    word, version, genesis = line.split(b" ")
    need((word, version) == (b"energy-ledger-blocks", b"1"), "no file of blocks")
    need(data[-36:-32] == bytes(4) and data[-32:] == H(data[:-32]), "the end is missing or damaged")

    def blocks() -> Iterator[bytes]:
        at = 0
        while length := struct.unpack_from(">I", rest, at)[0]:
            yield rest[at + 4 : at + 4 + length]
            at += 4 + length

    return bytes.fromhex(genesis.decode()), blocks()
