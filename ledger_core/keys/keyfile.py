"""Key files: one Ed25519 seed as JSON, plain or sealed by a passphrase, readable by its owner only.

A sealed seed is a NaCl secret box (XSalsa20-Poly1305) under a key that Argon2id (RFC 9106) derives from
the passphrase; the cost and the salt stand in the file.  A checksum over the other fields tells a damaged
file from a wrong passphrase.
"""

import hashlib
import json
import os
import shlex
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from nacl.utils import random

from ledger_core.errors import LedgerError
from ledger_core.keys.address import address, parse_address, parse_seed_text, seed_text
from ledger_core.keys.bech32 import AddressError
from ledger_core.keys.signing import SEED_LENGTH, SoftwareSigner
from ledger_core.keys.whole_file import write_whole_file

FORMAT: Final = "energy-ledger-key"
VERSION: Final = 1
KIND: Final = "ed25519"

_MAX_FILE_SIZE: Final = 16 * 1024
# A hostile file must not make the reader spend more than this.
_MAX_OPSLIMIT: Final = 64
_MAX_MEMLIMIT: Final = 1024**3


class KeyFileError(LedgerError):
    """A key file that cannot be read, trusted, opened or written; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class SealingCost:
    """What one guess at a passphrase costs: Argon2id passes and bytes of memory."""

    opslimit: int
    memlimit: int


# RFC 9106, second recommended option (3 passes, 64 MiB), one pass more because libsodium uses one lane:
# about a second on a Raspberry Pi 4, and it leaves Home Assistant its memory.
DEFAULT_COST: Final = SealingCost(opslimit=4, memlimit=64 * 1024**2)


@dataclass(frozen=True, slots=True, repr=False)
class KeyFile:
    """The checked contents of a key file; the seed stays sealed until ``signer`` gets the passphrase."""

    path: Path
    public_key: bytes
    is_sealed: bool
    _secret: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read and check a key file, without opening its seal.

        Raises KeyFileError: ``key_file_missing``, ``key_file_unreadable``, ``key_file_permissions``,
        ``key_file_version`` or ``key_file_damaged``.
        """
        path = Path(path)
        fields = _parse(path, _read_private(path))
        _require_version(path, fields)
        try:
            public_key = parse_address(_text(path, fields, "address"))
        except AddressError as error:
            _damaged(path, f"its address is wrong, {error.message}", cause=error)
        if fields.get("checksum") != _checksum(fields):
            _damaged(path, "its checksum does not match")
        is_sealed = "sealed" in fields
        secret = fields["sealed"] if is_sealed else {"seed": _text(path, fields, "seed")}
        if not isinstance(secret, dict):
            _damaged(path, "field 'sealed' is not an object")
        return cls(path, public_key, is_sealed, secret)

    def signer(self, passphrase: str | None = None) -> SoftwareSigner:
        """Open the seal, if there is one, and give the signer.

        Raises KeyFileError: ``key_file_passphrase_needed``, ``key_file_passphrase_wrong``,
        ``key_file_memory`` or ``key_file_damaged``.  A passphrase for a file without a seal is not looked at.
        """
        seed = self._unseal(passphrase) if self.is_sealed else self._plain_seed()
        signer = SoftwareSigner(seed)
        if signer.public_key != self.public_key:
            _damaged(self.path, f"its seed does not belong to its address {address(self.public_key)}")
        return signer

    def _plain_seed(self) -> bytes:
        try:
            return parse_seed_text(self._secret["seed"])
        except AddressError as error:
            _damaged(self.path, f"its seed is wrong, {error.message}", cause=error)

    def _unseal(self, passphrase: str | None) -> bytes:
        if passphrase is None:
            raise KeyFileError(
                "key_file_passphrase_needed",
                f"key file {self.path} is sealed: it needs its passphrase",
                path=str(self.path),
            )
        if (kdf := self._secret.get("kdf")) != "argon2id":
            _damaged(self.path, f"its seal uses {kdf!r}, this version knows 'argon2id'")
        cost = SealingCost(
            self._number("opslimit", argon2id.OPSLIMIT_MIN, _MAX_OPSLIMIT),
            self._number("memlimit", argon2id.MEMLIMIT_MIN, _MAX_MEMLIMIT),
        )
        salt = self._bytes("salt", argon2id.SALTBYTES)
        box = self._bytes("box", SecretBox.NONCE_SIZE + SEED_LENGTH + SecretBox.MACBYTES)
        key = _derive(self.path, passphrase, salt, cost)
        try:
            return SecretBox(key).decrypt(box)
        except CryptoError:
            raise KeyFileError(
                "key_file_passphrase_wrong",
                f"that is not the passphrase of key file {self.path}",
                path=str(self.path),
            ) from None

    def _number(self, name: str, least: int, most: int) -> int:
        value = self._secret.get(name)
        if type(value) is not int or not least <= value <= most:
            _damaged(self.path, f"field '{name}' of its seal is not a number from {least} to {most}")
        return value

    def _bytes(self, name: str, length: int) -> bytes:
        try:
            value = bytes.fromhex(self._secret.get(name, ""))
        except TypeError, ValueError:
            value = b""
        if len(value) != length:
            _damaged(self.path, f"field '{name}' of its seal is not {length} bytes in hexadecimal")
        return value


