"""Joining, changing and leaving; records that did not arrive; bodies without a node."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger_core.client import (
    ClientError,
    ContestedError,
    NodeClient,
    RefusedError,
    TimedOutError,
    UnreachableError,
    bodies,
)
from ledger_core.client.bodies import IntentError, OfferTerms, Stamp
from ledger_core.client.home import MAX_UNSENT, Home
from ledger_core.client.signed import SignedRecord
from ledger_core.client.waiting import wait_for_record
from ledger_core.keys import AddressError, SoftwareSigner, address
from ledger_core.records.codec import Envelope, decode_envelope
from ledger_core.records.invitations import Anchor, InvitationError, decode_link
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.offers import Offer
from ledger_core.records.types import Location, Role, Side
from tests.core.actions import WINDOW
from tests.core.chains import grow
from tests.core.world import HOUSEHOLD, START, World, signer
from tests.node.api_world import TOKEN
from tests.node.elsewhere import mine_elsewhere
from tests.node.home_world import HomeWorld, home_world

DORA = signer("dora")
DAY = 86_400


@pytest.fixture
async def homes(tmp_path: Path) -> AsyncIterator[HomeWorld]:
    async with home_world(tmp_path, grow(World(), 10)) as made:
        yield made


def newcomer(homes: HomeWorld) -> Home:
    return Home(homes.client, DORA, clock=lambda: homes.world.now)


async def test_an_invitation_carries_what_a_newcomer_needs(homes: HomeWorld) -> None:
    text = await homes["anna"].make_invitation(homes.world.now + DAY)
    link = decode_link(text)
    assert link.community == homes.world.genesis
    assert link.addresses == ("anna.example:7946",)
    assert link.invitation.roles == HOUSEHOLD
    final = homes.world.state.tip.final
    assert final > 0
    assert link.anchor == Anchor(final, homes.world.blocks[final - 1].hash)


async def test_a_newcomer_joins_once(homes: HomeWorld) -> None:
    text = await homes["anna"].make_invitation(homes.world.now + DAY, addresses=["anna:1"])
    dora = newcomer(homes)
    node = signer("dora node").public_key
    await dora.join(text, "Elm Street 4", node=address(node), location=Location(1, 2))
    await homes.mine()
    view = await homes.client.member(dora.address)
    assert view.roles == ["home", "node"]
    assert view.node is not None
    assert view.node.key == node.hex()
    assert view.name_hash == sha256(b"Elm Street 4").hexdigest()
    assert view.location is not None
    other = Home(homes.client, signer("emil"), clock=lambda: homes.world.now)
    with pytest.raises(RefusedError) as caught:
        await other.join(text, "Emil", roles=Role.HOME)
    assert caught.value.code == "invitation_used"


async def test_a_newcomer_names_the_connected_node_unless_told_otherwise(homes: HomeWorld) -> None:
    text = await homes["anna"].make_invitation(homes.world.now + DAY)
    with pytest.raises(RefusedError) as caught:
        await newcomer(homes).join(decode_link(text), "Dora")
    # The connected node is Anna's.
    assert caught.value.code == "node_key_taken"


async def test_fewer_roles_than_the_invitation_gives_need_no_node(homes: HomeWorld) -> None:
    text = await homes["anna"].make_invitation(homes.world.now + DAY)
    await newcomer(homes).join(text, "Dora", roles=Role.HOME)
    await homes.mine()
    view = await homes.client.member(address(DORA.public_key))
    assert (view.roles, view.node) == (["home"], None)


async def test_another_community_s_invitation_is_not_used(homes: HomeWorld, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with home_world(tmp_path / "other", World(name="Oak Street")) as other:
        text = await other["anna"].make_invitation(other.world.now + DAY)
    with pytest.raises(ClientError, match="Oak Street") as caught:
        await newcomer(homes).join(text, "Dora")
    assert caught.value.code == "community_mismatch"
    with pytest.raises(InvitationError):
        await newcomer(homes).join(text[:-1], "Dora")


async def test_who_may_not_invite_is_told_so(homes: HomeWorld) -> None:
    soon = homes.world.now + 1
    for make, code in (
        (homes["bert"].make_invitation(soon), "not_authority"),
        (homes["anna"].make_invitation(homes.world.now), "expires_past"),
        (homes["anna"].make_invitation(soon, 0), "roles_missing"),
        (homes["anna"].make_invitation(soon, addresses=["h:1"] * 9), "addresses_too_many"),
    ):
        with pytest.raises((IntentError, InvitationError)) as caught:
            await make
        assert caught.value.code == code


@pytest.mark.parametrize(
    "place", ["foo", "http://x", "foo:99999", ":5", "127.0.0.1:0", "0.0.0.0:5", "a b:1", ""]
)
async def test_an_invitation_names_only_places_that_can_be_dialled(homes: HomeWorld, place: str) -> None:
    with pytest.raises(IntentError, match=f"^'{place}' is not a peer's address: ") as caught:
        await homes["anna"].make_invitation(homes.world.now + DAY, addresses=["h:1", place])
    assert caught.value.code == "location_invalid"


async def test_an_authority_agrees_to_a_membership(homes: HomeWorld) -> None:
    dora = newcomer(homes)
    text = await dora.propose_membership("Dora", roles=int(Role.HOME), location=Location(3, 4))
    with pytest.raises(RefusedError) as caught:
        await homes["bert"].agree(text)
    assert caught.value.code == "authority_missing"
    await homes["anna"].agree(text)
    await homes.mine()
    assert (await homes.client.member(dora.address)).roles == ["home"]


async def test_members_change_and_are_revoked(homes: HomeWorld) -> None:
    bert, node = homes["bert"], SoftwareSigner.generate().public_key
    await bert.change_node_key(node)
    await homes.mine()
    await bert.change_member(bert.key, name="Bert and Co.", location=Location(5, 6))
    await homes.mine()
    view = await homes.client.member(bert.address)
    assert view.node is not None
    assert (view.node.key, view.roles) == (node.hex(), ["home", "node"])
    assert view.name_hash == bodies.name_hash("Bert and Co.").hex()
    with pytest.raises(RefusedError) as caught:
        await bert.change_member(bert.address, roles=int(Role.HOME))
    assert caught.value.code == "authority_missing"
    await homes["anna"].change_member(homes["cara"].address, roles=int(Role.HOME | Role.AUTHORITY))
    await homes["anna"].revoke(bert.address)
    await homes.mine()
    assert (await homes.client.member(bert.address)).roles == []
    assert (await homes.client.member(homes["cara"].address)).roles == ["home", "authority"]
    kept = await homes.client.member(bert.address)
    assert kept.location is not None


async def test_a_home_signs_for_its_own_community_only(homes: HomeWorld) -> None:
    assert await homes["anna"].slot_s() == homes.world.genesis.parameters.slot_s
    right = Home(homes.client, DORA, chain_id=homes.world.chain_id)
    assert await right.chain_id() == homes.world.chain_id
    wrong = Home(homes.client, DORA, chain_id=bytes(32))
    with pytest.raises(ClientError) as caught:
        await wrong.transfer(homes["anna"].key, 1)
    assert caught.value.code == "community_mismatch"
    assert not wrong.unsent


async def test_what_did_not_arrive_is_sent_again_as_it_was(homes: HomeWorld) -> None:
    bert, server = homes["bert"], homes.api.server
    await bert.chain_id()
    await server.close()
    with pytest.raises(UnreachableError) as caught:
        await bert.transfer(homes["anna"].key, 5)
    record = caught.value.details["record"]
    assert list(bert.unsent) == [record]
    with pytest.raises(UnreachableError):
        await bert.resubmit(record)
    await server.start()
    assert await bert.resubmit(record) == record
    assert not bert.unsent
    with pytest.raises(IntentError) as missing:
        await bert.resubmit(record)
    assert missing.value.code == "record_not_kept"
    before = (await homes.client.account(bert.address)).balance
    await homes.mine()
    assert (await homes.client.account(bert.address)).balance == before - 5


class Unanswered(NodeClient):
    """Its node takes every record; so many answers do not arrive."""

    lost = 0

    async def submit(self, envelope: Envelope) -> str:
        record = await super().submit(envelope)
        if self.lost:
            self.lost -= 1
            raise TimedOutError("timeout", "no answer in time")
        return record


async def test_what_was_not_answered_is_sent_again_and_counts_once(homes: HomeWorld) -> None:
    async with Unanswered(homes.api.server.url, TOKEN) as client:
        bert = Home(
            client, homes.world.homes["bert"].key, clock=lambda: homes.world.now, repeats_s=(0.0, 0.0)
        )
        before = (await client.account(bert.address)).balance
        client.lost = 2
        await bert.transfer(homes["anna"].key, 5)
        assert not bert.unsent
        client.lost = 3
        with pytest.raises(TimedOutError) as caught:
            await bert.transfer(homes["anna"].key, 7)
        assert list(bert.unsent) == [caught.value.details["record"]]
        await homes.mine()
        assert (await client.account(bert.address)).balance == before - 12


async def test_what_became_impossible_meanwhile_is_not_kept(homes: HomeWorld) -> None:
    bert, server = homes["bert"], homes.api.server
    await bert.chain_id()
    await server.close()
    for amount in (5, 6):
        with pytest.raises(UnreachableError):
            await bert.transfer(homes["anna"].key, amount)
    await server.start()
    first, second = bert.unsent
    homes.world.now += 2 * DAY
    await homes.mine()
    with pytest.raises(RefusedError) as caught:
        await bert.resubmit(first)
    assert caught.value.code == "record_expired"
    assert list(bert.unsent) == [second]
    bert.forget(second)
    bert.forget(second)
    assert not bert.unsent


async def test_only_so_many_records_are_kept(homes: HomeWorld) -> None:
    bert = homes["bert"]
    await bert.chain_id()
    await homes.api.server.close()
    for amount in range(1, MAX_UNSENT + 3):
        with pytest.raises(UnreachableError):
            await bert.transfer(homes["anna"].key, amount)
    amounts = [signed.body.amount for signed in bert.unsent.values()]  # type: ignore[attr-defined]
    assert amounts == list(range(3, MAX_UNSENT + 3))


async def test_a_record_is_waited_for(homes: HomeWorld) -> None:
    bert = homes["bert"]
    record = await bert.transfer(homes["anna"].key, 5)
    with pytest.raises(TimedOutError):
        await wait_for_record(homes.client, record, timeout_s=0.2)
    await homes.mine()
    found = await wait_for_record(homes.client, record)
    assert (found.state, found.height) == ("included", 11)
    assert found == await wait_for_record(homes.client, record)


async def until_it_streams(homes: HomeWorld, streams: int = 1) -> None:
    """Until so many clients follow the events."""
    async with asyncio.timeout(30):
        while len(homes.api.server._sockets) < streams:
            await asyncio.sleep(0.01)


async def test_waiting_goes_on_while_blocks_come(homes: HomeWorld) -> None:
    record = await homes["bert"].transfer(homes["anna"].key, 5)
    waiting = asyncio.create_task(wait_for_record(homes.client, record))
    unknown = asyncio.create_task(wait_for_record(homes.client, "00" * 32, timeout_s=2))
    await until_it_streams(homes, 2)
    await homes.mine()
    assert (await waiting).height == 11
    with pytest.raises(TimedOutError):
        await unknown


async def test_a_record_that_became_impossible_ends_the_wait(homes: HomeWorld) -> None:
    bert = homes["bert"]
    record = await bert.transfer(homes["anna"].key, 5)
    waiting = asyncio.create_task(wait_for_record(homes.client, record))
    await until_it_streams(homes)
    homes.world.now += 2 * DAY
    await homes.mine()
    with pytest.raises(RefusedError) as caught:
        await waiting
    assert caught.value.code == "record_expired"


async def test_a_beaten_record_ends_the_wait_unless_the_end_is_waited_for(homes: HomeWorld) -> None:
    anna, world = homes["anna"], homes.world
    amount = world.genesis.parameters.credit_limit - 1000
    record = await anna.transfer(homes["bert"].key, amount)
    fields = {"kind": TransferKind.PAY, "to": homes["cara"].key, "amount": amount, "reference": None}
    other = world.make(Transfer, world["anna"].key, **fields)
    beaten = asyncio.create_task(wait_for_record(homes.client, record))
    ended = asyncio.create_task(wait_for_record(homes.client, record, final=True))
    await until_it_streams(homes, 2)
    await mine_elsewhere(homes.api, [other.envelope])
    with pytest.raises(ContestedError) as caught:
        await beaten
    assert (caught.value.code, caught.value.details["needed"]) == ("funds_insufficient", amount)
    view = await homes.client.record(record)
    assert (view.state, view.height) == ("contested", None)
    # The branch with the other payment loses after all.
    mine = decode_envelope(bytes.fromhex(view.envelope))
    await mine_elsewhere(homes.api, [mine], blocks=2, undone=1)
    assert (await homes.client.record(record)).state == "included"
    # The third one still waits, and would hear of the end.
    assert not ended.done()
    ended.cancel()


STAMP = Stamp(DORA.public_key, START, bytes(8))


def test_bodies_out_of_bounds_name_the_field() -> None:
    terms = OfferTerms(quantity=0, start=WINDOW, end=WINDOW + 900, price=1)
    with pytest.raises(IntentError) as caught:
        bodies.checked(bodies.offer(STAMP, Side.BUY, terms))
    assert caught.value.message == "quantity of the offer: Expected `int` >= 1"
    for amount in (2**70, "much", -1, 1.5):
        with pytest.raises(IntentError) as caught:
            bodies.checked(bodies.transfer(STAMP, DORA.public_key, amount))  # type: ignore[arg-type]
        assert caught.value.code == "value_invalid"
        assert caught.value.details["field"] in ("amount", "transfer")


@given(
    st.builds(
        OfferTerms,
        quantity=st.integers(1, 10**12),
        start=st.integers(0, 2**40),
        end=st.integers(0, 2**40),
        price=st.integers(0, 10**9),
        asset=st.binary(min_size=16, max_size=16) | st.binary(min_size=16, max_size=16).map(bytes.hex),
        audience=st.none() | st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5),
        valid_until=st.none() | st.integers(0, 2**40),
    )
)
def test_every_term_comes_into_the_body(terms: OfferTerms) -> None:
    body = bodies.checked(bodies.offer(STAMP, Side.SELL, terms))
    assert isinstance(body, Offer)
    for name in ("quantity", "start", "end", "price", "carrier", "basis", "max_w", "shortfall_price"):
        assert getattr(body, name) == getattr(terms, name)
    assert body.valid_until == (terms.start if terms.valid_until is None else terms.valid_until)
    if terms.audience is not None:
        assert body.audience == tuple(sorted(set(terms.audience)))


def test_keys_and_ids_are_read_as_people_write_them() -> None:
    key = DORA.public_key
    assert bodies.key_of(key) == bodies.key_of(key.hex()) == bodies.key_of(address(key)) == key
    with pytest.raises(AddressError):
        bodies.key_of(address(key)[:-1] + "q")
    with pytest.raises(IntentError):
        bodies.key_of(key[:-1])
    for wrong in ("xyz", "00", b"", "00" * 31, bytes(33)):
        with pytest.raises(IntentError) as caught:
            bodies.id_of(wrong)
        assert caught.value.code == "id_invalid"
    assert bodies.asset_id_of("00" * 16) == bytes(16)


def test_roles_and_names() -> None:
    assert bodies.roles_value(["home", "node"]) == HOUSEHOLD
    with pytest.raises(IntentError, match="known are home, node"):
        bodies.roles_value(["king"])
    with pytest.raises(IntentError):
        bodies.name_hash("  ")


async def test_a_signed_record_as_text(homes: HomeWorld) -> None:
    bert = homes["bert"]
    signed = await bert.sign(bodies.transfer(bert.stamp(), homes["anna"].key, 5, TransferKind.PAY))
    chain_id = await bert.chain_id()
    assert SignedRecord.from_text(signed.text, chain_id) == signed
    forged = replace(signed.record.envelope, signature=bytes(64))
    text = SignedRecord(replace(signed.record, envelope=forged)).text
    with pytest.raises(Exception, match="signature is not valid"):
        SignedRecord.from_text(text, chain_id)
