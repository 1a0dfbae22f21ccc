"""Votes, quorum and evidence: Casper FFG over the nodes, with joins, leaves and silence."""

import pytest

from ledger_core.records.codec import Record
from ledger_core.records.types import Role
from ledger_core.records.votes import Evidence, Vote
from ledger_core.rules.events import CheckpointFinal, CheckpointJustified, Event, NodePunished
from ledger_core.rules.finality import conflict
from tests.core.actions import member, parameters, refusal, transfer
from tests.core.refusals_blocks import ballot, cast
from tests.core.world import HOUSEHOLD, Home, World, signer

FOUR = ("anna", "bert", "cara", "dora")


def grown(height: int = 9, names: tuple[str, ...] = FOUR, **changes: object) -> World:
    """A chain of empty blocks with a checkpoint every fourth."""
    world = World(names, parameters(**changes))
    for _ in range(height):
        world.mine()
    return world


def checkpoints(events: list[Event]) -> list[tuple[str, int]]:
    named = {CheckpointJustified: "justified", CheckpointFinal: "final"}
    return [
        (named[type(event)], event.height)
        for event in events
        if isinstance(event, (CheckpointJustified, CheckpointFinal))
    ]


@pytest.mark.parametrize(("votes", "enough"), [(2, False), (3, True), (4, True)])
def test_more_than_two_thirds_justify(votes: int, enough: bool) -> None:
    world = grown()
    events = world.mine(bundles=world.votes(0, 4, FOUR[:votes])).events
    assert checkpoints(events) == ([("justified", 4)] if enough else [])
    assert world.state.checkpoints[4].justified is enough
    assert world.state.tip.justified == (4 if enough else 0)


def test_exactly_two_thirds_are_not_more() -> None:
    world = grown(names=FOUR[:3])
    assert checkpoints(world.mine(bundles=world.votes(0, 4, FOUR[:2])).events) == []
    assert checkpoints(world.mine(bundles=world.votes(0, 4, [FOUR[2]])).events) == [("justified", 4)]


def test_votes_add_up_over_blocks() -> None:
    world = grown()
    assert checkpoints(world.mine(bundles=world.votes(0, 4, ["anna"])).events) == []
    assert checkpoints(world.mine(bundles=world.votes(0, 4, ["dora"])).events) == []
    assert checkpoints(world.mine(bundles=world.votes(0, 4, ["cara"])).events) == [("justified", 4)]


def test_link_between_neighbours_makes_its_source_final() -> None:
    world = grown()
    world.mine(bundles=world.votes(0, 4))
    events = world.mine(bundles=world.votes(4, 8)).events
    assert checkpoints(events) == [("justified", 8), ("final", 4)]
    assert world.state.tip.final == 4
    assert min(world.state.checkpoints) == 4
    assert [key for key in world.state.tallies if key[0] <= 4] == []


def test_link_over_a_gap_justifies_but_finalises_nothing() -> None:
    world = grown(13)
    events = world.mine(bundles=world.votes(0, 8)).events
    assert checkpoints(events) == [("justified", 8)]
    assert world.state.tip.final == 0
    events = world.mine(bundles=world.votes(8, 12)).events
    assert checkpoints(events) == [("justified", 12), ("final", 8)]


def test_votes_for_both_links_may_share_a_block() -> None:
    world = grown()
    events = world.mine(bundles=(*world.votes(0, 4), *world.votes(4, 8))).events
    assert checkpoints(events) == [("justified", 4), ("justified", 8), ("final", 4)]


def test_votes_for_different_targets_do_not_add_up() -> None:
    world = grown(13)
    world.mine(bundles=world.votes(0, 4, FOUR[:2]))
    assert checkpoints(world.mine(bundles=world.votes(0, 8, FOUR[2:])).events) == []


def test_silent_node_leaves_the_quorum_until_it_votes_again() -> None:
    world = grown(3, silence_s=600)
    while world.now < world.genesis.created + 1300:
        target = max(world.state.checkpoints)
        source = world.state.tip.justified
        world.mine(bundles=world.votes(source, target, FOUR[:3]) if target > source else (), step=100)
    last = world.state.last_votes
    assert last[3] == world.genesis.created
    world.mine(step=100)
    while world.state.tip.height % 4 != 1:
        world.mine(step=100)
    source, target = world.state.tip.justified, max(world.state.checkpoints)
    assert target > source
    assert checkpoints(world.mine(bundles=world.votes(source, target, FOUR[:2])).events) == []
    events = world.mine(bundles=world.votes(source, target, [FOUR[2]])).events
    assert ("justified", target) in checkpoints(events)


