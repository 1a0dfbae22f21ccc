"""Synthetic chains: valid, decided by the seed alone, with the whole mix, and nothing refused by accident."""

import os
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from hashlib import sha512
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger_core.errors import LedgerError
from ledger_core.records.block import decode_header
from ledger_core.records.codec import kinds
from ledger_core.records.readings import ReadingRow
from ledger_core.records.types import AssetKind
from ledger_core.rules.apply import apply_block
from ledger_core.rules.difficulty import expand_target, work_of
from ledger_core.rules.finality import votes_in
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.state import State
from ledger_core.synthetic import Config, GeneratedBlock, SyntheticChain
from ledger_core.synthetic.agenda import Agenda
from ledger_core.synthetic.chance import Chance
from ledger_core.synthetic.config import DEFAULT_START
from ledger_core.synthetic.home import Home, Promised
from ledger_core.synthetic.weather import DAY, Weather

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3600
DECLINED = {
    "power_unavailable",
    "connection_full",
    "energy_unavailable",
    "quantity_exceeds_open",
    "funds_insufficient",
}
"""What a home's own node may tell it: somebody else was faster, or there is not enough of something."""


def made(**fields: Any) -> SyntheticChain:
    values: dict[str, Any] = {"homes": 6, "duration_s": 8 * HOUR, "seed": 7}
    return SyntheticChain(Config(**{**values, **fields}))


def replay(chain: SyntheticChain, blocks: Iterable[GeneratedBlock]) -> State:
    """Take the main branch as a stranger does: every form checked, every signature verified."""
    state = genesis_state(chain.genesis)
    for item in blocks:
        if not item.side:
            nodes = {index: node.key for index, node in state.nodes.items()}
            prepared = prepare_block(item.block, chain.genesis, state.chain_id, nodes)
            apply_block(state, prepared, item.time)
    return state


def test_a_stranger_takes_every_block() -> None:
    chain = made(reorg_blocks=40)
    blocks = list(chain.blocks())
    state = replay(chain, blocks)
    assert state.tip.hash == chain.state.tip.hash
    assert state.hash() == chain.state.hash()
    assert chain.tally.blocks == sum(not item.side for item in blocks) == state.tip.height
    assert chain.tally.side_blocks == sum(item.side for item in blocks) > 0
    assert state.tip.final >= state.tip.height - 3 * chain.config.checkpoint_interval


def test_nothing_is_refused_but_what_comes_late_on_purpose() -> None:
    chain = made(homes=16, duration_s=DAY)
    for _ in chain.blocks():
        pass
    tally = chain.tally
    assert tally.refused == tally.meant
    assert sum(tally.meant.values()) > 0
    assert {code for _, code in tally.meant} == {"offer_unknown"}
    assert {code for _, code in tally.declined} <= DECLINED
    assert sum(tally.declined.values()) * 20 < sum(tally.records.values())


def test_a_day_holds_the_whole_mix() -> None:
    chain = made(homes=12, duration_s=DAY, seed=2)
    for _ in chain.blocks():
        pass
    tally = chain.tally
    in_blocks = {kind.KIND for kind in kinds()} - {"vote", "evidence"}
    assert set(tally.records) == in_blocks
    assert {
        "trade_agreed: posted",
        "trade_agreed: posted, part",
        "trade_agreed: auction",
        "acceptance_ended: awarded",
        "acceptance_ended: lost",
        "acceptance_ended: rejected",
        "offer_closed: withdrawn",
        "offer_closed: expired",
        "offer_closed: auctioned",
        "trade_terminated",
        "trade_closed",
        "slot_settled",
        "slot_settled: disputed",
        "slot_settled: reading missing",
        "checkpoint_justified",
        "checkpoint_final",
    } <= set(tally.events)
    assert tally.events["trade_agreed: countered"] + tally.events["trade_agreed: countered, part"] > 0
    assert tally.reorganisations > 0
    # A meter without trades tells eight slots at once, so there are more boundaries than records.
    assert tally.reading_rows > 12 * 80
    assert tally.reading_rows > 2 * tally.records["reading"]
    settled = sum(count for name, count in tally.events.items() if name.startswith("slot_settled"))
    assert tally.events["slot_settled: reading missing"] * 5 < settled
    assert {asset.kind for asset in chain.state.assets.values()} == {
        AssetKind.METER,
        AssetKind.LOAD,
        AssetKind.PV,
        AssetKind.BATTERY,
        AssetKind.FUEL_CELL,
    }


