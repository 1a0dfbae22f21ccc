"""A signed record as one home hands it to another, or to a node."""

import base64
import binascii
from typing import Self

from msgspec import Struct

from ledger_core.client.bodies import IntentError, checked
from ledger_core.keys import Signer
from ledger_core.records.body import Body
from ledger_core.records.codec import (
    MAX_RECORD_BYTES,
    Cosignature,
    Envelope,
    Record,
    decode_envelope,
    encode_envelope,
    open_envelope,
    record_message,
    record_prefix,
    sign_record,
    verify_envelope,
)

_MAX_TEXT = 2 * MAX_RECORD_BYTES


class SignedRecord(Struct, frozen=True):
    """A record with its id on one chain."""

    record: Record

    @property
    def id(self) -> str:
        """The record's id, in hexadecimal."""
        return self.record.id.hex()

    @property
    def body(self) -> Body:
        """What is signed."""
        return self.record.body

    @property
    def envelope(self) -> Envelope:
        """What travels."""
        return self.record.envelope

    @property
    def text(self) -> str:
        """The record as one line (base64), for another member to look at and co-sign."""
        return base64.b64encode(encode_envelope(self.envelope)).decode()

    @classmethod
    def of(cls, body: Body, chain_id: bytes, signer: Signer, *cosigners: Signer) -> Self:
        """Sign a body; raises IntentError `value_invalid`, RecordError `wrong_signer`."""
        envelope = sign_record(checked(body), chain_id, signer, cosigners)
        return cls(open_envelope(envelope, record_prefix(chain_id)))

    @classmethod
    def from_text(cls, text: str, chain_id: bytes) -> Self:
        """Read what `text` gave; the signatures are verified for this chain.

        Raises IntentError `record_text_invalid`, and RecordError as the decoders.
        """
        plain = "".join(text.split())
        if len(plain) > _MAX_TEXT:
            raise IntentError("record_text_invalid", f"{len(plain)} characters are no record: too many")
        try:
            data = base64.b64decode(plain, validate=True)
        except (binascii.Error, ValueError) as error:
            raise IntentError(
                "record_text_invalid", f"this is no record in base64 ({error}): copy the whole line"
            ) from error
        record = open_envelope(decode_envelope(data), record_prefix(chain_id))
        verify_envelope(record, chain_id)
        return cls(record)

    def cosigned(self, chain_id: bytes, signer: Signer) -> Self:
        """Return the same record with a further signature; its id does not change.

        Who signed already changes nothing. Raises RecordError as the decoders.
        """
        if signer.public_key in self.record.signers:
            return self
        message = record_message(chain_id, self.envelope.body)
        mine = Cosignature(signer.public_key, signer.sign(message))
        both = sorted((*self.envelope.cosignatures, mine), key=lambda each: each.key)
        envelope = Envelope(self.envelope.body, self.envelope.signature, tuple(both))
        data = encode_envelope(envelope)
        return type(self)(open_envelope(decode_envelope(data), record_prefix(chain_id)))
