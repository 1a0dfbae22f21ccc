"""The home's books and its statistics: every settled slot once, corrected when a block is undone."""

from datetime import timedelta
from typing import Any

import pytest
from homeassistant.components.recorder.core import Recorder
from homeassistant.components.recorder.statistics import statistics_during_period
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.components.recorder.common import (  # type: ignore[import-untyped]
    async_wait_recording_done,
)

from custom_components.energy_ledger import books as books_module
from custom_components.energy_ledger.books import HOUR, Books, Figures, async_remove_books
from custom_components.energy_ledger.statistics import statistic_id
from ledger_core.client import RefusedError, UnreachableError
from ledger_core.client.views import EventView

from .conftest import Street


@pytest.fixture
async def hass(recorder_mock: Recorder, hass: HomeAssistant) -> HomeAssistant:
    """Home Assistant with a recorder, which must be there first."""
    return hass


def settled(street: Street, trade: str, slot_end: int, delivered: int, paid: int, **more: Any) -> EventView:
    """A settlement line as the node tells it: anna sells to bert."""
    data = {
        "trade": trade,
        "slot_end": slot_end,
        "seller": street.world["anna"].id.hex(),
        "buyer": street.world["bert"].id.hex(),
        "agreed_wh": delivered,
        "sent_wh": delivered,
        "received_wh": delivered,
        "delivered_wh": delivered,
        "paid": paid,
        "shortfall_paid": 0,
        "disputed": False,
        **more,
    }
    return event("slot_settled", data, block=more.get("block", "aa" * 32))


def event(name: str, data: dict[str, Any], block: str = "aa" * 32) -> EventView:
    return EventView(cursor="1-" + "0" * 16, event=name, height=1, block=block, time=0, data=data)


def agreed(street: Street, trade: str, asset: str) -> EventView:
    sides = {"seller": street.world["anna"].id.hex(), "buyer": street.world["bert"].id.hex()}
    return event("trade_agreed", {"trade": trade, "asset": asset, **sides})


async def sums(street: Street, series: str) -> list[tuple[int, float, float]]:
    """Hour, state and sum of every hour of a series."""
    await async_wait_recording_done(street.hass)
    name = statistic_id(street.entry, "electricity", series)
    found = await street.hass.data["recorder_instance"].async_add_executor_job(
        statistics_during_period,
        street.hass,
        dt_util.utc_from_timestamp(0),
        None,
        {name},
        "hour",
        None,
        {"state", "sum"},
    )
    return [(int(row["start"]), row["state"], row["sum"]) for row in found.get(name, [])]


async def test_a_settled_trade(street: Street) -> None:
    trade = await street.buy()
    await street.settle(trade, 500, 500)
    await street.until(lambda: street.data.books.total() == Figures(bought_wh=1000, spent=200_000))
    rows = await sums(street, "bought")
    assert rows[-1][2] == 1.0
    assert sum(row[1] for row in rows) == 1.0
    assert all(hour % HOUR == 0 for hour, _, _ in rows)
    assert (await sums(street, "spent"))[-1][2] == 0.2
    assert (await sums(street, "sold"))[-1][2] == 0.0


