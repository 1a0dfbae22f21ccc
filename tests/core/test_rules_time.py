"""Time: above the median of the last 11, at most two minutes ahead; what is over never comes back."""

import pytest
from msgspec.structs import replace

from ledger_core.community import FUTURE_LIMIT_S
from ledger_core.errors import RuleError
from ledger_core.keys import SoftwareSigner
from ledger_core.records.block import decode_header
from ledger_core.records.codec import invite
from ledger_core.records.types import Role
from ledger_core.rules.apply import apply_block
from ledger_core.rules.assemble import seal, search_nonce
from ledger_core.rules.headers import median_time, next_times
from tests.core.actions import SLOT, WINDOW, member, offer, refusal, street, transfer, until
from tests.core.world import START, World


def test_median_of_the_last_eleven() -> None:
    assert median_time([7]) == 7
    assert median_time([1, 9]) == 9
    assert median_time([9, 1, 5]) == 5
    assert median_time(list(range(11))) == 5
    times: tuple[int, ...] = (100,)
    for step in range(1, 30):
        times = next_times(times, 100 + step)
    assert times == tuple(range(119, 130))


def _timed(world: World, time: int) -> RuleError | None:
    """The refusal of an empty block with this time."""
    block = world.block()
    header = search_nonce(replace(decode_header(block.header), time=time, nonce=0))
    assert header is not None
    world.now = max(world.now, time)
    with pytest.raises(RuleError) as refused:
        world.apply(seal(header, block.body, world["anna"].node))
    return refused.value


def test_block_at_the_median_is_too_old_and_one_second_later_is_not() -> None:
    world = World()
    for _ in range(20):
        world.mine()
    median = median_time(world.state.tip.times)
    assert median == world.now - 5 * 30
    error = _timed(world, median)
    assert error is not None
    assert error.code == "time_too_old"
    assert error.details == {"time": median, "median": median}
    world.mine(step=median + 1 - world.now)
    assert world.state.tip.times[-1] == median + 1


def test_block_ahead_of_the_clock_is_deferred_not_wrong() -> None:
    world = World()
    block = world.block(step=1000)
    time = decode_header(block.header).time
    with pytest.raises(RuleError) as refused:
        apply_block(world.state, world.prepare(block), time - FUTURE_LIMIT_S - 1)
    assert refused.value.code == "time_too_new"
    assert refused.value.details == {
        "time": time,
        "now": time - FUTURE_LIMIT_S - 1,
        "limit_s": FUTURE_LIMIT_S,
    }
    apply_block(world.state, world.prepare(block), time - FUTURE_LIMIT_S)
    assert world.state.tip.height == 1


def test_record_forgotten_with_its_age_does_not_return_in_a_backdated_block() -> None:
    world = street(record_max_age_s=600)
    hour = START + 3600
    until(world, hour - 1)
    paid = transfer(world, "anna", "bert", 5)
    world.mine(paid, step=10)
    until(world, hour + 600)
    assert refusal(world, paid, step=-1).code in {"record_duplicate", "record_expired"}


def test_record_is_taken_to_its_last_second_and_not_later() -> None:
    world = street(record_max_age_s=600)
    paid = transfer(world, "anna", "bert", 5)
    late = transfer(world, "anna", "bert", 6)
    world.mine(paid, step=600)
    error = refusal(world, late, step=1)
    assert error.code == "record_expired"
    assert error.details["max_age_s"] == 600


def test_used_invitation_does_not_return_in_a_backdated_block() -> None:
    world = street()
    ticket_key = SoftwareSigner(bytes(32))
    expires = world.now + 100
    ticket = invite(world.chain_id, world["anna"].key, ticket_key.public_key, int(Role.HOME), expires)

    def joins(number: int) -> SoftwareSigner:
        return SoftwareSigner(bytes([number]) * 32)

    first = member(world, joins(1), joins(1).public_key, ticket_key, roles=int(Role.HOME), invitation=ticket)
    world.mine(first)
    until(world, expires + 1)
    second = member(world, joins(2), joins(2).public_key, ticket_key, roles=int(Role.HOME), invitation=ticket)
    assert refusal(world, second, step=-1).code in {"invitation_used", "invitation_expired"}


def test_settled_slot_is_not_sold_in_a_backdated_block() -> None:
    world = street(grace_s=0)
    until(world, WINDOW + SLOT)
    assert world.state.tip.settled_until == WINDOW + SLOT
    assert refusal(world, offer(world, created=WINDOW - 40), step=-SLOT - 60).code == "window_started"


def test_backdated_block_keeps_its_own_time_in_the_median_and_in_its_checkpoint() -> None:
    world = World()
    for _ in range(7):
        world.mine(step=100)
    world.mine(step=-150)
    assert world.state.tip.height == 8
    assert world.state.checkpoints[8].time == world.now == world.state.tip.times[-1]
    assert world.state.tip.deadline == world.now + 150
