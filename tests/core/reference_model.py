"""A naive model of the market, written from the design: slow, by single slots, with exact fractions.

It knows offers, acceptances, auctions, bookings, readings, settlement and money, and nothing of blocks,
journals or bytes. Whatever it is given has well-formed fields and comes from members with the role home.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

HOUR = 3600


def price_of(watt_hours: int, price: int) -> int:
    """Money for energy: rounded down to whole micro-currency."""
    return floor(Fraction(watt_hours * price, 1000))


@dataclass
class Thing:
    """An asset that supplies, or a meter with its connection."""

    owner: str
    meter: str
    watts: int
    store: tuple[int, int] | None = None
    """What a battery holds, and since when."""


@dataclass
class Terms:
    """What is offered or asked for."""

    author: str
    sells: bool
    thing: str | None
    reserved: bool
    """Whether the quantity is power for the whole window rather than energy."""
    quantity: int
    least: int | None
    peak: int
    start: int
    end: int
    price: int
    penalty: int
    valid: int
    audience: tuple[str, ...] | None = None
    auction: tuple[int, int, int] | None = None
    """Closes, ceiling, reserve."""
    open: int = 0


@dataclass
class Answer:
    """An acceptance: its author's own terms for an offer."""

    author: str
    offer: bytes
    thing: str | None
    quantity: int
    start: int
    end: int
    price: int
    valid: int
    turn: int = 0
    held: int = 0


@dataclass
class Deal:
    """A trade, with what is agreed for each slot (by its start)."""

    seller: str
    buyer: str
    thing: str
    seller_meter: str
    buyer_meter: str
    reserved: bool
    watts: int
    price: int
    penalty: int
    start: int
    agreed: dict[int, int]
    hold_buyer: int
    hold_seller: int
    delivered: int = 0


class Refused(Exception):
    """The model does not take something."""


