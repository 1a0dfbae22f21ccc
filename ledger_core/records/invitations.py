"""An invitation as one line of text: what a newcomer needs to find a community, check it, and join it once.

The text is upper case letters, digits and `-` alone, so that a QR code holds it in its compact alphanumeric
mode: `ELINVITE-1-`, then base32 (RFC 4648, without padding) of two bytes of length, the content
(MessagePack), and five bytes of the content's SHA-256 under a domain tag. Whoever sees the text can use it:
until then it is a secret.
"""

import base64
import re
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, ValidationError

from ledger_core.community import Genesis, decode_genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner, verify
from ledger_core.records.codec import invitation_message
from ledger_core.records.members import Invitation
from ledger_core.records.types import Hash, Height, Key, Roles, Signature, Time

PREFIX: Final = "ELINVITE"
VERSION: Final = 1
MAX_ADDRESSES: Final = 8
MAX_TEXT: Final = 80_000
"""Characters of a text that is looked at."""

_CHECKSUM_DOMAIN: Final = b"energy-ledger/invitation-text/1\0"
_CHECKSUM_BYTES: Final = 5
_LENGTH_BYTES: Final = 2
_START: Final = re.compile(rf"{PREFIX}-([0-9]{{1,4}})-")
_FOREIGN: Final = re.compile(r"[^A-Z2-7]")
# Nobody means a digit that base32 leaves out: it is the letter that looks like it.
_LOOKALIKES: Final = str.maketrans("018", "OIB")

Address = Annotated[str, Meta(min_length=1, max_length=200, pattern="^[!-~]+$")]
"""Where a node of the community can be reached: `host:port` or a WebSocket URL."""


class InvitationError(LedgerError):
    """A text that is no invitation, or one that can't be used; the message tells what to do about it."""


class Anchor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A final checkpoint: whatever chain a newcomer is told, it must lead through this block."""

    height: Height
    hash: Hash


class InvitationLink(Struct, frozen=True):
    """A one-time right to join, and what is needed to use it."""

    genesis: bytes
    """The community's genesis in canonical bytes."""
    addresses: tuple[str, ...]
    """Where nodes of the community can be reached; may be empty where they are found on the local network."""
    invitation: Invitation
    """What the authority signed; it names the public half of `secret`."""
    secret: bytes
    """The one-time key's seed, 32 bytes."""
    anchor: Anchor | None = None
    """The last final checkpoint when the invitation was made."""

    @property
    def community(self) -> Genesis:
        """The genesis, decoded; raises RecordError as `decode_genesis`."""
        return decode_genesis(self.genesis)

    @property
    def chain_id(self) -> bytes:
        """The community's chain id."""
        return self.community.chain_id

    @property
    def signer(self) -> SoftwareSigner:
        """The signer of the one-time key, which co-signs the newcomer's member record."""
        return SoftwareSigner(self.secret)