def test_money_sums_to_zero_and_energy_matches() -> None:
    chain = made(duration_s=DAY)
    for _ in chain.blocks():
        pass
    state = chain.state
    balances = sum(row.balance for row in state.accounts.values())
    assert balances + sum(row.amount for row in state.fees.values()) == 0
    assert any(row.balance for row in state.accounts.values())
    sold, bought = (
        sum(getattr(row, name) for row in state.energy.values()) for name in ("sold_wh", "bought_wh")
    )
    assert sold == bought > 0


def test_a_side_branch_comes_first_and_loses() -> None:
    """Delivered in this order, a node stands on the side branch until the last block of the main one."""
    chain = made(reorg_blocks=30, duration_s=4 * HOUR)
    blocks = list(chain.blocks())
    heights = {decode_header(item.block.header).previous: item for item in blocks if not item.side}
    work: dict[bytes, int] = {chain.genesis.chain_id: 0}
    best, reorganisations = chain.genesis.chain_id, 0
    for item in blocks:
        header = decode_header(item.block.header)
        target = expand_target(header.target)
        assert target is not None
        work[item.block.hash] = work[header.previous] + work_of(target)
        if work[item.block.hash] > work[best]:
            reorganisations += header.previous != best
            best = item.block.hash
    assert best == chain.state.tip.hash
    assert reorganisations == chain.tally.reorganisations > 1
    assert all(decode_header(item.block.header).previous in heights or item.side for item in blocks)


@pytest.mark.parametrize(
    "fields",
    [
        {"homes": 2, "duration_s": 2 * HOUR},
        {"slot_s": 60, "duration_s": HOUR, "homes": 8},
        {"block_spacing_s": 300, "checkpoint_interval": 4, "duration_s": 12 * HOUR},
        {"min_difficulty_bits": 4, "checkpoint_interval": 2, "duration_s": HOUR},
        {"slot_s": 3600, "reading_batch": 1, "reorg_blocks": 0},
    ],
    ids=["two homes", "slots of a minute", "slow blocks", "more work", "slots of an hour"],
)
def test_other_streets_are_valid_as_well(fields: dict[str, Any]) -> None:
    chain = made(**fields)
    state = replay(chain, chain.blocks())
    assert state.hash() == chain.state.hash()
    assert chain.tally.refused == chain.tally.meant
    assert state.tip.final > 0


def test_block_times_follow_the_spacing() -> None:
    chain = made(homes=2, duration_s=DAY)
    times = [chain.config.start] + [item.time for item in chain.blocks() if not item.side]
    gaps = [after - before for before, after in pairwise(times)]
    assert 28 <= sum(gaps) / len(gaps) <= 32
    assert min(gaps) == 1
    assert max(gaps) > 100


def test_votes_are_counted_by_link() -> None:
    chain = made(homes=9, duration_s=3 * HOUR)
    state = genesis_state(chain.genesis)
    votes, signatures = 0, 0
    for item in chain.blocks():
        if item.side:
            continue
        nodes = {index: node.key for index, node in state.nodes.items()}
        prepared = prepare_block(item.block, chain.genesis, state.chain_id, nodes)
        apply_block(state, prepared, item.time)
        signatures += len(prepared.checks)
        for bundle in prepared.bundles:
            assert item.height >= bundle.target_height + 3
            votes += sum(1 for _ in votes_in(bundle))
    assert votes == chain.tally.votes > 0
    assert signatures == chain.tally.signatures


TELL = """
from ledger_core.synthetic import Config, SyntheticChain
chain = SyntheticChain(Config(homes=5, duration_s=6 * 3600, seed=3))
for _ in chain.blocks(): pass
print(chain.state.tip.hash.hex(), chain.state.hash().hex())
"""