def test_half_of_the_street_alone_reaches_no_finality_by_silence() -> None:
    """Two of four keep voting; the others are silent for longer than the limit."""
    world = grown(5, silence_s=600)
    for _ in range(20):
        source, target = world.state.tip.justified, max(world.state.checkpoints)
        world.mine(bundles=world.votes(source, target, FOUR[:2]) if not world.state.tallies else (), step=200)
    assert world.state.tip.justified == 0


def test_three_of_four_go_on_when_one_is_silent_and_two_do_not() -> None:
    world = grown(5, silence_s=600)
    for _ in range(6):
        world.mine(step=200)
    assert checkpoints(world.mine(bundles=world.votes(0, 8, FOUR[:2])).events) == []
    assert checkpoints(world.mine(bundles=world.votes(0, 8, [FOUR[2]])).events) == [("justified", 8)]


def test_revoked_node_leaves_at_once() -> None:
    world = grown()
    world.mine(bundles=world.votes(0, 4, FOUR[:2]))
    world.mine(member(world, world["anna"].key, world["dora"].id, roles=0))
    assert checkpoints(world.mine(bundles=world.votes(0, 4, ["cara"])).events) == [("justified", 4)]


def test_vote_of_a_node_that_left_is_taken_out_of_open_tallies() -> None:
    world = grown()
    world.mine(bundles=world.votes(0, 4, ["anna", "dora"]))
    world.mine(member(world, world["anna"].key, world["dora"].id, roles=int(Role.HOME)))
    assert world.state.tallies[4, 0] == bytes([0b0001])


def test_newcomer_s_vote_is_kept_but_does_not_count_yet() -> None:
    world = grown(4)
    emil = signer("emil")
    node = signer("emil node")
    world.mine(member(world, world["anna"].key, emil.public_key, emil, roles=HOUSEHOLD, node=node.public_key))
    for _ in range(4):
        world.mine()
    world.homes["emil"] = Home("emil")
    world.mine(bundles=world.votes(0, 4, ["anna", "bert", "emil"]))
    assert world.state.tip.justified == 0
    assert checkpoints(world.mine(bundles=world.votes(0, 4, ["cara"])).events) == [("justified", 4)]
    world.mine(bundles=world.votes(4, 8, FOUR))
    assert world.state.nodes[4].counts is False
    while world.state.tip.height < 13:
        world.mine()
    world.mine(bundles=world.votes(8, 12, FOUR))
    assert world.state.tip.final == 8
    assert world.state.nodes[4].counts is True


def test_fees_mature_with_finality() -> None:
    world = grown(3, fee=100)
    world.mine(transfer(world, "anna", "bert", 1_000), miner="cara")
    cara = world["cara"].id
    assert world.state.fees[4].amount == 100
    assert cara not in world.state.accounts
    for _ in range(4):
        world.mine()
    world.mine(transfer(world, "bert", "anna", 1), miner="dora", bundles=world.votes(0, 4))
    events = world.mine(bundles=world.votes(4, 8)).events
    assert ("final", 4) in checkpoints(events)
    assert world.state.accounts[cara].balance == 100
    assert list(world.state.fees) == [9]
    assert sum(row.balance for row in world.state.accounts.values()) == -100


# Evidence


def accused(world: World, first: Vote, second: Vote) -> Record:
    return world.make(Evidence, world["anna"].key, first=cast(world, first), second=cast(world, second))


@pytest.mark.parametrize(
    ("first", "second", "offence"),
    [
        ((4, 8, "one"), (4, 8, "two"), "double"),
        ((4, 8, "one"), (0, 8, "one"), "double"),
        ((0, 16, "one"), (4, 12, "two"), "surround"),
        ((4, 12, "two"), (0, 16, "one"), "surround"),
    ],
)
def test_conflicting_votes_cost_the_role(
    first: tuple[int, int, str], second: tuple[int, int, str], offence: str
) -> None:
    world = grown(2, FOUR[:3])
    votes = [ballot(world, name, source, target) for source, target, name in (first, second)]
    events = world.mine(accused(world, *votes)).events
    (punished,) = [event for event in events if isinstance(event, NodePunished)]
    assert (punished.member, punished.offence) == (world["bert"].id, offence)
    assert world.state.members[world["bert"].id].roles == int(Role.HOME)
    assert 1 not in world.state.nodes
    assert refusal(world, miner="bert").code == "miner_not_node"
    assert refusal(world, accused(world, *votes)).code == "evidence_no_node"


