"""Random days of a small street: homes offer, answer, end, pay and read, sensibly and not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ledger_core.community import MoneyMode, Parameters
from ledger_core.errors import LedgerError
from ledger_core.records.acceptances import Acceptance
from ledger_core.records.block import decode_block_body
from ledger_core.records.codec import Record
from ledger_core.records.offers import Auction, Offer
from ledger_core.records.readings import Stored
from ledger_core.records.types import AssetKind, Basis, Side
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.apply import Applied
from ledger_core.rules.assemble import assemble
from tests.core.actions import (
    SLOT,
    accept,
    confirm,
    issue,
    offer,
    parameters,
    reject,
    score,
    terminate,
    transfer,
    withdraw,
)
from tests.core.forge import forge
from tests.core.world import START, World, asset_id

NAMES = ("anna", "bert", "cara")
PRICES = (0, 1, 999, 150_000, 200_000, 333_333)


def life_parameters(random: Random) -> Parameters:
    """Parameters that make corners likely: little credit, fees, short grace, penalties for leaving."""
    return parameters(
        money_mode=random.choice([MoneyMode.MUTUAL_CREDIT, MoneyMode.PREPAID]),
        credit_limit=random.choice([300_000, 3_000_000, 50_000_000]),
        fee=random.choice([0, 0, 777]),
        grace_s=random.choice([0, 900, 1800, 1800]),
        termination_permille=random.choice([0, 333, 1000]),
        loss_wh=random.choice([0, 20]),
    )


@dataclass
class Step:
    """What was tried for one block, and what became of it."""

    time: int
    tried: list[Record]
    refused: dict[bytes, LedgerError]
    applied: Applied


@dataclass
class Street:
    """The street, and what its homes remember."""

    random: Random
    voting: bool = False
    """Whether the nodes vote, some of them now and then."""
    world: World = field(init=False)
    offers: list[Record] = field(default_factory=list)
    answers: list[Record] = field(default_factory=list)
    registers: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = self.random
        self.world = world = World(NAMES, life_parameters(random))
        world.mine(*(world.meter_record(name, random.choice([4_000, 9_000])) for name in NAMES))
        world.mine(
            *(world.asset_record(name, rating_w=random.choice([3_000, 8_000])) for name in NAMES),
            world.asset_record(
                "anna",
                "battery",
                AssetKind.BATTERY,
                5_000,
                energy_wh=random.choice([0, 4_000]),
                capacity_wh=9_000,
            ),
        )
        if world.genesis.parameters.money_mode is MoneyMode.PREPAID:
            world.mine(
                *(issue(world, name, random.choice([500_000, 9_000_000])) for name in ("bert", "cara"))
            )

    # What a home may do

    def person(self) -> str:
        return self.random.choice(NAMES)

    def supplier(self, name: str) -> bytes:
        kind = "battery" if name == "anna" and self.random.random() < 0.4 else "pv"
        return asset_id(f"{name} {kind}")

    def window(self) -> tuple[int, int]:
        first = (self.world.now // SLOT + self.random.choice([0, 1, 1, 2, 2, 3])) * SLOT
        return first, first + self.random.choice([1, 1, 2, 3, 4]) * SLOT

    def make_offer(self) -> Record:
        random, name = self.random, self.person()
        start, end = self.window()
        side = random.choice([Side.SELL, Side.SELL, Side.BUY])
        quantity = random.choice([1, 7, 300, 1_000, 2_500, 6_000])
        price = random.choice(PRICES)
        auction = None
        if random.random() < 0.3:
            closes = random.choice([start, start, start - 300, self.world.now + 400])
            auction = Auction(closes, max(price, 300_000), min(price, 100_000))
        made = offer(
            self.world,
            name,
            side=side,
            asset=self.supplier(name) if side is Side.SELL else None,
            basis=random.choice([Basis.ENERGY, Basis.ENERGY, Basis.CAPACITY]),
            quantity=quantity,
            min_quantity=random.choice([None, 1, 1, quantity // 2 + 1]),
            max_w=random.choice([0, 0, 2_000]),
            start=start,
            end=end,
            price=price,
            shortfall_price=random.choice([0, 0, 77_777]),
            audience=random.choice([None, None, None, (self.world[self.person()].id,)]),
            valid_until=random.choice([start, start, start, start - 300, end]),
            auction=auction,
        )
        self.offers.append(made)
        return made

    def make_answer(self) -> Record | None:
        random = self.random
        if not self.offers:
            return None
        live = [known for known in self.offers if known.id in self.world.state.offers]
        target, name = random.choice(live if live and random.random() < 0.9 else self.offers), self.person()
        body = target.body
        assert isinstance(body, Offer)
        if random.random() < 0.9:
            name = random.choice([other for other in NAMES if self.world[other].id != body.author])
        start, end, price = body.start, body.end, body.price
        if body.auction is not None:
            price = random.choice([price, body.auction.reserve, 200_000, 250_000, body.auction.ceiling])
        elif random.random() < 0.35:
            price = random.choice(PRICES)
        if random.random() < 0.1:
            end = start + random.choice([1, 2]) * SLOT
        made = accept(
            self.world,
            name,
            target,
            asset=None if body.side is Side.SELL else self.supplier(name),
            quantity=random.choice([body.quantity, body.quantity, body.quantity // 2 + 1, 1]),
            start=start,
            end=end,
            price=price,
            valid_until=random.choice([start, start - 600]),
        )
        self.answers.append(made)
        return made

    def make_reply(self) -> Record | None:
        if not self.answers:
            return None
        waiting, offers = self.world.state.waiting, self.world.state.offers
        open_ones = [known for known in self.answers if known.id in waiting]
        terms = [known for known in open_ones if offers[waiting[known.id].offer].auction is None]
        target = self.random.choice((self.random.random() < 0.9 and terms) or open_ones or self.answers)
        body = target.body
        assert isinstance(body, Acceptance)
        offerer = next((known.body.author for known in self.offers if known.id == body.offer), b"")
        names = [name for name in NAMES if self.world[name].id == offerer] or [self.person()]
        name = names[0] if self.random.random() < 0.9 else self.person()
        reply: Callable[[World, str, Record], Record] = self.random.choice([confirm, reject])
        return reply(self.world, name, target)

    def make_withdrawal(self) -> Record | None:
        known = self.offers[-4:] + self.answers[-4:]
        if not known:
            return None
        target = self.random.choice(known)
        author = next(name for name in NAMES if self.world[name].id == target.body.author)
        return withdraw(self.world, author if self.random.random() < 0.7 else self.person(), target)

    def make_termination(self) -> Record | None:
        random, state = self.random, self.world.state
        running = [known for known in self.answers if known.id in state.trades]
        if not running:
            return None
        trade = random.choice(running)
        row = state.trades[trade.id]
        sides = [name for name in NAMES if self.world[name].id in (row.seller, row.buyer)]
        name = random.choice(sides) if random.random() < 0.9 else self.person()
        other = [side for side in sides if side != name] if random.random() < 0.5 else []
        end = row.start + random.randrange(0, (row.end - row.start) // SLOT + 1) * SLOT
        return terminate(self.world, name, trade, end, random.choice([0, 20_000, 900_000]), *other)

    def make_transfer(self) -> Record:
        source, target = self.random.sample(NAMES, 2)
        return transfer(self.world, source, target, self.random.choice([1, 1_000, 400_000, 5_000_000]))

    def make_score(self) -> Record | None:
        closed = [known for known in self.answers if known.id in self.world.state.closed]
        return score(self.world, self.person(), self.random.choice(closed), 5) if closed else None

    def make_rating(self) -> Record:
        name = self.person()
        known = self.world.state.assets[asset_id(f"{name} pv")].record
        watts = self.random.choice([0, 500, 3_000, 8_000])
        return self.world.asset_record(name, rating_w=watts, supersedes=known)

    def make_reading(self) -> Record:
        """Some of the boundaries up to now; registers are always those of the same, growing truth."""
        random, name = self.random, self.person()
        last = self.world.now // SLOT * SLOT
        ends = [last - back * SLOT for back in (4, 3, 2, 1, 0) if not back or random.random() < 0.8]
        rows = [(end, *self.truth(name, end)) for end in ends if end >= START - SLOT]
        stored = []
        if name == "anna" and random.random() < 0.4:
            stored = [Stored(asset_id("anna battery"), random.choice([0, 1_500, 6_000]), None)]
        return self.world.reading(name, rows or [(last, *self.truth(name, last))], stored)

    def truth(self, name: str, end: int) -> tuple[int, int]:
        """A meter's registers at a boundary: (import, export)."""
        first = START - SLOT
        if end <= first:
            return 50_000, 70_000
        known = self.registers.get((name, end))
        if known is None:
            before = self.truth(name, end - SLOT)
            random = Random(f"{name} {end}")
            rise = (random.choice([0, 1, 100, 500, 700, 900]), random.choice([0, 3, 250, 500, 600, 900]))
            known = self.registers[name, end] = (before[0] + rise[0], before[1] + rise[1])
        return known

    def records(self) -> list[Record]:
        makers: list[Callable[[], Record | None]] = [
            *[self.make_offer] * 5,
            *[self.make_answer] * 8,
            *[self.make_reply] * 4,
            self.make_withdrawal,
            self.make_termination,
            self.make_transfer,
            self.make_score,
            self.make_rating,
        ]
        made = [self.random.choice(makers)() for _ in range(self.random.randrange(6))]
        readings = [self.make_reading() for _ in range(self.random.randrange(4))]
        return [record for record in made if record is not None] + readings

    def step(self) -> Step:
        """Try some records in one block, and apply it with those that the rules take."""
        world = self.world
        time = world.now + self.random.choice([30, 30, 60, 200, 300, 450, 900])
        tried = self.records()
        bundles = self.votes() if self.voting else ()
        template = assemble(world.state, tried, bundles, world["anna"].node.public_key, time)
        refused = {record.id: error for record, error in template.refused}
        kept = decode_block_body(template.body).votes
        taken = [record for record in tried if record.id not in refused]
        block = forge(world, taken, kept, step=time - world.now)
        world.now = time
        return Step(time, tried, refused, world.apply(block))

    def votes(self) -> tuple[VoteBundle, ...]:
        """Votes of some nodes from the justified checkpoint for the latest one."""
        tip, checkpoints = self.world.state.tip, self.world.state.checkpoints
        target = max(checkpoints)
        if target <= tip.justified:
            return ()
        names = [name for name in NAMES if self.random.random() < 0.8]
        return self.world.votes(tip.justified, target, names) if names else ()