def test_the_seed_alone_decides() -> None:
    """Two processes that order sets and dicts of strings differently make the same chain."""
    tips = [
        subprocess.run(
            [sys.executable, "-c", TELL],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert tips[0] == tips[1]
    assert len(tips[0].split()) == 2


def test_another_seed_gives_another_chain() -> None:
    genesis_ids = {made(seed=seed).genesis.chain_id for seed in range(3)}
    assert len(genesis_ids) == 3


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"homes": 1}, "synthetic_config", "homes"),
        ({"homes": 100_000}, "synthetic_config", "homes"),
        ({"duration_s": 5}, "synthetic_config", "duration_s"),
        ({"seed": -1}, "synthetic_config", "seed"),
        ({"seed": 2**64}, "synthetic_config", "seed"),
        ({"reading_batch": 0}, "synthetic_config", "reading_batch"),
        ({"reading_batch": 97}, "synthetic_config", "reading_batch"),
        ({"reorg_blocks": -1}, "synthetic_config", "reorg_blocks"),
        ({"start": DEFAULT_START + 1}, "synthetic_config", "start"),
        ({"slot_s": 30}, "parameter_invalid", "slot_s"),
        ({"slot_s": 7_000}, "genesis_invalid", "slot_s"),
        ({"min_difficulty_bits": 0}, "parameter_invalid", "min_difficulty_bits"),
        ({"checkpoint_interval": 1}, "parameter_invalid", "checkpoint_interval"),
        ({"block_spacing_s": 0}, "parameter_invalid", "block_spacing_s"),
    ],
)
def test_what_no_street_can_be_is_named(fields: dict[str, Any], code: str, named: str) -> None:
    start = DEFAULT_START - DEFAULT_START % max(fields.get("slot_s", 900), 1)
    with pytest.raises(LedgerError) as refusal:
        made(**{"start": start, **fields})
    assert refusal.value.code == code
    assert named in refusal.value.message
    assert refusal.value.details["field"] == named


def test_chance_depends_on_its_key_and_names_alone() -> None:
    first, again = Chance(b"key"), Chance(b"key")
    assert [first.word() for _ in range(20)] == [again.word() for _ in range(20)]
    assert first.child("a", 1).word() == again.child("a", 1).word()
    assert first.child("a", 1).word() != first.child("a", 2).word()
    assert Chance(b"key").word() == int.from_bytes(sha512(b"key" + bytes(8)).digest()[-8:])


def test_chance_is_fair_enough() -> None:
    chance = Chance(b"dice")
    counts = [0] * 6
    for _ in range(6000):
        counts[chance.below(6)] += 1
    assert all(900 < count < 1100 for count in counts)
    assert {chance.between(3, 5) for _ in range(100)} == {3, 4, 5}
    assert 200 < sum(chance.permille(300) for _ in range(1000)) < 400
    assert sorted(chance.some([1, 2, 3], 5)) == [1, 2, 3]
    assert len(set(chance.some(list(range(10)), 4))) == 4
    assert len(chance.octets(13)) == 13


def test_agenda_keeps_the_order_of_plans() -> None:
    agenda: Agenda[list[str]] = Agenda()
    seen: list[str] = []

    def write(name: str, into: list[str]) -> None:
        into.append(name)

    for time, name in ((20, "c"), (10, "a"), (10, "b")):
        agenda.at(time, partial(write, name))
    assert agenda.due(9) is None
    while (item := agenda.due(10)) is not None:
        item[1](seen)
    assert seen == ["a", "b"]
    assert agenda.due(20) is not None


def test_sun_rises_and_sets() -> None:
    weather = Weather(Chance(b"sky"))
    midsummer = 171 * DAY
    noon = DAY // 2
    assert weather.sun(midsummer + noon) > 950
    assert weather.sun(midsummer + 182 * DAY + noon) < 600
    assert weather.sun(midsummer) == 0
    assert weather.sun(midsummer + 6 * HOUR) > weather.sun(midsummer + 182 * DAY + 6 * HOUR) == 0
    assert 250 <= weather.clear(midsummer) <= 1000


def test_a_home_balances_its_energy() -> None:
    """Whatever flows: registers never fall, stores keep their bounds, sales come out of the store."""
    home = Home(0, Chance(b"home"), Weather(Chance(b"sky")))
    battery = home.stores[0]
    assert battery.kind is AssetKind.BATTERY
    slots = range(DEFAULT_START + 900, DEFAULT_START + 3 * DAY, 900)
    for end in slots:
        asked = Promised(stores_w={battery.asset: 1500}, traded=True) if end % DAY > 20 * HOUR else Promised()
        home.run(end, 900, asked)
        assert 0 <= battery.energy_wh <= battery.capacity_wh
    rows: list[ReadingRow] = home.unpublished
    assert [row.end for row in rows] == list(slots)
    for before, after in pairwise(rows):
        assert before.import_wh <= after.import_wh
        assert before.export_wh <= after.export_wh
    night = [row for row in rows if row.end % DAY > 20 * HOUR]
    assert night[-1].export_wh > night[0].export_wh
