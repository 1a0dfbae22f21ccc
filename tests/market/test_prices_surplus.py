"""Price formation and the arithmetic of surplus, in plain figures."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger_core.market.prices import Market, PriceRule, asking_price, distance_m
from ledger_core.market.surplus import (
    Origin,
    SlotForecast,
    StoreNow,
    Threshold,
    balance,
)

SLOT = 900


def test_a_price_is_its_parts() -> None:
    rule = PriceRule(scarcity_permille=500, demand_permille=200, per_km=10_000, same_feeder=-5_000)
    market = Market(
        left_wh=2_500, full_wh=10_000, asked_wh=1500, offered_wh=1000, distance_m=1500, same_feeder=True
    )
    parts = asking_price(200_000, rule, market)
    assert (parts.scarcity, parts.demand, parts.distance) == (75_000, 20_000, 10_000)
    assert parts.price == 305_000
    assert parts.limited is None


def test_scarcity_and_demand_have_ends() -> None:
    rule = PriceRule(scarcity_permille=500, demand_permille=200)
    empty = asking_price(200_000, rule, Market(left_wh=-50, full_wh=10_000, asked_wh=9000))
    assert (empty.scarcity, empty.demand) == (100_000, 40_000)
    full = asking_price(200_000, rule, Market(left_wh=20_000, full_wh=10_000, offered_wh=9000))
    assert (full.scarcity, full.demand) == (0, -40_000)
    assert asking_price(200_000, rule, Market()).price == 200_000


def test_floor_and_ceiling_decide_and_say_so() -> None:
    low = asking_price(100_000, PriceRule(floor=150_000, ceiling=300_000), Market())
    assert (low.price, low.limited) == (150_000, "floor")
    high = asking_price(400_000, PriceRule(floor=150_000, ceiling=300_000), Market())
    assert (high.price, high.limited) == (300_000, "ceiling")
    near = asking_price(100, PriceRule(same_feeder=-500), Market(same_feeder=True))
    assert near.price == 0


def test_distances() -> None:
    assert distance_m((48_137_000, 11_575_000), (48_137_000, 11_575_000)) == 0
    assert abs(distance_m((48_137_000, 11_575_000), (48_146_000, 11_575_000)) - 1001) <= 1
    assert abs(distance_m((48_137_000, 11_575_000), (48_137_000, 11_585_000)) - 743) <= 10
    assert distance_m((-89_000_000, 0), (-89_001_000, 0)) > 0


def slots(*figures: tuple[int, int, int]) -> list[SlotForecast]:
    return [
        SlotForecast(start=n * SLOT, generation_wh=g, load_wh=c, sold_wh=s)
        for n, (g, c, s) in enumerate(figures)
    ]


BATTERY = StoreNow(held_wh=6000, capacity_wh=10_000, reserve_wh=2000, max_w=4000)


def test_the_sun_covers_the_home_first_and_sales_come_off() -> None:
    plan = balance(slots((800, 300, 0), (800, 300, 400), (100, 300, 0)), None, SLOT)
    assert [slot.direct_wh for slot in plan.slots] == [500, 100, 0]
    assert [slot.need_wh for slot in plan.slots] == [0, 0, 200]
    assert plan.surplus_between(0, 1800) == 600
    assert plan.need_between(900, 2700) == 200
    assert plan.at(900) == plan.slots[1]
    assert plan.at(5) is None


def test_a_store_gives_what_is_above_reserve_and_own_need() -> None:
    plan = balance(slots((0, 500, 0), (0, 500, 0), (3000, 500, 0)), BATTERY, SLOT)
    store = plan.store
    assert store is not None
    assert (store.for_home_wh, store.free_wh) == (1000, 3000)
    assert [plan.surplus_between(n * SLOT, n * SLOT + 1) for n in range(2)] == [1000, 1000], "by its power"
    assert plan.surplus_between(0, 2 * SLOT) == 2000
    assert plan.surplus_between(0, 3 * SLOT) == 3000 + 2500
    assert [slot.need_wh for slot in plan.slots] == [0, 0, 0], "the home draws on its store"


def test_a_store_sells_once() -> None:
    plan = balance(slots((0, 0, 1000), (0, 0, 1000), (0, 0, 0)), BATTERY, SLOT)
    assert plan.store is not None
    assert (plan.store.outstanding_wh, plan.store.free_wh) == (2000, 2000)
    assert [slot.room_wh for slot in plan.slots] == [0, 0, 1000], "its power is sold already"


def test_what_a_store_has_free_can_be_sold_in_any_slot_but_once() -> None:
    low = replace(BATTERY, held_wh=2500)
    plan = balance(slots((0, 0, 0), (0, 0, 0), (300, 0, 0)), low, SLOT)
    assert [plan.surplus_between(n * SLOT, (n + 1) * SLOT) for n in range(3)] == [500, 500, 800]
    later = plan.without(SLOT, 2 * SLOT, 400)
    assert [later.surplus_between(n * SLOT, (n + 1) * SLOT) for n in range(3)] == [100, 100, 400]
    sun_first = plan.without(2 * SLOT, 3 * SLOT, 250)
    assert [sun_first.surplus_between(n * SLOT, (n + 1) * SLOT) for n in range(3)] == [500, 500, 550]
    assert plan.without(0, SLOT, 10_000).surplus_between(0, 3 * SLOT) == 300


def test_what_the_grid_gave_is_not_sold_again() -> None:
    grid = StoreNow(held_wh=6000, capacity_wh=10_000, reserve_wh=2000, max_w=40_000, own_permille=500)
    plan = balance(slots((0, 0, 0)), grid, SLOT)
    assert plan.store is not None
    assert (plan.store.bought_from_grid_wh, plan.store.free_wh) == (3000, 1000)
    served = balance(slots((0, 3500, 0)), grid, SLOT)
    assert served.store is not None
    assert served.store.free_wh == 500, "what the grid gave serves the home first"


def test_a_store_at_its_reserve_sells_nothing() -> None:
    low = StoreNow(held_wh=1500, capacity_wh=10_000, reserve_wh=2000, max_w=4000, keeps_for_home=False)
    assert balance(slots((0, 400, 0)), low, SLOT).surplus_between(0, SLOT) == 0


def test_hysteresis() -> None:
    threshold = Threshold(500, 300)
    on = False
    states = [on := threshold.step(on, value) for value in (499, 500, 301, 300, 299, 400)]
    assert states == [False, True, True, True, False, False]


def test_origin_follows_what_came_from_where() -> None:
    content = Origin(own_wh=4000)
    content = content.follow(5000, 600)
    assert (content.own_wh, content.grid_wh, content.own_permille) == (4400, 600, 880)
    content = content.follow(2500, 0)
    assert (content.own_wh, content.grid_wh) == (2200, 300)
    assert Origin().own_permille == 1000


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 800)), min_size=1, max_size=12
    ),
    st.integers(0, 10_000),
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 11), st.integers(1, 12), st.integers(0, 5000)), max_size=6),
)
def test_no_energy_is_promised_twice(
    figures: list[tuple[int, int, int]], held: int, own_permille: int, sales: list[tuple[int, int, int]]
) -> None:
    store = StoreNow(held_wh=held, capacity_wh=10_000, reserve_wh=2000, max_w=4000, own_permille=own_permille)
    plan = balance(slots(*figures), store, SLOT)
    assert plan.store is not None
    assert plan.store.free_wh <= max(held - 2000, 0)
    for slot, (generation, load, sold) in zip(plan.slots, figures, strict=True):
        assert slot.direct_wh == max(generation - load - sold, 0)
        assert 0 <= slot.room_wh <= 1000
        assert not (slot.need_wh and generation >= load)
    end = len(figures) * SLOT
    all_at_first, promised = plan.surplus_between(0, end), 0
    for first, count, wish in sales:
        window = (first * SLOT, (first + count) * SLOT)
        sold_wh = min(wish, plan.surplus_between(*window))
        promised += sold_wh
        before, plan = plan, plan.without(*window, sold_wh)
        assert plan.surplus_between(*window) == before.surplus_between(*window) - sold_wh
    assert promised + plan.surplus_between(0, end) <= all_at_first