def load_key(path: str | os.PathLike[str], passphrase: str | None = None) -> SoftwareSigner:
    """Read a key file and give its signer; raises KeyFileError (see KeyFile.read and KeyFile.signer)."""
    return KeyFile.read(path).signer(passphrase)


def save_key(
    path: str | os.PathLike[str],
    signer: SoftwareSigner,
    *,
    passphrase: str | None = None,
    force: bool = False,
    cost: SealingCost = DEFAULT_COST,
) -> None:
    """Write a key file of mode 0600, whole or not at all, on disk when the call returns.

    Raises KeyFileError: ``key_file_exists`` unless ``force``, ``key_file_passphrase_empty``,
    ``key_file_memory`` or ``key_file_unwritable``.
    """
    path = Path(path)
    fields: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "address": address(signer.public_key),
    }
    if passphrase is None:
        fields["seed"] = seed_text(signer.export_seed())
    else:
        fields["sealed"] = _seal(path, signer.export_seed(), passphrase, cost)
    fields["checksum"] = _checksum(fields)
    try:
        write_whole_file(path, (json.dumps(fields, indent=2) + "\n").encode(), force=force, private=True)
    except FileExistsError:
        raise KeyFileError(
            "key_file_exists",
            f"{path} exists already: choose another name, or replace it (--force)",
            path=str(path),
        ) from None
    except OSError as error:
        raise KeyFileError(
            "key_file_unwritable", f"cannot write key file {path}: {_reason(error)}", path=str(path)
        ) from error


def _seal(path: Path, seed: bytes, passphrase: str, cost: SealingCost) -> dict[str, Any]:
    if not passphrase:
        raise KeyFileError(
            "key_file_passphrase_empty", "an empty passphrase protects nothing: give one, or none"
        )
    salt = random(argon2id.SALTBYTES)
    return {
        "kdf": "argon2id",
        "opslimit": cost.opslimit,
        "memlimit": cost.memlimit,
        "salt": salt.hex(),
        "box": bytes(SecretBox(_derive(path, passphrase, salt, cost)).encrypt(seed)).hex(),
    }


def _derive(path: Path, passphrase: str, salt: bytes, cost: SealingCost) -> bytes:
    # NFKC: the same passphrase typed on two keyboards must give the same bytes.
    secret = unicodedata.normalize("NFKC", passphrase).encode(errors="surrogateescape")
    try:
        return argon2id.kdf(SecretBox.KEY_SIZE, secret, salt, opslimit=cost.opslimit, memlimit=cost.memlimit)
    except CryptoError as error:
        # The one way Argon2id fails on checked arguments.
        raise KeyFileError(
            "key_file_memory",
            f"the passphrase of key file {path} takes {cost.memlimit // 1024} KiB of memory,"
            " which this machine does not give",
            path=str(path),
            memlimit=cost.memlimit,
        ) from error


def _checksum(fields: Mapping[str, Any]) -> str:
    covered = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_private(path: Path) -> bytes:
    try:
        # Without O_NONBLOCK, a named pipe at this place would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _require_private(path, os.fstat(descriptor).st_mode)
            content = os.read(descriptor, _MAX_FILE_SIZE + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise KeyFileError("key_file_missing", f"there is no key file {path}", path=str(path)) from None
    except OSError as error:
        raise KeyFileError(
            "key_file_unreadable", f"cannot read key file {path}: {_reason(error)}", path=str(path)
        ) from error
    if len(content) > _MAX_FILE_SIZE:
        _damaged(path, f"it is larger than {_MAX_FILE_SIZE} bytes")
    return content


def _require_private(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise KeyFileError(
            "key_file_unreadable", f"{path} is not a file and cannot hold a key", path=str(path)
        )
    if mode & 0o077:
        bits = f"{stat.S_IMODE(mode):04o}"
        raise KeyFileError(
            "key_file_permissions",
            f"others can read key file {path} (mode {bits}); repair it: chmod 600 {shlex.quote(str(path))}",
            path=str(path),
            mode=bits,
        )


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    if not content.strip():
        _damaged(path, "it is empty")
    try:
        fields = json.loads(content)
    except ValueError, RecursionError:
        # The parser's own message would quote the file, and with it perhaps the seed.
        _damaged(path, "it is not JSON")
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        _damaged(path, f'it does not say "format": "{FORMAT}"')
    return fields


def _require_version(path: Path, fields: Mapping[str, Any]) -> None:
    version = fields.get("version")
    if type(version) is not int or version < 1:
        _damaged(path, "field 'version' is not a positive number")
    if version != VERSION:
        raise KeyFileError(
            "key_file_version",
            f"key file {path} has version {version}, this program knows version {VERSION}:"
            " use a newer program",
            path=str(path),
            version=version,
            known=VERSION,
        )
    if (kind := fields.get("kind")) != KIND:
        raise KeyFileError(
            "key_file_version",
            f"key file {path} holds a key of kind {kind!r}, this program knows '{KIND}'",
            path=str(path),
            kind=str(kind),
            known=KIND,
        )


def _text(path: Path, fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        _damaged(path, f"field '{name}' is missing or not a text")
    return value


def _damaged(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    raise KeyFileError(
        "key_file_damaged",
        f"key file {path} is damaged: {why}; take it from a backup",
        path=str(path),
        reason=why,
    ) from cause


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
