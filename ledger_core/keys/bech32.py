"""Bech32m (BIP-350): readable text with a checksum that finds typing errors.

Source: BIP-173 (character set, generator) and BIP-350 (the constant of bech32m).  The code finds every
error of up to four characters in a text of at most 90; one wrong character, or two neighbours exchanged,
it can also locate.  BIP-173 advises against *correcting* a text for its user: the error names the place only.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from ledger_core.errors import LedgerError

CHARSET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_LENGTH: Final = 6
MAX_LENGTH: Final = 90

_VALUE_OF: Final = {character: value for value, character in enumerate(CHARSET)}
_BECH32M: Final = 0x2BC830A3
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
# Characters that the set leaves out because they look like another one.
_LOOKALIKES: Final = {"1": "l", "b": "6 or h", "i": "l or j", "o": "0"}


class AddressError(LedgerError):
    """A text that is not what it claims to be: ``code`` says why, ``details`` hold the 1-based positions."""


def _step(checksum: int, value: int) -> int:
    top = checksum >> 25
    checksum = (checksum & 0x1FFFFFF) << 5 ^ value
    for bit, generator in enumerate(_GENERATOR):
        if top >> bit & 1:
            checksum ^= generator
    return checksum


def _residue(prefix: str, values: Iterable[int]) -> int:
    """0 for a correct text; otherwise a syndrome that depends on the errors alone."""
    checksum = 1
    for character in prefix:
        checksum = _step(checksum, ord(character) >> 5)
    checksum = _step(checksum, 0)
    for character in prefix:
        checksum = _step(checksum, ord(character) & 31)
    for value in values:
        checksum = _step(checksum, value)
    return checksum ^ _BECH32M


def encode(prefix: str, values: Sequence[int]) -> str:
    """Join ``prefix`` (lower case), the separator ``1``, 5-bit ``values`` and their checksum."""
    checksum = _residue(prefix, (*values, *(0,) * CHECKSUM_LENGTH))
    tail = [checksum >> 5 * (CHECKSUM_LENGTH - 1 - index) & 31 for index in range(CHECKSUM_LENGTH)]
    return prefix + "1" + "".join(CHARSET[value] for value in (*values, *tail))


def decode(text: str, prefix: str | None = None) -> tuple[str, list[int]]:
    """Take a text apart into its prefix and 5-bit values, without the checksum.

    With a ``prefix`` the text must start with it and ``1``; without, the last ``1`` ends the prefix.

    Raises AddressError: ``address_length``, ``address_character``, ``address_case``, ``address_prefix``
    or ``address_checksum``.
    """
    if len(text) > MAX_LENGTH:
        raise AddressError(
            "address_length",
            f"{len(text)} characters are too many, at most {MAX_LENGTH} are possible",
            length=len(text),
            most=MAX_LENGTH,
        )
    _require_printable(text)
    _require_one_case(text)
    text = text.lower()
    start = text.rfind("1") if prefix is None else len(prefix)
    if start < 1 or text[start : start + 1] != "1" or not text.startswith(prefix or ""):
        raise AddressError(
            "address_prefix",
            f"the prefix is missing: '{prefix}1' comes first" if prefix else "the prefix is missing",
        )
    prefix, data = text[:start], text[start + 1 :]
    values = _values(data, offset=len(prefix) + 1)
    if len(values) < CHECKSUM_LENGTH:
        raise AddressError(
            "address_length",
            f"only {len(values)} characters follow the prefix '{prefix}1',"
            f" the checksum alone has {CHECKSUM_LENGTH}",
            length=len(text),
        )
    residue = _residue(prefix, values)
    if residue:
        raise _checksum_error(residue, data, offset=len(prefix) + 1)
    return prefix, values[:-CHECKSUM_LENGTH]


def pack(payload: bytes) -> list[int]:
    """Regroup bytes into 5-bit values, the last one padded with zero bits."""
    padding = -len(payload) * 8 % 5
    number = int.from_bytes(payload) << padding
    count = (len(payload) * 8 + padding) // 5
    return [number >> 5 * (count - 1 - index) & 31 for index in range(count)]


def unpack(values: Sequence[int]) -> bytes:
    """Regroup 5-bit values into bytes; raises AddressError ``address_padding`` unless ``pack`` gives them."""
    number = 0
    for value in values:
        number = number << 5 | value
    size, padding = divmod(len(values) * 5, 8)
    if padding >= 5 or number & (1 << padding) - 1:
        raise AddressError("address_padding", "the last character before the checksum carries stray bits")
    return (number >> padding).to_bytes(size)


def _require_printable(text: str) -> None:
    for position, character in enumerate(text, 1):
        if not "!" <= character <= "~":
            raise AddressError(
                "address_character",
                f"character {character!a} at position {position} cannot occur: only the letters a-z and"
                " digits are possible, without blanks",
                character=character,
                position=position,
            )


def _require_one_case(text: str) -> None:
    lower = next((place for place, character in enumerate(text, 1) if character.islower()), 0)
    upper = next((place for place, character in enumerate(text, 1) if character.isupper()), 0)
    if lower and upper:
        raise AddressError(
            "address_case",
            f"upper case ({text[upper - 1]!r} at position {upper}) and lower case"
            f" ({text[lower - 1]!r} at position {lower}) are mixed: use lower case throughout",
            upper_position=upper,
            lower_position=lower,
        )


def _values(data: str, offset: int) -> list[int]:
    values = []
    for position, character in enumerate(data, offset + 1):
        value = _VALUE_OF.get(character)
        if value is None:
            hint = _LOOKALIKES.get(character)
            raise AddressError(
                "address_character",
                f"character {character!r} at position {position} cannot occur there"
                + (f": perhaps {hint} was meant" if hint else ""),
                character=character,
                position=position,
            )
        values.append(value)
    return values


def _checksum_error(residue: int, data: str, offset: int) -> AddressError:
    place = _substitution(residue, len(data))
    if place is not None:
        position = offset + 1 + place
        return AddressError(
            "address_checksum",
            "the checksum does not match:"
            f" character {data[place]!r} at position {position} is probably wrong",
            positions=[position],
        )
    place = _exchange(residue, data)
    if place is not None:
        position = offset + 1 + place
        return AddressError(
            "address_checksum",
            f"the checksum does not match: characters {data[place : place + 2]!r} at positions {position} and"
            f" {position + 1} are probably exchanged",
            positions=[position, position + 1],
        )
    return AddressError(
        "address_checksum", "the checksum does not match: more than one character is wrong", positions=[]
    )


def _substitution(residue: int, length: int) -> int | None:
    """Index of the one value whose change explains the residue, or None."""
    for difference in range(1, 32):
        syndrome = difference
        for place in range(length - 1, -1, -1):
            if syndrome == residue:
                return place
            syndrome = _step(syndrome, 0)
    return None


def _exchange(residue: int, data: str) -> int | None:
    """Index of the first of two neighbours whose exchange explains the residue, or None."""
    for place in range(len(data) - 1):
        difference = _VALUE_OF[data[place]] ^ _VALUE_OF[data[place + 1]]
        syndrome = _step(difference, difference)
        for _ in range(len(data) - 2 - place):
            syndrome = _step(syndrome, 0)
        if difference and syndrome == residue:
            return place
    return None
