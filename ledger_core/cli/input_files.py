"""What a command line names: a file, standard input, or bytes written as hexadecimal or base64."""

import base64
import binascii
import re
import sys
from pathlib import Path

from ledger_core.client.bodies import roles_value
from ledger_core.errors import LedgerError
from ledger_core.keys import KeyFile, parse_address

MAX_BYTES = 4 * 1024 * 1024
"""No input of a command is larger: it bounds what a wrong file can cost."""

_KEY = re.compile("[0-9a-fA-F]{64}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")


def read_bounded(path: Path) -> bytes:
    """Return a file's bytes; raises LedgerError `input_too_large`, or OSError."""
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    return _bounded(content, str(path))


def read_source(source: str) -> tuple[bytes, str]:
    """Return the bytes that an argument stands for, and how to call the place they came from.

    The argument is `-` (standard input), the name of a file, or the bytes as hexadecimal or base64; a file
    or standard input may also hold them as hexadecimal or base64.  Raises LedgerError `input_unknown`,
    `input_empty`, `input_too_large`, or OSError.
    """
    if source == "-":
        content = _bounded(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
        return _decoded(content, "standard input"), "standard input"
    path = Path(source)
    if path.exists():
        return _decoded(read_bounded(path), source), source
    data = text_to_bytes(source.encode(errors="replace"))
    if data is None:
        shown = source if len(source) <= 40 else source[:40] + "..."
        raise LedgerError(
            "input_unknown", f"'{shown}' is neither an existing file nor hexadecimal nor base64", source=shown
        )
    return data, "the argument"


def public_key_of(text: str) -> bytes:
    """Return the public key that a key file, 64 hexadecimal digits or an address stands for.

    Raises KeyFileError or AddressError.
    """
    path = Path(text)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return KeyFile.read(path).public_key
    if _KEY.fullmatch(text):
        return bytes.fromhex(text)
    return parse_address(text)


def roles_of(text: str) -> int:
    """Return the number that roles such as `home,node` add up to; raises IntentError `role_unknown`."""
    return roles_value(name.strip() for name in text.split(","))


def text_to_bytes(text: bytes) -> bytes | None:
    """Return the bytes that a text writes as hexadecimal or base64 (also URL-safe), or None."""
    text = b"".join(text.split())
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode())
    if not _BASE64.fullmatch(text):
        return None
    standard = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
    except binascii.Error:
        return None


def _decoded(content: bytes, place: str) -> bytes:
    if not content:
        raise LedgerError("input_empty", f"{place} holds nothing", place=place)
    data = text_to_bytes(content)
    return content if data is None else data


def _bounded(content: bytes, place: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise LedgerError(
            "input_too_large", f"{place} holds more than {MAX_BYTES} bytes", place=place, limit=MAX_BYTES
        )
    return content
