"""Four real nodes: what one home offers another accepts, any of them mines, all of them keep for ever."""

from functools import partial
from itertools import product
from pathlib import Path

from ledger_core.client.views import EventsQuery
from tests.node.processes import FAST, Street, is_there, street


async def final_since(homes: Street, height: int) -> int:
    """Return the height of the block with which a block became final at the last node."""
    cursor = None
    while True:
        page = await homes[3].node.client.events(EventsQuery(after=cursor, limit=500))
        for event in page.items:
            if event.event == "checkpoint_final" and event.data["height"] >= height:
                assert event.height is not None
                return event.height
        assert page.items, "the events tell of finality"
        cursor = page.cursor


async def test_an_offer_travels_is_accepted_elsewhere_and_becomes_final_everywhere(tmp_path: Path) -> None:
    async with street(tmp_path, 4) as homes:
        seller, buyer = homes[0], homes[2]
        for household in (seller, buyer):
            await household.register()
        for other, asset in product((homes[1], homes[3]), (seller.panels, buyer.panels)):
            ask = partial(other.node.client.asset, asset.hex())
            await homes.until(lambda: is_there(ask()), "the assets are in a block")  # noqa: B023 - awaited
        offer = await seller.offer(12)
        await homes.until(lambda: is_there(buyer.node.client.offer(offer)), "the offer came to the buyer")
        trade = await buyer.home.accept(offer)
        height = await homes.final_height_of(trade)
        views = [await each.node.client.trade(trade) for each in homes]
        assert {(view.seller.key, view.buyer.key, view.quantity) for view in views} == {
            (seller.key.public_key.hex(), buyer.key.public_key.hex(), 12)
        }
        assert await homes.same_state(height)
        # Four checkpoints are usual; on a busy machine blocks of a second come much quicker than votes.
        paid = await buyer.home.transfer(seller.key.public_key, 5)
        height = await homes.final_height_of(paid)
        assert await final_since(homes, height) - height <= 16 * FAST.checkpoint_interval
        blocks = (await homes[3].node.client.blocks()).items
        miners = {block.miner.key for block in blocks}
        assert miners <= {each.node_key.hex() for each in homes}
        assert len(miners) > 1, "no single node makes the blocks"
        for each in homes:
            assert await each.node.stop() == 0
            assert " ERROR " not in each.node.log
