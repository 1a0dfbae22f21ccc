"""The state that a genesis stands for, before the first block."""

from ledger_core.community import Genesis, check_genesis
from ledger_core.records.types import Role
from ledger_core.rules.headers import Parent
from ledger_core.rules.rows import ChainRow, CheckpointRow, MemberRow, NodeRow
from ledger_core.rules.state import CHAIN, State


def genesis_state(genesis: Genesis) -> State:
    """Return the state of a community without any block; the founders' nodes count from the start."""
    check_genesis(genesis)
    state = State(genesis)
    for index, founder in enumerate(genesis.founders):
        state.members[founder.member] = MemberRow(
            index, founder.roles, founder.node, founder.name_hash, founder.location
        )
        if founder.roles & Role.NODE and founder.node is not None:
            state.nodes[index] = NodeRow(founder.member, founder.node, 0, True)
            state.node_keys[founder.node] = index
            state.last_votes[index] = genesis.created
    state.checkpoints[0] = CheckpointRow(state.chain_id, genesis.created, True)
    slot = genesis.parameters.slot_s
    state.chain[CHAIN] = ChainRow(
        height=0,
        hash=state.chain_id,
        times=(genesis.created,),
        settled_until=genesis.created // slot * slot,
        sequence=0,
        deadline=genesis.created,
        issued=0,
        justified=0,
        final=0,
    )
    return state


def parent_of(state: State) -> Parent:
    """Return what the header of the next block must know."""
    tip = state.tip
    return Parent(tip.height, tip.hash, tip.times)