class _Content(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the text holds; the one-time public key follows from its seed."""

    genesis: Annotated[bytes, Meta(max_length=40_000)]
    addresses: Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]
    authority: Key
    roles: Roles
    expires: Time
    signature: Signature
    secret: Key
    anchor: Anchor | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Content)


def encode_link(link: InvitationLink) -> str:
    """Return an invitation as its text; raises InvitationError as `decode_link` for what no text can hold."""
    invitation = link.invitation
    content = _Content(
        link.genesis,
        link.addresses,
        invitation.authority,
        invitation.roles,
        invitation.expires,
        invitation.signature,
        link.secret,
        link.anchor,
    )
    data = _encoder.encode(content)
    if _opened(data) != link:
        raise InvitationError(
            "invitation_text_malformed", "the secret is not that of the invitation's one-time key"
        )
    framed = len(data).to_bytes(_LENGTH_BYTES) + data + _checksum(data)
    return f"{PREFIX}-{VERSION}-{base64.b32encode(framed).decode().rstrip('=')}"


def decode_link(text: str) -> InvitationLink:
    """Return the invitation in a text; blanks, line ends and lower case do no harm.

    The community's genesis and the authority's signature are checked; whether the invitation is expired or
    was used only the chain can tell. Raises InvitationError: `invitation_text_prefix`,
    `invitation_text_version`, `invitation_text_character`, `invitation_text_length`,
    `invitation_text_checksum` or `invitation_text_malformed`.
    """
    if len(text) > MAX_TEXT:
        raise InvitationError(
            "invitation_text_length",
            f"this text has {len(text)} characters; an invitation has at most {MAX_TEXT}",
            length=len(text),
            expected=MAX_TEXT,
        )
    return _opened(_unframed(_payload("".join(text.split()).upper())))


def _payload(text: str) -> str:
    start = _START.match(text)
    if start is None:
        raise InvitationError(
            "invitation_text_prefix",
            f"an invitation starts with {PREFIX}-{VERSION}-; copy the whole line from its beginning",
        )
    if int(start[1]) != VERSION:
        raise InvitationError(
            "invitation_text_version",
            f"this invitation has version {int(start[1])}, known here is {VERSION}: update this program, or "
            "ask for an invitation made with the same version",
            version=int(start[1]),
            known=VERSION,
        )
    payload = text[start.end() :].translate(_LOOKALIKES)
    foreign = _FOREIGN.search(payload)
    if foreign is not None:
        position = start.end() + foreign.start() + 1
        raise InvitationError(
            "invitation_text_character",
            f"character {foreign[0]!a} at position {position} (blanks not counted) can't occur in an "
            "invitation: copy it again",
            character=foreign[0],
            position=position,
        )
    return payload


def _unframed(payload: str) -> bytes:
    """Return the content's bytes; length and checksum tell what happened to a text on its way."""
    size = len(payload) * 5 // 8
    padded = payload + "A" * (-len(payload) % 8)
    data = base64.b32decode(padded)[:size]
    if size < _LENGTH_BYTES:
        raise _incomplete(len(payload), None)
    length = int.from_bytes(data[:_LENGTH_BYTES])
    expected = -(-(_LENGTH_BYTES + length + _CHECKSUM_BYTES) * 8 // 5)
    if len(payload) != expected:
        raise _incomplete(len(payload), expected)
    content, checksum = data[_LENGTH_BYTES : _LENGTH_BYTES + length], data[_LENGTH_BYTES + length :]
    if checksum != _checksum(content) or base64.b32encode(data).decode().rstrip("=") != payload:
        raise InvitationError(
            "invitation_text_checksum",
            "the checksum does not match: a character of the invitation is wrong; copy it again rather than "
            "typing it",
        )
    return content


def _incomplete(length: int, expected: int | None) -> InvitationError:
    if expected is None:
        return InvitationError(
            "invitation_text_length", "the invitation ends too early: copy the whole line", length=length
        )
    what = f"{expected - length} are missing" if length < expected else f"{length - expected} are too many"
    return InvitationError(
        "invitation_text_length",
        f"{what} of the {expected} characters after {PREFIX}-{VERSION}-: copy the whole line, no more",
        length=length,
        expected=expected,
    )


def _checksum(content: bytes) -> bytes:
    return sha256(_CHECKSUM_DOMAIN + content).digest()[:_CHECKSUM_BYTES]


def _opened(data: bytes) -> InvitationLink:
    try:
        content = _decoder.decode(data)
        if _encoder.encode(content) != data:
            raise ValidationError("it does not re-encode to itself")
        genesis = decode_genesis(content.genesis)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvitationError(
            "invitation_text_malformed", f"the invitation's content is damaged: {error}"
        ) from error
    except LedgerError as error:
        raise InvitationError(
            "invitation_text_malformed", f"the invitation's community is none: {error.message}"
        ) from error
    key = SoftwareSigner(content.secret).public_key
    message = invitation_message(genesis.chain_id, content.authority, key, content.roles, content.expires)
    if not verify(content.authority, message, content.signature):
        raise InvitationError(
            "invitation_text_malformed",
            "the invitation was not signed by the authority that it names, for this community and secret",
        )
    invitation = Invitation(content.authority, key, content.roles, content.expires, content.signature)
    return InvitationLink(content.genesis, content.addresses, invitation, content.secret, content.anchor)