@dataclass
class Model:
    """The market after some blocks."""

    slot: int
    grace: int
    limit: int
    fee: int
    ending: int
    """Per mille of the rest that ending a trade alone costs."""
    longest: int
    horizon: int
    settled: int
    now: int
    things: dict[str, Thing] = field(default_factory=dict)
    money: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    energy: dict[str, tuple[int, int]] = field(default_factory=dict)
    offers: dict[bytes, Terms] = field(default_factory=dict)
    answers: dict[bytes, Answer] = field(default_factory=dict)
    deals: dict[bytes, Deal] = field(default_factory=dict)
    booked: dict[tuple[str, str, int], int] = field(default_factory=dict)
    registers: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)
    fees: int = 0
    turns: int = 0
    lines: list[tuple[bytes, int, int | None, int | None, int, int, int]] = field(default_factory=list)
    """Trade, slot end, sent, received, delivered, paid, penalty paid."""

    # Money

    def free(self, who: str) -> int:
        return self.money.get(who, 0) + self.limit - self.held.get(who, 0)

    def pay(self, source: str, target: str, amount: int) -> None:
        self.money[source] = self.money.get(source, 0) - amount
        self.money[target] = self.money.get(target, 0) + amount

    def keep(self, who: str, amount: int) -> None:
        self.held[who] = self.held.get(who, 0) + amount

    def need(self, who: str, amount: int) -> None:
        if self.free(who) < amount:
            raise Refused("money")

    def charge(self, who: str) -> None:
        if self.fee:
            self.need(who, self.fee)
            self.money[who] = self.money.get(who, 0) - self.fee
            self.fees += self.fee

    def transfer(self, source: str, target: str, amount: int) -> None:
        self.charge(source)
        self.need(source, amount)
        self.pay(source, target, amount)

    # Power and energy

    def slots(self, start: int, end: int) -> list[int]:
        return list(range(start, end, self.slot))

    def need_power(self, name: str, direction: str, watts: int, slots: list[int]) -> None:
        for slot in slots:
            if self.booked.get((name, direction, slot), 0) + watts > self.things[name].watts:
                raise Refused("power")

    def book(self, name: str, direction: str, watts: int, slots: list[int]) -> None:
        for slot in slots:
            key = (name, direction, slot)
            self.booked[key] = self.booked.get(key, 0) + watts

    def drawn(self, deal: Deal, since: int) -> int:
        """What a deal takes from its store in slots that end after a time (whole slots)."""
        return sum(
            wh for slot, wh in deal.agreed.items() if slot + self.slot > since // self.slot * self.slot
        )

    def need_energy(self, name: str, watt_hours: int) -> None:
        store = self.things[name].store
        if store is not None:
            promised = sum(self.drawn(deal, store[1]) for deal in self.deals.values() if deal.thing == name)
            if watt_hours > store[0] - promised:
                raise Refused("energy")

    def spread(self, terms: Terms, quantity: int, start: int, end: int) -> dict[int, int]:
        """Wh of each slot: reserved power as if used in full, energy evenly; parts sum to the whole."""
        slots = self.slots(start, end)
        total = Fraction(quantity * (end - start), HOUR) if terms.reserved else Fraction(quantity)
        reached = [floor(total * count / len(slots)) for count in range(len(slots) + 1)]
        return {slot: reached[i + 1] - reached[i] for i, slot in enumerate(slots)}

    def watts(self, terms: Terms, quantity: int, start: int, end: int) -> int:
        if terms.reserved:
            return quantity
        mean = ceil(Fraction(quantity * HOUR, end - start))
        return max(mean, ceil(Fraction(terms.peak * quantity, terms.quantity)))

    def window(self, start: int, end: int) -> None:
        if start % self.slot or end % self.slot or end <= start or start < self.now:
            raise Refused("window")
        if end - start > self.longest or end > self.now + self.horizon:
            raise Refused("window")

    def rate(self, name: str, watts: int) -> None:
        """Change a rating; what is booked from now on must still fit."""
        for (thing, _, slot), used in self.booked.items():
            if thing == name and slot + self.slot > self.now and used > watts:
                raise Refused("rating")
        self.things[name].watts = watts

    # Offers and answers

    def offer(self, key: bytes, terms: Terms) -> None:
        self.charge(terms.author)
        self.window(terms.start, terms.end)
        if (terms.least or 0) > terms.quantity or terms.valid < self.now:
            raise Refused("terms")
        if terms.auction:
            closes, ceiling, reserve = terms.auction
            if not reserve <= terms.price <= ceiling:
                raise Refused("limits")
            if not self.now < closes <= min(terms.valid, terms.start):
                raise Refused("closes")
        if terms.sells:
            assert terms.thing is not None
            self.can_supply(terms, terms.thing, terms.quantity, terms.start, terms.end)
        terms.open = terms.quantity
        self.offers[key] = terms

    def can_supply(self, terms: Terms, name: str, quantity: int, start: int, end: int) -> None:
        watts = self.watts(terms, quantity, start, end)
        slots = self.slots(start, end)
        self.need_power(name, "supply", watts, slots)
        self.need_power(self.things[name].meter, "export", watts, slots)
        self.need_energy(name, sum(self.spread(terms, quantity, start, end).values()))

    def standing(self, key: bytes) -> Terms:
        terms = self.offers.get(key)
        if terms is None or self.now > terms.valid:
            raise Refused("offer")
        return terms

    def fits(self, terms: Terms, quantity: int) -> None:
        whole = quantity == terms.open
        if quantity > terms.open or (not whole and (terms.least is None or quantity < terms.least)):
            raise Refused("quantity")

    def accept(self, key: bytes, answer: Answer) -> None:
        self.charge(answer.author)
        terms = self.standing(answer.offer)
        if answer.author == terms.author or (terms.audience and answer.author not in terms.audience):
            raise Refused("party")
        self.window(answer.start, answer.end)
        self.fits(terms, answer.quantity)
        answer.turn = self.turns
        if terms.auction:
            self.bid(key, answer, terms)
        elif (answer.price, answer.start, answer.end) == (terms.price, terms.start, terms.end):
            self.bind(key, answer, terms)
        elif answer.valid < self.now:
            raise Refused("validity")
        else:
            self.answers[key] = answer

    def bid(self, key: bytes, answer: Answer, terms: Terms) -> None:
        assert terms.auction is not None
        _, ceiling, reserve = terms.auction
        if not reserve <= answer.price <= ceiling or (answer.start, answer.end) != (terms.start, terms.end):
            raise Refused("bid")
        if terms.sells:
            answer.held = self.cost(terms, answer.quantity, answer, answer.price)
            self.need(answer.author, answer.held)
            self.keep(answer.author, answer.held)
        self.answers[key] = answer

    def cost(self, terms: Terms, quantity: int, answer: Answer, price: int) -> int:
        return price_of(sum(self.spread(terms, quantity, answer.start, answer.end).values()), price)

    def bind(self, key: bytes, answer: Answer, terms: Terms) -> None:
        self.fits(terms, answer.quantity)
        mine, other = (terms.author, answer.author), (answer.author, terms.author)
        seller, buyer = mine if terms.sells else other
        name = terms.thing if terms.sells else answer.thing
        assert name is not None
        self.can_supply(terms, name, answer.quantity, answer.start, answer.end)
        watts = self.watts(terms, answer.quantity, answer.start, answer.end)
        slots = self.slots(answer.start, answer.end)
        buyer_meter = f"{buyer} meter"
        self.need_power(buyer_meter, "import", watts, slots)
        cost = self.cost(terms, answer.quantity, answer, answer.price)
        bail = self.cost(terms, answer.quantity, answer, terms.penalty)
        self.need(buyer, cost)
        self.need(seller, bail)
        self.keep(buyer, cost)
        self.keep(seller, bail)
        seller_meter = self.things[name].meter
        for place, direction in ((name, "supply"), (seller_meter, "export"), (buyer_meter, "import")):
            self.book(place, direction, watts, slots)
        agreed = self.spread(terms, answer.quantity, answer.start, answer.end)
        self.deals[key] = Deal(
            seller,
            buyer,
            name,
            seller_meter,
            buyer_meter,
            terms.reserved,
            watts,
            answer.price,
            terms.penalty,
            answer.start,
            agreed,
            cost,
            bail,
        )
        terms.open -= answer.quantity
        if not terms.open and not terms.auction:
            self.close_offer(answer.offer)

    def close_offer(self, key: bytes) -> None:
        for waiting in [k for k, answer in self.answers.items() if answer.offer == key]:
            self.drop(waiting)
        del self.offers[key]

    def drop(self, key: bytes) -> None:
        answer = self.answers.pop(key)
        self.keep(answer.author, -answer.held)

    def waiting(self, key: bytes, who: str) -> Answer:
        answer = self.answers.get(key)
        if answer is None:
            raise Refused("answer")
        terms = self.offers[answer.offer]
        if terms.author != who or terms.auction:
            raise Refused("offerer")
        return answer

    def confirm(self, key: bytes, who: str) -> None:
        answer = self.waiting(key, who)
        terms = self.standing(answer.offer)
        if self.now > answer.valid:
            raise Refused("late")
        self.window(answer.start, answer.end)
        self.bind(key, answer, terms)
        self.answers.pop(key, None)

    def reject(self, key: bytes, who: str) -> None:
        self.waiting(key, who)
        self.drop(key)

    def withdraw(self, key: bytes, who: str) -> None:
        terms, answer = self.offers.get(key), self.answers.get(key)
        if terms is not None and terms.author == who:
            self.close_offer(key)
        elif answer is not None and answer.author == who and not self.offers[answer.offer].auction:
            self.drop(key)
        else:
            raise Refused("withdrawal")

    def terminate(self, key: bytes, who: str, end: int, amount: int, *, both: bool) -> None:
        deal = self.deals.get(key)
        if deal is None or who not in (deal.seller, deal.buyer):
            raise Refused("deal")
        last = max(deal.agreed) + self.slot
        if end % self.slot or not max(deal.start, self.now) <= end < last:
            raise Refused("end")
        rest = sum(wh for slot, wh in deal.agreed.items() if slot >= end)
        if not both and amount < ceil(Fraction(price_of(rest, deal.price) * self.ending, 1000)):
            raise Refused("compensation")
        freed = (
            min(price_of(rest, deal.price), deal.hold_buyer),
            min(price_of(rest, deal.penalty), deal.hold_seller),
        )
        own = freed[0] if who == deal.buyer else freed[1]
        if self.free(who) + own < amount:
            raise Refused("money")
        self.keep(deal.buyer, -freed[0])
        self.keep(deal.seller, -freed[1])
        deal.hold_buyer -= freed[0]
        deal.hold_seller -= freed[1]
        self.pay(who, deal.seller if who == deal.buyer else deal.buyer, amount)
        gone = [slot for slot in deal.agreed if slot >= end]
        for place, direction in (
            (deal.thing, "supply"),
            (deal.seller_meter, "export"),
            (deal.buyer_meter, "import"),
        ):
            self.book(place, direction, -deal.watts, gone)
        for slot in gone:
            del deal.agreed[slot]
        if not deal.agreed:
            self.finish(key)

    # Time

    def begin(self, now: int) -> None:
        """A block begins: what has run out ends, auctions are awarded."""
        self.now = now
        due = [
            (terms.auction[0] if terms.auction else min(terms.valid, terms.start) + 1, 1, key)
            for key, terms in self.offers.items()
        ]
        due += [
            (min(answer.valid, answer.start) + 1, 2, key)
            for key, answer in self.answers.items()
            if not self.offers[answer.offer].auction
        ]
        for time, _, key in sorted(due):
            if time > now:
                continue
            if key in self.offers:
                if self.offers[key].auction:
                    self.award(key)
                self.close_offer(key)
            elif key in self.answers:
                self.drop(key)

    def award(self, offer: bytes) -> None:
        terms = self.offers[offer]
        bids = [(key, answer) for key, answer in self.answers.items() if answer.offer == offer]
        sign = -1 if terms.sells else 1
        for key, answer in sorted(bids, key=lambda bid: (sign * bid[1].price, bid[1].turn)):
            self.drop(key)
            if terms.open and self.now <= answer.start:
                try:
                    self.bind(key, answer, terms)
                except Refused:
                    continue

    def read(self, meter: str, end: int, imported: int, exported: int) -> None:
        self.registers.setdefault(meter, {})[end] = (imported, exported)

    def finish_block(self) -> None:
        """A block ends: every slot whose grace has passed is settled."""
        while self.settled + self.slot <= self.now - self.grace:
            self.settle(self.settled)
            self.settled += self.slot

    def settle(self, slot: int) -> None:
        running = {key: deal for key, deal in sorted(self.deals.items()) if slot in deal.agreed}
        agreed = {key: deal.agreed[slot] for key, deal in running.items()}
        received = self.shared(running, slot, agreed, out=False)
        drawn = {
            key: min(agreed[key], taken) if running[key].reserved and taken is not None else agreed[key]
            for key, taken in received.items()
        }
        sent = self.shared(running, slot, drawn, out=True)
        for key, deal in running.items():
            self.settle_line(key, deal, slot, sent[key], received[key])

    def shared(
        self, running: dict[bytes, Deal], slot: int, claims: dict[bytes, int], *, out: bool
    ) -> dict[bytes, int | None]:
        """Each deal's part of what its meter counted, in proportion, the largest remainders first."""
        parts: dict[bytes, int | None] = {}
        side = {key: deal.seller_meter if out else deal.buyer_meter for key, deal in running.items()}
        for meter in set(side.values()):
            keys = [key for key in running if side[key] == meter]
            known = self.registers.get(meter, {})
            if slot not in known or slot + self.slot not in known:
                parts.update(dict.fromkeys(keys))
                continue
            total = known[slot + self.slot][out] - known[slot][out]
            wanted = sum(claims[key] for key in keys)
            total = min(total, wanted)
            exact = {key: Fraction(total * claims[key], wanted or 1) for key in keys}
            given = {key: floor(exact[key]) for key in keys}
            by_rest = sorted(keys, key=lambda key: (floor(exact[key]) - exact[key], key))
            for key in by_rest[: total - sum(given.values())]:
                given[key] += 1
            parts.update(given)
        return parts

    def settle_line(self, key: bytes, deal: Deal, slot: int, sent: int | None, received: int | None) -> None:
        agreed = deal.agreed[slot]
        known = sent is not None and received is not None
        delivered = min(sent or 0, received or 0) if known else 0
        if deal.reserved:
            wanted = received or 0
            full = price_of(agreed, deal.price)
            paid = 0
            if known:
                paid = floor(full * Fraction(delivered, wanted)) if wanted else full
        else:
            wanted = agreed
            paid = price_of(delivered, deal.price)
        penalty = price_of(max(wanted - (sent or 0), 0), deal.penalty)
        self.pay(deal.buyer, deal.seller, paid)
        self.pay(deal.seller, deal.buyer, penalty)
        for who, amount, name in (
            (deal.buyer, price_of(agreed, deal.price), "hold_buyer"),
            (deal.seller, price_of(agreed, deal.penalty), "hold_seller"),
        ):
            self.keep(who, -amount)
            setattr(deal, name, getattr(deal, name) - amount)
        deal.delivered += delivered
        sold, bought = self.energy.get(deal.seller, (0, 0))
        self.energy[deal.seller] = (sold + delivered, bought)
        sold, bought = self.energy.get(deal.buyer, (0, 0))
        self.energy[deal.buyer] = (sold, bought + delivered)
        self.lines.append((key, slot + self.slot, sent, received, delivered, paid, penalty))
        if slot == max(deal.agreed):
            self.finish(key)

    def finish(self, key: bytes) -> None:
        deal = self.deals.pop(key)
        self.keep(deal.buyer, -deal.hold_buyer)
        self.keep(deal.seller, -deal.hold_seller)
        thing = self.things[deal.thing]
        if thing.store is not None:
            used = min(self.drawn(deal, thing.store[1]), deal.delivered)
            thing.store = (max(thing.store[0] - used, 0), thing.store[1])
