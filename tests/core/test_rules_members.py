"""Members: admission, invitations, roles, node keys, revocation."""

from ledger_core.keys import SoftwareSigner
from ledger_core.records.codec import Record, invite
from ledger_core.records.types import Role
from tests.core.actions import (
    SLOT,
    WINDOW,
    accept,
    agree,
    meters,
    money,
    offer,
    refusal,
    settle,
    street,
)
from tests.core.actions import member as member_record
from tests.core.world import HOUSEHOLD, World, signer

DORA, EMIL = signer("dora"), signer("emil")
TICKET = signer("ticket")
HOME = int(Role.HOME)


def joins(world: World, key: SoftwareSigner = DORA, roles: int = HOME, expires: int | None = None) -> Record:
    """Somebody uses anna's one-time invitation."""
    ticket = invite(
        world.chain_id, world["anna"].key, TICKET.public_key, HOUSEHOLD, expires or world.now + 600
    )
    node = signer("new node").public_key if roles & Role.NODE else None
    return member_record(world, key, key.public_key, TICKET, roles=roles, node=node, invitation=ticket)


def test_invitation_admits_one_member_once() -> None:
    world = street()
    expires = world.now + 600
    first, second = joins(world, DORA, expires=expires), joins(world, EMIL, expires=expires)
    world.mine(first)
    assert world.state.members[DORA.public_key].roles == HOME
    assert refusal(world, second).code == "invitation_used"
    assert world.state.invitations == {TICKET.public_key: expires}
    world.mine(step=expires + 1 - world.now)
    assert not world.state.invitations
    assert refusal(world, joins(world, EMIL, expires=expires)).code == "invitation_expired"


def test_invitation_works_in_its_last_second() -> None:
    world = street()
    expires = world.now + 30
    world.mine(joins(world, expires=expires), step=30)
    assert DORA.public_key in world.state.members


def test_two_uses_in_one_block() -> None:
    world = street()
    assert refusal(world, joins(world, DORA), joins(world, EMIL)).code == "invitation_used"


def test_fewer_roles_than_invited_are_fine() -> None:
    world = street()
    world.mine(joins(world, roles=HOME))
    assert world.state.members[DORA.public_key].index == 3
    assert 3 not in world.state.nodes


def test_invited_node_mines_at_once_but_counts_only_after_finality() -> None:
    world = street()
    world.mine(joins(world, roles=HOUSEHOLD))
    assert world.state.nodes[3].counts is False
    while world.state.tip.final < 4:
        bundles = world.votes(world.state.tip.justified, max(world.state.checkpoints))
        world.mine(bundles=bundles if max(world.state.checkpoints) > world.state.tip.justified else ())
    assert world.state.nodes[3].joined == 3
    assert world.state.nodes[3].counts is True


def test_invitation_of_a_revoked_authority_is_worth_nothing() -> None:
    world = street()
    anna, bert = world["anna"], world["bert"]
    node = bert.node.public_key
    world.mine(member_record(world, anna.key, bert.id, roles=HOUSEHOLD | Role.AUTHORITY, node=node))
    ticket = joins(world)
    world.mine(member_record(world, bert.key, anna.id, roles=0))
    assert refusal(world, ticket).code == "member_revoked"


def test_ticket_of_another_community() -> None:
    world = street()
    ticket = invite(bytes(32), world["anna"].key, TICKET.public_key, HOME, world.now + 600)
    record = member_record(world, DORA, DORA.public_key, TICKET, roles=HOME, invitation=ticket)
    assert refusal(world, record).code == "invitation_forged"


def test_member_changes_its_own_node_key_alone() -> None:
    world = street()
    bert, new = world["bert"], signer("bert node two")
    world.mine(member_record(world, bert.key, bert.id, roles=HOUSEHOLD, node=new.public_key))
    assert world.state.nodes[1].key == new.public_key
    assert world.state.nodes[1].counts is False
    assert bert.node.public_key not in world.state.node_keys
    cara = world["cara"]
    taken = member_record(world, cara.key, cara.id, roles=HOUSEHOLD, node=new.public_key)
    assert refusal(world, taken).code == "node_key_taken"
    still_accountable = member_record(world, cara.key, cara.id, roles=HOUSEHOLD, node=bert.node.public_key)
    assert refusal(world, still_accountable).code == "node_key_taken"


def test_same_node_key_keeps_its_place_in_the_quorum() -> None:
    world = street()
    bert = world["bert"]
    before = world.state.nodes[1]
    renamed = member_record(
        world, bert.key, bert.id, roles=HOUSEHOLD, node=bert.node.public_key, name_hash=bytes(32)
    )
    world.mine(renamed)
    assert world.state.nodes[1] == before


def test_no_one_else_changes_a_member() -> None:
    world = street()
    bert, cara = world["bert"], world["cara"]
    record = member_record(world, cara.key, bert.id, roles=HOUSEHOLD, node=bert.node.public_key)
    assert refusal(world, record).code == "authority_missing"


def test_revoked_node_mines_no_more_and_its_key_is_free() -> None:
    world = street()
    bert = world["bert"]
    world.mine(member_record(world, world["anna"].key, bert.id, roles=0))
    assert 1 not in world.state.nodes
    assert 1 not in world.state.last_votes
    assert refusal(world, miner="bert").code == "miner_not_node"
    assert world.state.members[bert.id].index == 1


def test_revoked_home_s_trades_are_settled_and_its_offers_bind_no_more() -> None:
    world = street()
    trade = agree(world, quantity=1_000, end=WINDOW + SLOT)
    waiting = offer(world, quantity=500, start=WINDOW + 8 * SLOT)
    world.mine(waiting)
    bert = world["bert"]
    node = bert.node.public_key
    world.mine(member_record(world, world["anna"].key, bert.id, roles=HOUSEHOLD | Role.AUTHORITY, node=node))
    world.mine(member_record(world, bert.key, world["anna"].id, roles=0))
    assert refusal(world, accept(world, "bert", waiting), miner="bert").code == "member_revoked"
    world.homes = {name: world[name] for name in ("bert", "anna", "cara")}
    meters(world, {"anna": [1_000]}, {"bert": [1_000]})
    assert [line.delivered_wh for line in settle(world, WINDOW + SLOT)] == [1_000]
    assert money(world, "anna").balance == 200_000
    assert trade.id in world.state.closed


def test_last_authority_hands_over_before_it_leaves() -> None:
    world = street()
    anna, bert = world["anna"], world["bert"]
    leave = member_record(world, anna.key, anna.id, roles=HOUSEHOLD, node=anna.node.public_key)
    assert refusal(world, leave).code == "last_authority"
    node = bert.node.public_key
    world.mine(member_record(world, anna.key, bert.id, roles=HOUSEHOLD | Role.AUTHORITY, node=node))
    world.mine(leave)
    assert not world.state.members[anna.id].roles & Role.AUTHORITY


def test_readmitted_member_keeps_its_index() -> None:
    world = street()
    bert = world["bert"]
    world.mine(member_record(world, world["anna"].key, bert.id, roles=0))
    assert refusal(world, offer(world, "bert")).code == "member_revoked"
    alone = member_record(world, bert.key, bert.id, roles=HOME)
    assert refusal(world, alone).code == "authority_missing"
    world.mine(member_record(world, world["anna"].key, bert.id, roles=HOME))
    assert world.state.members[bert.id].index == 1