async def test_an_hour_that_is_corrected_moves_the_later_sums(street: Street) -> None:
    books: Books = street.data.books
    noon = 1_790_000_000 // HOUR * HOUR
    books.pages.carriers["t"] = "electricity"
    for number in range(3):
        books._take(settled(street, "t", noon + number * HOUR + 900, 1000, 100_000, block=f"{number:064x}"))
    assert [row[1:] for row in await sums(street, "sold")] == [(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]
    books._take(event("block_undone", {"hash": f"{1:064x}", "height": 1}))
    assert [row[1:] for row in await sums(street, "sold")] == [(1.0, 1.0), (0.0, 1.0), (1.0, 2.0)]
    books._take(settled(street, "t", noon + HOUR + 900, 500, 50_000, block="bb" * 32))
    assert [row[1:] for row in await sums(street, "sold")] == [(1.0, 1.0), (0.5, 1.5), (1.0, 2.5)]
    assert [row[2] for row in await sums(street, "earned")] == pytest.approx([0.1, 0.15, 0.25])
    # Told again, as after a fork: it counts once.
    books._take(settled(street, "t", noon + HOUR + 900, 500, 50_000, block="cc" * 32))
    assert books.total() == Figures(sold_wh=2500, earned=250_000)


async def test_shortfall_money_goes_the_other_way(street: Street) -> None:
    books: Books = street.data.books
    books.pages.carriers["t"] = "electricity"
    books._take(settled(street, "t", 1_790_000_100, 0, 0, shortfall_paid=7))
    assert books.total() == Figures(spent=7)
    sides = {"seller": street.world["bert"].id.hex(), "buyer": street.world["anna"].id.hex()}
    books._take(settled(street, "t", 1_790_001_000, 5, 3, shortfall_paid=2, **sides))
    assert books.total() == Figures(bought_wh=5, spent=10, earned=2)
    others = {"seller": street.world["bert"].id.hex(), "buyer": street.world["cara"].id.hex()}
    books._take(settled(street, "u", 1_790_001_000, 5, 3, **others))
    assert books.total() == Figures(bought_wh=5, spent=10, earned=2)


async def test_books_are_kept_and_the_sums_go_on(street: Street) -> None:
    trade = await street.buy()
    await street.settle(trade, 500, 500)
    await street.until(lambda: street.data.books.total().bought_wh == 1000)
    assert await street.hass.config_entries.async_reload(street.entry.entry_id)
    await street.hass.async_block_till_done()
    books: Books = street.data.books
    assert books.total() == Figures(bought_wh=1000, spent=200_000)
    noon = max(books.pages.hours["electricity"])
    books._take(settled(street, trade.trade, noon + 2 * HOUR, 100, 20_000))
    assert (await sums(street, "sold"))[-1][1:] == (0.1, 0.1)
    assert (await sums(street, "bought"))[-1][1:] == (0.0, 1.0)
    await street.hass.config_entries.async_unload(street.entry.entry_id)
    await async_remove_books(street.hass, street.entry.entry_id)
    assert await street.hass.config_entries.async_setup(street.entry.entry_id)
    assert street.data.books.total() == Figures()


async def test_old_hours_are_folded_into_one(street: Street) -> None:
    books: Books = street.data.books
    books.pages.carriers["t"] = "electricity"
    long_ago = 1_700_000_000 // HOUR * HOUR
    books._take(settled(street, "t", long_ago, 100, 10))
    books._take(settled(street, "t", long_ago + int(timedelta(days=60).total_seconds()), 50, 5))
    assert books.total() == Figures(sold_wh=150, earned=15)
    assert list(books.pages.hours["electricity"].values()) == [Figures(sold_wh=50, earned=5)]
    assert len(books.pages.lines) == 1
    ((_, _, last),) = list(books.running_sums("electricity", 0))
    assert last.sold_wh == 150


async def test_a_trade_that_was_over_before_it_was_seen(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its carrier is asked of the node, again and again while that is away."""
    monkeypatch.setattr(books_module, "RETRY_S", 0.01)
    books: Books = street.data.books
    asset = street.world_asset("anna pv").hex()
    answers: list[Exception] = [UnreachableError("unreachable", "away")]
    honest = street.data.client.asset

    async def ask(asset_id: str) -> Any:
        if answers:
            raise answers.pop()
        return await honest(asset_id)

    monkeypatch.setattr(street.data.client, "asset", ask)
    books._take(agreed(street, "t", asset))
    books._take(settled(street, "t", 1_790_000_100, 100, 10))
    books._take(settled(street, "t", 1_790_001_000, 100, 10, block="bb" * 32))
    books._take(event("block_undone", {"hash": "bb" * 32, "height": 1}))
    await street.until(lambda: books.total() == Figures(sold_wh=100, earned=10))
    assert books.pages.carriers["t"] == "electricity"
    answers.append(RefusedError("asset_unknown", "gone", 404))
    books._take(settled(street, "never seen", 1_790_000_100, 1, 1))
    await street.until(lambda: books.total() == Figures(sold_wh=101, earned=11))


async def test_few_trades_are_remembered(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books_module, "_TRADES_KEPT", 2)
    books: Books = street.data.books
    for name in ("a", "b", "c"):
        books._take(agreed(street, name, "ab" * 16))
    assert list(books.pages.carriers) == ["b", "c"]


async def test_what_was_settled_in_lost_events_is_booked_from_the_ledgers_sums(
    street: Street, hass_storage: dict[str, Any]
) -> None:
    first = await street.buy()
    await street.settle(first, 500, 500)
    await street.until(lambda: street.data.books.total().bought_wh == 1000)
    second = await street.buy()
    client, entry_id = street.data.client, street.entry.entry_id
    assert await street.hass.config_entries.async_unload(entry_id)
    street.world.now = second.end + 60
    boundaries = range(second.start, second.end + 1, 900)
    for name, bought, sold in (("bert", 0, 300), ("anna", 300, 0)):
        before = street._registers[name]
        rows = [(end, before[0] + n * bought, before[1] + n * sold) for n, end in enumerate(boundaries)]
        await client.submit(street.world.reading(name, rows).envelope)
    await street.node.mine()
    street.world.now = second.end + 1800
    await street.node.mine()
    hass_storage[f"energy_ledger.cursor.{entry_id}"]["data"]["cursor"] = "4711-0123456789abcdef"
    assert await street.hass.config_entries.async_setup(entry_id)
    await street.until(lambda: street.data.books.total().bought_wh == 1600)
    assert (await sums(street, "bought"))[-1][2] == 1.6
    # Told again, nothing more is missing.
    street.data.books._take(event("resync", {}))
    assert street.data.books.total() == Figures(bought_wh=1600, spent=200_000)


async def test_a_node_that_knows_less_takes_nothing_from_the_books(street: Street) -> None:
    books: Books = street.data.books
    trade = await street.buy()
    await street.settle(trade, 500, 500)
    await street.until(lambda: books.total().bought_wh == 1000)
    books.pages.seen = {"electricity": Figures(bought_wh=5_000)}
    books._take(event("resync", {}))
    assert books.total() == Figures(bought_wh=1000, spent=200_000)
    assert books.pages.seen == {"electricity": Figures(bought_wh=5_000)}


async def test_books_are_on_disk_before_the_cursor_moves_on(
    street: Street, hass_storage: dict[str, Any]
) -> None:
    """A crash between the two would lose what was settled."""
    entry_id = street.entry.entry_id
    trade = await street.buy()
    await street.settle(trade, 500, 500)
    await street.until(lambda: street.data.books.total().bought_wh == 1000)
    ledger = street.data.ledger
    await street.until(lambda: ledger._kept_cursor == ledger.cursor)
    lines = hass_storage[f"energy_ledger.books.{entry_id}"]["data"]["lines"]
    assert len(lines) == 2


async def test_a_line_whose_carrier_is_asked_for_outlives_a_restart(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    books: Books = street.data.books

    async def away(_: str) -> Any:
        raise UnreachableError("unreachable", "away")

    with monkeypatch.context() as patch:
        patch.setattr(street.data.client, "asset", away)
        books._take(agreed(street, "t", street.world_asset("anna pv").hex()))
        books._take(settled(street, "t", 1_790_000_100, 100, 10))
        assert await street.hass.config_entries.async_unload(street.entry.entry_id)
    assert await street.hass.config_entries.async_setup(street.entry.entry_id)
    await street.until(lambda: street.data.books.total() == Figures(sold_wh=100, earned=10))


async def test_what_a_node_tells_again_after_long_counts_once(street: Street) -> None:
    books: Books = street.data.books
    books.pages.carriers["t"] = "electricity"
    for days in (0, 20, 0):
        books._take(settled(street, "t", 1_790_000_100 + days * 86_400, 100, 10))
    assert books.total() == Figures(sold_wh=200, earned=20)
