"""Golden bytes of records, genesis and invitation (a change of format must be noticed)."""

from hashlib import sha256

import pytest

from ledger_core.community import Founder, Genesis, MoneyMode, Parameters, decode_genesis, encode_genesis
from ledger_core.keys import verify
from ledger_core.records.codec import (
    decode_body,
    decode_envelope,
    encode_body,
    encode_envelope,
    invitation_message,
    kinds,
    open_envelope,
    record_id,
    record_message,
    record_prefix,
    sign_record,
    verify_envelope,
)
from ledger_core.records.types import Location, Role
from tests.core import golden
from tests.core.samples import AUTHOR, BEARER, CHAIN_ID, OTHER, author_of, digest, samples
from tests.core.world import START

KINDS = [kind.KIND for kind in kinds()]


def test_every_kind_has_a_sample() -> None:
    assert sorted(samples()) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_record_bytes(kind: str) -> None:
    body = samples()[kind]
    cosigners = (BEARER,) if kind == "member" else ()
    envelope = sign_record(body, CHAIN_ID, author_of(body), cosigners)
    parts = {
        "body": encode_body(body),
        "signed message": record_message(CHAIN_ID, envelope.body),
        "id": record_id(CHAIN_ID, envelope.body),
        "envelope": encode_envelope(envelope),
    }
    golden.check(f"record-{kind}", parts)


@pytest.mark.parametrize("kind", KINDS)
def test_golden_record_still_reads(kind: str) -> None:
    """What was written before must read, verify and mean the same now."""
    parts = golden.read(f"record-{kind}")
    record = open_envelope(decode_envelope(parts["envelope"]), record_prefix(CHAIN_ID))
    assert record.id == parts["id"] == sha256(parts["signed message"]).digest()
    assert record.body == decode_body(parts["body"]) == samples()[kind]
    verify_envelope(record, CHAIN_ID)


def genesis() -> Genesis:
    parameters = Parameters(fee=1_000, money_mode=MoneyMode.PREPAID, termination_permille=1000)
    founders = (
        Founder(
            AUTHOR.public_key,
            int(Role.HOME | Role.NODE | Role.AUTHORITY),
            OTHER.public_key,
            digest("name"),
            Location(52_520_008, -13_404_954),
        ),
        Founder(BEARER.public_key, int(Role.HOME), None, digest("other name")),
    )
    return Genesis("Sample street", "EUR", START, parameters, founders)


def test_genesis_bytes() -> None:
    made = genesis()
    golden.check("genesis", {"genesis": encode_genesis(made), "chain id": made.chain_id})


def test_golden_genesis_still_reads() -> None:
    parts = golden.read("genesis")
    assert decode_genesis(parts["genesis"]) == genesis()
    assert decode_genesis(parts["genesis"]).chain_id == parts["chain id"]


def test_invitation_bytes() -> None:
    roles, expires = int(Role.HOME | Role.NODE), START + 86_400
    message = invitation_message(CHAIN_ID, OTHER.public_key, BEARER.public_key, roles, expires)
    signature = OTHER.sign(message)
    golden.check("invitation", {"message": message, "signature": signature})
    assert verify(OTHER.public_key, message, signature)


def test_a_changed_byte_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(golden.REGENERATE, raising=False)
    parts = golden.read("genesis")
    golden.check("genesis", parts)
    with pytest.raises(pytest.fail.Exception, match="THE FORMAT CHANGED: chain id of genesis"):
        golden.check("genesis", {**parts, "chain id": bytes(32)})
    with pytest.raises(pytest.fail.Exception, match="THE FORMAT CHANGED: chain id"):
        golden.check("genesis", {"genesis": parts["genesis"]})
    with pytest.raises(pytest.fail.Exception, match="no golden bytes for nothing"):
        golden.check("nothing", parts)
