"""What follows on trades: early ends, scores, payments between neighbours."""

from functools import partial

from ledger_core.keys import Signer
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.trades import Score, Termination
from ledger_core.rules.availability import outstanding_after
from ledger_core.rules.events import TradeAgreed, TradeClosed
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.street import Street
from ledger_core.synthetic.weather import DAY
from ledger_core.units import MICRO, amount

TERMINATES_PERMILLE = 60
TOGETHER_PERMILLE = 600
SCORES_PERMILLE = 200
PRESENTS_PERMILLE = 150
RICH = 3 * MICRO
GIFT = MICRO // 4


class Aftermath:
    """Reacts to trades that were agreed and closed, and squares accounts once a day."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._chance = street.chance.child("aftermath")

    def start(self, home: Home, time: int) -> None:
        """Have a home look at its account every evening."""
        evening = time - time % DAY + 20 * 3600 + home.index
        self._street.agenda.at(evening if evening > time else evening + DAY, partial(self._square, home))

    def on_agreed(self, event: TradeAgreed, time: int) -> None:
        """Plan that a trade now and then ends before it is through."""
        if self._chance.permille(self._street.config.eager(TERMINATES_PERMILLE)):
            by, other = event.seller, event.buyer
            if self._chance.permille(500):
                by, other = other, by
            when = self._chance.between(time + 1, max(event.end - self._street.slot_s, time + 1))
            action = partial(self._terminate, self._street.by_id[by], self._street.by_id[other], event.trade)
            self._street.agenda.at(when, action)

    def _terminate(self, home: Home, other: Home, trade_id: bytes, desk: Desk) -> None:
        trade = desk.state.trades.get(trade_id)
        if trade is None:
            return
        slot = self._street.slot_s
        ends = range(max(trade.start, self._street.boundary_after(desk.time)), trade.end, slot)
        if not ends:
            return
        end = self._chance.pick(ends)
        remaining = amount(outstanding_after(trade, end, slot), trade.price)
        together = self._chance.permille(TOGETHER_PERMILLE)
        cosigners: tuple[Signer, ...] = (other.key,) if together else ()
        record = self._street.record(
            desk,
            home,
            Termination,
            *cosigners,
            trade=trade_id,
            end=end,
            compensation=remaining // 10 if together else remaining,
        )
        desk.submit(record)

    def on_closed(self, event: TradeClosed, time: int) -> None:
        """Have one side or both give a score now and then."""
        permille = 1000 * event.delivered_wh // (event.delivered_wh + 200)
        for key in (event.seller, event.buyer):
            if self._chance.permille(SCORES_PERMILLE):
                delay = self._chance.between(1, 6 * 3600)
                action = partial(self._score, self._street.by_id[key], event.trade, permille // 100)
                self._street.agenda.at(time + delay, action)

    def _score(self, home: Home, trade_id: bytes, score: int, desk: Desk) -> None:
        if trade_id in desk.state.closed:
            desk.submit(self._street.record(desk, home, Score, trade=trade_id, score=score))

    def _square(self, home: Home, desk: Desk) -> None:
        """Pay some of a plus to the neighbour deepest in the minus, or now and then a little present."""
        accounts = desk.state.accounts
        row = accounts.get(home.id)
        others = sorted(other.id for other in self._street.live if other is not home)
        if others and row is not None and row.balance > RICH:
            poorest = min(others, key=lambda key: (accounts[key].balance if key in accounts else 0, key))
            self._pay(home, desk, poorest, row.balance // 2)
        elif others and self._chance.permille(self._street.config.eager(PRESENTS_PERMILLE)):
            self._pay(home, desk, self._chance.pick(others), GIFT)
        self._street.agenda.at(desk.now + DAY, partial(self._square, home))

    def _pay(self, home: Home, desk: Desk, to: bytes, amount_micro: int) -> None:
        desk.submit(
            self._street.record(
                desk, home, Transfer, kind=TransferKind.PAY, to=to, amount=amount_micro, reference=None
            )
        )
