"""A street that is cut in two and meets again: one branch wins by the rule, nothing appears or vanishes."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from ledger_core.client.views import EventsQuery
from tests.node.processes import FAST, Street, found, is_there, street

PRICE = 200_000


async def money_of(homes: Street) -> list[int]:
    """The sum of all balances and of fees that nobody has yet, as each node tells it."""
    sums = []
    for each in homes:
        accounts = (await each.node.client.accounts()).items
        sums.append(sum(account.balance + account.fees_waiting for account in accounts))
    return sums


async def lost_at(homes: Street, number: int, record: str) -> str | None:
    """The code with which a node told its home that a record can't be any more."""
    cursor = None
    while True:
        page = await homes[number].node.client.events(EventsQuery(after=cursor, limit=500))
        for event in page.items:
            if event.event == "record_lost" and event.data["record"] == record:
                return str(event.data["code"])
        if not page.items:
            return None
        cursor = page.cursor


async def outcome(homes: Street, number: int, trade: str) -> str:
    """What became of a trade: `agreed` at every node, the code it was lost with, or empty so far."""
    views = [await found(each.node.client.trade(trade)) for each in homes]
    if all(views):
        return "agreed"
    return await lost_at(homes, number, trade) or ""


async def is_known(ask: Callable[[str], Awaitable[object]], what: str) -> bool:
    """Whether a node knows something by its id."""
    return await is_there(ask(what))


async def prepared(homes: Street) -> str:
    """Every home has its devices; the first one offers something that can be taken once."""
    for each in homes:
        await each.register()
    for each in homes:
        for other in homes:
            await homes.until(
                partial(is_known, each.node.client.asset, other.panels.hex()), "the assets are in a block"
            )
    slot = FAST.slot_s
    start = (await homes[0].node.status()).tip_time // slot * slot + 10 * slot
    offer = await homes[0].offer(50, min_quantity=None, start=start, end=start + slot, price=PRICE)
    for each in homes:
        await homes.until(partial(is_known, each.node.client.offer, offer), "the offer came everywhere")
    return offer


async def grown(homes: Street, blocks: int) -> None:
    """Wait until every node's chain has grown by so many blocks."""
    heights = [status.tip.height for status in await homes.statuses()]

    async def enough() -> bool:
        now = [status.tip.height for status in await homes.statuses()]
        return all(height >= before + blocks for before, height in zip(heights, now, strict=True))

    await homes.until(enough, f"{blocks} more blocks at every node")


async def three_beyond(homes: Street, final: int) -> bool:
    """Whether the first three nodes have a later final block."""
    return all([(await homes[number].node.status()).final > final for number in range(3)])


async def ahead(homes: Street, first: int, second: int, blocks: int) -> bool:
    """Whether a node's chain is so many blocks longer than another's."""
    statuses = [await homes[number].node.status() for number in (first, second)]
    return statuses[0].tip.height >= statuses[1].tip.height + blocks


@pytest.mark.timeout(400)
async def test_two_against_two_then_three_against_one(tmp_path: Path) -> None:
    async with street(tmp_path, 4) as homes:
        offer = await prepared(homes)

        async with homes.parted({0, 1}, {2, 3}):
            await homes.until(lambda: homes.all_linked(1), "each half is linked")
            # Both halves sell the same energy, and each pays somebody of the other half.
            taken = {number: await homes[number].home.accept(offer) for number in (1, 3)}
            paid = {
                number: await homes[number].home.transfer(
                    homes[(number + 2) % 4].key.public_key, 1000 + number
                )
                for number in range(4)
            }
            await grown(homes, 6)
            for number, trade in taken.items():
                assert await is_there(homes[number].node.client.trade(trade))
            # One half goes on alone until its branch clearly has the most work.
            for number in (2, 3):
                await homes[number].node.client.change_mining(on=False)
            await homes.until(partial(ahead, homes, 0, 2, 4), "the first half is ahead")
            finals = [status.final for status in await homes.statuses()]
            assert len({status.justified for status in await homes.statuses()}) == 1
        # Half of the nodes is no quorum: nothing became final meanwhile that the other half must undo.
        assert max(finals) - min(finals) <= FAST.checkpoint_interval

        for record in paid.values():
            await homes.final_height_of(record, 120)
        told: dict[int, str] = {}

        async def decided() -> bool:
            told.update({number: await outcome(homes, number, trade) for number, trade in taken.items()})
            return "agreed" in told.values() and all(told.values())

        await homes.until(decided, "each of both acceptances was taken or reported", 120)
        assert told == {1: "agreed", 3: "offer_unknown"}, "the branch with the most work wins"
        for number in (2, 3):
            await homes[number].node.client.change_mining(on=True)
        height = await homes.final_height_of(taken[1])
        assert await homes.same_state(height)
        assert await money_of(homes) == [0, 0, 0, 0]
        for each in homes:
            trades = await each.node.client.all_trades()
            assert [(trade.trade, trade.quantity) for trade in trades] == [(taken[1], 50)]

        async with homes.parted({0, 1, 2}, {3}):
            before = (await homes[3].node.status()).final
            alone = await homes[3].home.transfer(homes[0].key.public_key, 77)
            together = await homes[0].home.transfer(homes[3].key.public_key, 88)
            await grown(homes, 2 * FAST.checkpoint_interval + 4)
            assert (await homes[3].node.status()).final - before <= FAST.checkpoint_interval
            await homes.until(partial(three_beyond, homes, before), "the three went on to finality")
        # The three went on to finality; the one comes back to their branch, and its record with it.
        heights = [await homes.final_height_of(record, 120) for record in (alone, together)]
        assert await homes.same_state(max(heights))
        assert await money_of(homes) == [0, 0, 0, 0]
        for each in homes:
            assert " ERROR " not in each.node.log