def changed_node(world: World, name: str = "bert") -> None:
    """A home takes a new key for its node."""
    home = world[name]
    node = signer(f"{name}'s new node").public_key
    world.mine(member(world, home.key, home.id, roles=HOUSEHOLD, node=node))


def test_a_new_key_does_not_wash_off_what_the_old_one_signed() -> None:
    world = grown(2, FOUR[:3])
    votes = [ballot(world, name, 4, 8) for name in ("one", "two")]
    changed_node(world)
    events = world.mine(accused(world, *votes)).events
    assert [event.member for event in events if isinstance(event, NodePunished)] == [world["bert"].id]
    assert not world.state.former_nodes
    assert refusal(world, accused(world, *votes)).code == "evidence_no_node"


def test_an_offence_is_punished_once_even_when_the_role_is_given_again() -> None:
    world = grown(2, FOUR[:3])
    votes = [ballot(world, name, 4, 8) for name in ("one", "two")]
    changed_node(world)
    world.mine(accused(world, *votes))
    bert, node = world["bert"], signer("bert's new node").public_key
    world.mine(member(world, world["anna"].key, bert.id, roles=HOUSEHOLD, node=node))
    assert refusal(world, accused(world, *votes)).code == "evidence_no_node"


def test_old_keys_are_forgotten_after_the_time_of_silence() -> None:
    world = grown(2, FOUR[:3], silence_s=600)
    votes = [ballot(world, name, 4, 8) for name in ("one", "two")]
    changed_node(world)
    old = world["bert"].node.public_key
    assert world.state.former_nodes[old].member == world["bert"].id
    world.mine(step=599)
    assert old in world.state.former_nodes
    world.mine(step=1)
    assert not world.state.former_nodes
    assert refusal(world, accused(world, *votes)).code == "evidence_no_node"


def test_a_key_that_comes_back_is_no_longer_an_old_one() -> None:
    world = grown(2, FOUR[:3], silence_s=600)
    bert = world["bert"]
    changed_node(world)
    world.mine(member(world, bert.key, bert.id, roles=HOUSEHOLD, node=bert.node.public_key))
    assert set(world.state.former_nodes) == {signer("bert's new node").public_key}
    changed_node(world)
    world.mine(step=590)
    assert set(world.state.former_nodes) == {bert.node.public_key}


def test_evidence_does_not_stop_the_chain_by_taking_its_last_node() -> None:
    world = grown(2, FOUR[:2])
    votes = [ballot(world, name, 4, 8) for name in ("one", "two")]
    anna = world["anna"]
    world.mine(member(world, anna.key, anna.id, roles=int(Role.HOME | Role.AUTHORITY)))
    assert refusal(world, accused(world, *votes), miner="bert").code == "last_node"


def test_a_key_that_another_node_had_is_taken() -> None:
    world = grown(2, FOUR[:3])
    changed_node(world)
    cara, key = world["cara"], world["bert"].node.public_key
    bad = member(world, cara.key, cara.id, roles=HOUSEHOLD, node=key)
    assert refusal(world, bad).code == "node_key_taken"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((4, 8, "one"), (4, 8, "one")),
        ((0, 4, "one"), (4, 8, "two")),
        ((0, 8, "one"), (8, 12, "two")),
        ((0, 8, "one"), (4, 12, "two")),
        ((0, 12, "one"), (0, 8, "two")),
    ],
)
def test_votes_of_an_honest_node_are_no_evidence(
    first: tuple[int, int, str], second: tuple[int, int, str]
) -> None:
    world = grown(2, FOUR[:3])
    a, b = (ballot(world, name, source, target) for source, target, name in (first, second))
    assert conflict(a, b) is None
    assert refusal(world, accused(world, a, b)).code == "evidence_no_conflict"
