"""The token that opens the API: a file that only its owner may read."""

import hmac
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from ledger_core.errors import LedgerError
from ledger_core.keys.whole_file import write_whole_file

FILE: Final = "api.token"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,128}")


class TokenError(LedgerError):
    """The token's file can't be used."""


def load_token(directory: Path) -> str:
    """Return the token of a data directory.

    Raises TokenError `token_missing`, `token_exposed`, `token_invalid`.
    """
    path = directory / FILE
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise TokenError(
            "token_missing", f"{path} is not there: the node makes it when it starts", path=str(path)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise TokenError("token_invalid", f"{path} can't be read: {error}", path=str(path)) from error
    if mode & 0o077:
        raise TokenError(
            "token_exposed",
            f"{path} has mode {mode:04o}, others may read it: delete it (the node makes a new one) or set "
            "its mode to 0600",
            path=str(path),
        )
    if not _TOKEN.fullmatch(text):
        raise TokenError(
            "token_invalid",
            f"{path} must hold 32 to 128 letters, digits, - or _: delete it, the node makes a new one",
            path=str(path),
        )
    return text


def load_or_make_token(directory: Path) -> str:
    """Return the token of a data directory, made now if there is none; raises TokenError, OSError."""
    path = directory / FILE
    if not path.exists():
        write_whole_file(path, (secrets.token_urlsafe(32) + "\n").encode(), force=False, private=True)
    return load_token(directory)


def is_token(header: str | None, token: str) -> bool:
    """Tell in constant time whether an Authorization header holds the token."""
    scheme, _, given = (header or "").partition(" ")
    # The scheme has no secret in it, and no case (RFC 9110).
    is_bearer = scheme.lower() == "bearer"
    is_same = hmac.compare_digest(given.lstrip(" ").encode("utf-8", "surrogateescape"), token.encode())
    return is_bearer and is_same
