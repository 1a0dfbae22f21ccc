"""The handshake between two nodes: who they are, proven, and the keys of the link.  Sans-I/O.

The form is SIGMA-I (Krawczyk 2003), as TLS 1.3 uses it, over four messages:

    opening   initiator → responder   protocol versions, chain id, ephemeral key
    answer    responder → initiator   version, chain id, ephemeral key; sealed: node key, signature
    proof     initiator → responder   sealed: node key, signature, invitation?; or a refusal
    verdict   responder → initiator   sealed: welcome, or a refusal

Each side signs, with its Ed25519 node key, a domain tag, its own part in the handshake, the chain id, the
protocol version and the hash of all messages before, byte for byte; so nothing can be altered, reflected,
or replayed on another link. Identities travel sealed. Only the opening and an early refusal, which answers
an opening that can't be met (other version, other chain), travel in the open. Both keep their layout in
every version.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ledger_core.keys import Signer, is_valid_public_key, verify
from ledger_core.node.peers.cipher import Opener, Sealer
from ledger_core.node.peers.errors import (
    MAX_CODE_LENGTH,
    MAX_REASON_LENGTH,
    HandshakeError,
    Misbehaviour,
    Refusal,
    RefusedByPeer,
)
from ledger_core.node.peers.key_schedule import DirectionKeys, Ephemeral, direction_keys, transcript
from ledger_core.node.peers.text import printable
from ledger_core.records.codec import invitation_message
from ledger_core.records.members import Invitation
from ledger_core.records.types import Hash, Key, Signature

PROTOCOL_VERSIONS: Final = (1, 1)
"""Oldest and newest version of the transport that this node speaks."""

MAX_HANDSHAKE_BYTES: Final = 2048
MAX_SOFTWARE_LENGTH: Final = 64
MAX_RETRY_AFTER_S: Final = 7 * 86_400

_OPENING_DOMAIN: Final = b"energy-ledger/peer-handshake/opening\0"
_PROOF_DOMAIN: Final = b"energy-ledger/peer-handshake/proof\0"
_BEARER_DOMAIN: Final = b"energy-ledger/peer-handshake/bearer\0"

_encoder = msgspec.msgpack.Encoder()
_Version = Annotated[int, Meta(ge=0, le=2**16 - 1)]


class _Opening(Struct, frozen=True, array_like=True, tag="energy-ledger/opening"):
    """Later versions may add fields at the end: unknown ones are passed over."""

    oldest: _Version
    newest: _Version
    chain_id: Hash
    ephemeral: Key


class _RefusalText(Struct, frozen=True, array_like=True, tag="energy-ledger/refusal"):
    code: Annotated[str, Meta(min_length=1, max_length=MAX_CODE_LENGTH)]
    reason: Annotated[str, Meta(max_length=MAX_REASON_LENGTH)]
    retry_after_s: Annotated[int, Meta(ge=0, le=MAX_RETRY_AFTER_S)]


class _Answer(Struct, frozen=True, array_like=True, tag="energy-ledger/answer", forbid_unknown_fields=True):
    version: _Version
    chain_id: Hash
    ephemeral: Key
    sealed: Annotated[bytes, Meta(max_length=MAX_HANDSHAKE_BYTES)]


class _Proof(Struct, frozen=True, array_like=True, tag="proof", forbid_unknown_fields=True):
    key: Key
    software: Annotated[str, Meta(max_length=MAX_SOFTWARE_LENGTH)]
    signature: Signature
    invitation: Invitation | None = None
    bearer_signature: Signature | None = None


class _Welcome(Struct, frozen=True, array_like=True, tag="welcome", forbid_unknown_fields=True):
    pass


_opening_decoder = msgspec.msgpack.Decoder(_Opening)
_answer_decoder = msgspec.msgpack.Decoder(_Answer | _RefusalText)
_proof_decoder = msgspec.msgpack.Decoder(_Proof | _RefusalText)
_verdict_decoder = msgspec.msgpack.Decoder(_Welcome | _RefusalText)


@dataclass(frozen=True, slots=True)
class Bearer:
    """An invitation and the signer of its one-time key: what a newcomer shows instead of a membership."""

    invitation: Invitation
    signer: Signer


@dataclass(frozen=True, slots=True)
class LocalNode:
    """What this node says of itself in a handshake."""

    signer: Signer
    """The node key."""
    chain_id: bytes
    software: str
    """Name and version, at most 64 characters; for the other side's log and status."""
    bearer: Bearer | None = None
    versions: tuple[int, int] = PROTOCOL_VERSIONS


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """What the other side has proven: its key, and whose invitation it bears; and what it said of itself."""

    key: bytes
    version: int
    software: str
    invitation: Invitation | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The ciphers of a link whose handshake is done, and who is at the other end."""

    remote: RemoteNode
    sealer: Sealer
    opener: Opener


class _Side:
    """What initiator and responder share: the ephemeral key, the transcript, the signatures over it."""

    _OWN_PART = b""
    _OTHER_PART = b""

    def __init__(self, local: LocalNode, ephemeral: Ephemeral | None = None) -> None:
        self._local = local
        self._ephemeral = ephemeral or Ephemeral()
        self._said = b""
        self._version = 0
        self._secret = b""
        self._remote: RemoteNode | None = None
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None

    def _hear(self, *parts: bytes) -> None:
        """Add what was said, by whichever side, to the transcript."""
        self._said = transcript(_OPENING_DOMAIN, self._said, *parts)

    def _agree(self, other: bytes) -> DirectionKeys:
        if other == self._ephemeral.public:
            raise HandshakeError("handshake_reflected", "the other side sent this node's own words back")
        self._secret = self._ephemeral.exchange(other)
        return direction_keys(self._secret, self._said, b"handshake")

    def _traffic_keys(self) -> DirectionKeys:
        return direction_keys(self._secret, self._said, b"traffic")

    def _statement(self, domain: bytes, part: bytes, key: bytes) -> bytes:
        return domain + transcript(
            domain, part, self._local.chain_id, self._version.to_bytes(2), self._said, key
        )

    def _prove(self, bearer: Bearer | None = None) -> bytes:
        key = self._local.signer.public_key
        signature = self._local.signer.sign(self._statement(_PROOF_DOMAIN, self._OWN_PART, key))
        software = printable(self._local.software, MAX_SOFTWARE_LENGTH)
        if bearer is None:
            return _encoder.encode(_Proof(key, software, signature))
        shown = bearer.signer.sign(self._statement(_BEARER_DOMAIN, self._OWN_PART, key))
        return _encoder.encode(_Proof(key, software, signature, bearer.invitation, shown))

    def _verify(self, proof: _Proof) -> RemoteNode:
        """Check the other side's signatures over everything said so far; raises HandshakeError."""
        if proof.key == self._local.signer.public_key:
            raise Refusal("own_node", "the other side is this node itself, or has a copy of its key")
        statement = self._statement(_PROOF_DOMAIN, self._OTHER_PART, proof.key)
        if not is_valid_public_key(proof.key) or not verify(proof.key, statement, proof.signature):
            raise HandshakeError("handshake_forged", "the other side did not prove the key that it named")
        if (proof.invitation is None) != (proof.bearer_signature is None):
            raise HandshakeError(
                "handshake_malformed", "an invitation and the proof of its key belong together"
            )
        if proof.invitation is not None and proof.bearer_signature is not None:
            self._verify_bearer(proof.key, proof.invitation, proof.bearer_signature)
        software = printable(proof.software, MAX_SOFTWARE_LENGTH)
        return RemoteNode(proof.key, self._version, software, proof.invitation)

    def _verify_bearer(self, key: bytes, invitation: Invitation, shown: bytes) -> None:
        statement = self._statement(_BEARER_DOMAIN, self._OTHER_PART, key)
        if not verify(invitation.key, statement, shown):
            raise HandshakeError(
                "handshake_forged", "the other side does not hold the invitation's one-time key"
            )
        message = invitation_message(
            self._local.chain_id, invitation.authority, invitation.key, invitation.roles, invitation.expires
        )
        if not verify(invitation.authority, message, invitation.signature):
            raise Refusal("invitation_invalid", "the invitation's signature is not valid in this community")

    def _open(self, sealed: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
        try:
            plaintext = _ready(self._opener).open(sealed, self._said)
        except Misbehaviour as error:
            raise HandshakeError(
                "handshake_forged",
                "a sealed part of the handshake does not open: altered, replayed or foreign",
            ) from error
        return _decode(plaintext, decoder)

    def _seal(self, plaintext: bytes) -> bytes:
        sealed = _ready(self._sealer).seal(plaintext, self._said)
        self._hear(sealed)
        return sealed

    def _session(self, sealing: bytes, opening: bytes) -> Session:
        return Session(_ready(self._remote), Sealer(sealing), Opener(opening))

    def refuse(self, refusal: Refusal) -> bytes:
        """Return the message that refuses a peer whose key is known: the initiator's proof or the verdict."""
        return self._seal(refusal_bytes(refusal))


class Initiator(_Side):
    """The side that dialled.  Order: `opening`, `answer`, `proof` (or `refuse`), `verdict`."""

    _OWN_PART = b"initiator"
    _OTHER_PART = b"responder"

    def __init__(
        self, local: LocalNode, expected: bytes | None = None, ephemeral: Ephemeral | None = None
    ) -> None:
        """Begin; `expected` is the node key that must answer, where it is known."""
        super().__init__(local, ephemeral)
        self._expected = expected

    def opening(self) -> bytes:
        """Return the first message."""
        oldest, newest = self._local.versions
        opening = _encoder.encode(_Opening(oldest, newest, self._local.chain_id, self._ephemeral.public))
        self._hear(opening)
        return opening

    def answer(self, data: bytes) -> RemoteNode:
        """Take the responder's answer; return who it is.

        Raises RefusedByPeer, Refusal (`wrong_node`, `own_node`: tell the other side by `refuse`) and
        HandshakeError.
        """
        answer = _decode(data, _answer_decoder)
        if isinstance(answer, _RefusalText):
            raise _refused(answer, proven=False)
        oldest, newest = self._local.versions
        if not oldest <= answer.version <= newest:
            raise HandshakeError(
                "handshake_version",
                f"the answer is in version {answer.version}; this node offered {oldest} to {newest}",
            )
        if answer.chain_id != self._local.chain_id:
            raise HandshakeError("handshake_chain", "the answer is for another chain than the one asked for")
        self._version = answer.version
        self._hear(answer.version.to_bytes(2), answer.chain_id, answer.ephemeral)
        keys = self._agree(answer.ephemeral)
        self._sealer, self._opener = Sealer(keys.from_initiator), Opener(keys.from_responder)
        proof = _expect(self._open(answer.sealed, _proof_decoder), _Proof)
        try:
            remote = self._remote = self._verify(proof)
        finally:
            # Heard in any case: a refusal is bound to it, too.
            self._hear(answer.sealed)
        if self._expected is not None and remote.key != self._expected:
            raise Refusal("wrong_node", "another node answers at this address than the one looked for")
        return remote

    def proof(self) -> bytes:
        """Return this node's proof, with its invitation where it has one."""
        return self._seal(self._prove(self._local.bearer))

    def verdict(self, data: bytes) -> Session:
        """Take the responder's verdict; raises RefusedByPeer and HandshakeError."""
        verdict = self._open(_bounded(data), _verdict_decoder)
        if isinstance(verdict, _RefusalText):
            raise _refused(verdict, proven=True)
        self._hear(data)
        keys = self._traffic_keys()
        return self._session(keys.from_initiator, keys.from_responder)


class Responder(_Side):
    """The side that was dialled.  Order: `opening`, `proof`, `welcome` (or `refuse`)."""

    _OWN_PART = b"responder"
    _OTHER_PART = b"initiator"

    def opening(self, data: bytes) -> bytes:
        """Take the first message; return the answer.

        Raises Refusal `protocol_version` and `wrong_chain`, to be told in the open (`refusal_bytes`), and
        HandshakeError.
        """
        opening = _decode(data, _opening_decoder)
        self._version = self._common_version(opening)
        if opening.chain_id != self._local.chain_id:
            raise Refusal(
                "wrong_chain",
                f"this node keeps the chain {self._local.chain_id.hex()[:16]}…,"
                f" not {opening.chain_id.hex()[:16]}…: the genesis must be the same",
            )
        self._hear(data)
        public = self._ephemeral.public
        self._hear(self._version.to_bytes(2), self._local.chain_id, public)
        keys = self._agree(opening.ephemeral)
        self._sealer, self._opener = Sealer(keys.from_responder), Opener(keys.from_initiator)
        sealed = self._seal(self._prove())
        return _encoder.encode(_Answer(self._version, self._local.chain_id, public, sealed))

    def _common_version(self, opening: _Opening) -> int:
        oldest, newest = self._local.versions
        version = min(newest, opening.newest)
        if version < max(oldest, opening.oldest):
            raise Refusal(
                "protocol_version",
                f"this node speaks versions {oldest} to {newest} of the peer protocol, the other side"
                f" {opening.oldest} to {opening.newest}: update the older one",
            )
        return version

    def proof(self, data: bytes) -> RemoteNode:
        """Take the initiator's proof; return who it is.

        Raises RefusedByPeer, Refusal (`own_node`, `invitation_invalid`: tell the other side by `refuse`) and
        HandshakeError.
        """
        proof = self._open(_bounded(data), _proof_decoder)
        if isinstance(proof, _RefusalText):
            raise _refused(proof, proven=False)
        try:
            remote = self._remote = self._verify(proof)
        finally:
            self._hear(data)
        return remote

    def welcome(self) -> tuple[bytes, Session]:
        """Return the verdict that lets the initiator in, and the link's session."""
        verdict = self._seal(_encoder.encode(_Welcome()))
        keys = self._traffic_keys()
        return verdict, self._session(keys.from_responder, keys.from_initiator)


def refusal_bytes(refusal: Refusal) -> bytes:
    """Return a refusal as it travels: in the open instead of an answer, or in a sealed part."""
    return _encoder.encode(
        _RefusalText(
            refusal.code or "refused", refusal.message, min(refusal.retry_after_s, MAX_RETRY_AFTER_S)
        )
    )


def _refused(text: _RefusalText, *, proven: bool) -> RefusedByPeer:
    return RefusedByPeer(text.code, text.reason, retry_after_s=text.retry_after_s, proven=proven)


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_HANDSHAKE_BYTES:
        raise HandshakeError(
            "handshake_malformed",
            f"a message of the handshake has {len(data)} bytes; at most {MAX_HANDSHAKE_BYTES} are allowed",
        )
    return data


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    try:
        return decoder.decode(_bounded(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HandshakeError("handshake_malformed", f"not a message of the handshake: {error}") from error


def _ready[Value](value: Value | None) -> Value:
    if value is None:
        raise RuntimeError("the steps of a handshake were taken out of order")
    return value


def _expect[Part: Struct](part: Struct, kind: type[Part]) -> Part:
    if not isinstance(part, kind):
        raise HandshakeError("handshake_malformed", "a part of the handshake came where another belongs")
    return part
