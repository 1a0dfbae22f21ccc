"""Text of others, made safe for a line of the log."""

from ledger_core.keys import address

_SHORT_ADDRESS = 14


def printable(text: str, limit: int) -> str:
    """Return the text without line breaks and control characters, cut to `limit` characters."""
    clean = "".join(character if character.isprintable() else "?" for character in text[:limit])
    return clean if len(text) <= limit else clean[:-1] + "…"


def short_key(key: bytes) -> str:
    """Return the first characters of a key's address: enough to tell the nodes of a community apart."""
    return address(key)[:_SHORT_ADDRESS] + "…"
