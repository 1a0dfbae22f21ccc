"""Blocks as a whole: sizes, what a miner puts together, votes beside records."""

import gc
import weakref

import pytest
from hypothesis import given

from ledger_core.errors import RuleError
from ledger_core.records.block import BlockBody, encode_block_body
from ledger_core.records.codec import Envelope, encode_envelope
from ledger_core.records.readings import Quality, ReadingRow
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.apply import refusal_of
from ledger_core.rules.assemble import FRAMING_BYTES, assemble
from ledger_core.rules.prepare import envelope_size
from tests.core.actions import member, parameters, street, transfer
from tests.core.strategies import PROFILE, bundles, envelopes
from tests.core.world import HOUSEHOLD, World, signer


@PROFILE
@given(envelopes())
def test_framing_covers_an_envelope(envelope: Envelope) -> None:
    body = encode_block_body(BlockBody((envelope,)))
    assert len(encode_envelope(envelope)) <= envelope_size(envelope) + FRAMING_BYTES
    assert len(body) <= envelope_size(envelope) + 2 * FRAMING_BYTES


@PROFILE
@given(bundles())
def test_framing_covers_a_bundle(bundle: VoteBundle) -> None:
    assert len(encode_block_body(BlockBody((), (bundle,)))) <= len(bundle.votes) + 64 + 2 * FRAMING_BYTES


def test_full_block_of_cosigned_records_keeps_the_limit() -> None:
    world = World(parameters=parameters(block_max_bytes=64 * 1024))
    cosigners = [signer(f"witness {number}") for number in range(4)]
    transfer_body = transfer(world, "anna", "bert", 1).body
    records = []
    for number in range(160):
        fields = {name: getattr(transfer_body, name) for name in ("kind", "to", "amount", "reference")}
        record = world.make(
            type(transfer_body), world["anna"].key, *cosigners, created=world.now - number, **fields
        )
        records.append(record)
    template = assemble(world.state, records, (), world["anna"].node.public_key, world.now + 30)
    assert template.refused == []
    assert 62 * 1024 < len(template.body) <= 64 * 1024
    assert template.header.count < len(records)


def test_oversize_candidate_is_refused_before_it_spoils_a_block() -> None:
    world = street(record_max_bytes=1024)
    rows = tuple(ReadingRow(900 * number, number, number, Quality.MEASURED) for number in range(192))
    large = world.reading("anna", [(row.end, row.import_wh, row.export_wh) for row in rows])
    assert envelope_size(large.envelope) > 1024
    template = assemble(world.state, [large], (), world["anna"].node.public_key, world.now + 30)
    ((record, error),) = template.refused
    assert (record, error.code) == (large, "record_too_large")
    alone = refusal_of(world.state, large, world.now)
    assert alone is not None
    assert alone.code == "record_too_large"


def test_votes_count_with_the_keys_from_before_their_block() -> None:
    """A block may carry a node's vote and the record that replaces that node's key."""
    world = World()
    for _ in range(4):
        world.mine()
    bundle = world.votes(0, 4)
    bert = world["bert"]
    new_key = signer("bert node two")
    change = member(world, bert.key, bert.id, roles=HOUSEHOLD, node=new_key.public_key)
    world.mine(change, bundles=bundle)
    assert world.state.tip.justified == 4
    assert world.state.tallies[4, 0] == bytes([0b101])
    bert.node = new_key
    world.mine(bundles=world.votes(0, 4, ["bert"]))
    assert world.state.tallies[4, 0] == bytes([0b111])


def test_vote_by_a_replaced_key_is_forged() -> None:
    world = World()
    for _ in range(4):
        world.mine()
    bert = world["bert"]
    old = world.votes(0, 4, ["bert"])
    world.mine(member(world, bert.key, bert.id, roles=HOUSEHOLD, node=signer("bert node two").public_key))
    before = world.state.hash()
    with pytest.raises(RuleError) as refused:
        world.mine(bundles=old)
    assert refused.value.code == "signature_invalid"
    assert world.state.hash() == before


class Witness:
    """Lives as long as whoever made a template is remembered."""


def make_with_refusal() -> weakref.ref[Witness]:
    """Make a template that refuses a record, and hold both in a frame beside a witness."""
    world = World()
    witness = Witness()
    beyond = transfer(world, "anna", "bert", world.genesis.parameters.credit_limit + 1)
    template = assemble(world.state, [beyond], (), world["anna"].node.public_key, world.now)
    assert [record.id for record, _ in template.refused] == [beyond.id]
    return weakref.ref(witness)


def test_a_template_with_refusals_is_freed() -> None:
    alive = make_with_refusal()
    gc.collect()
    assert alive() is None
