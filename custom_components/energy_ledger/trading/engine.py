"""Trading of one home: looks at everything when something changes, and has every rule do its part."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.storage import Store

from ledger_core.client import ClientError
from ledger_core.client.views import EventView
from ledger_core.errors import LedgerError
from ledger_core.market.pace import Pace
from ledger_core.market.surplus import Balance, SlotForecast
from ledger_core.market.terms import Standing

from ..const import DOMAIN, SUBENTRY_BUY, SUBENTRY_SELL, issue_id
from ..data import EnergyLedgerEntry
from ..devices.tasks import end_tasks
from ..trading_settings import Limits
from . import clock as clocks
from .buy_desk import BuyDesk
from .context import Desk
from .forecast import Forecaster
from .gate import DeliveryGate
from .gate import async_remove_storage as remove_gate
from .gate_model import End
from .handing_back import PATIENCE_S, HandingBack
from .house import grid_now, meter_of
from .loads import Loads
from .metering import Metering
from .metering import async_remove_storage as remove_metering
from .notebook import Notebook
from .rule_config import RuleProblem, buy_rule, sell_rule
from .rule_state import Decided, RuleState, RuleStatus
from .sell_desk import SellDesk, withdraw
from .statements import Statements
from .supply import follow_origins, home_plan, supply_of, tank_plan

_LOGGER = logging.getLogger(__name__)

LOOK_S: Final = 30.0
"""At the latest so often everything is looked at."""
GATHER_S: Final = 0.3
"""What comes together leads to one look."""
STANDINGS_S: Final = 300
HORIZON_SLOTS: Final = 96
ISSUE_RULE: Final = "rule_paused"
_TELLING: Final = frozenset(
    {
        *("offer_opened", "offer_closed", "acceptance_waits", "acceptance_ended", "resync"),
        *("record_contested", "record_lost"),
        *("trade_agreed", "trade_terminated", "trade_closed", "block_undone"),
    }
)
_TRANSIENT: Final = frozenset(
    {
        *("device_away", "entity_unavailable", "asset_not_registered", "consumption_unknown"),
        *("level_unknown", "meter_away", "readings_refused"),
    }
)
"""Why a rule may pause for a while without anybody having to do something about the rule."""


class TradingEngine:
    """The trading of one config entry; `data.trading`."""

    def __init__(
        self, hass: HomeAssistant, entry: EnergyLedgerEntry, *, clock: clocks.Clock | None = None
    ) -> None:
        """Make everything ready; nothing happens before `async_start`."""
        self._hass = hass
        self._entry = entry
        self._clock = clock or clocks.now
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.rules.{entry.entry_id}")
        self._desk = Desk(hass, entry, Notebook(), self._on_decided)
        self._desks: dict[str, SellDesk | BuyDesk] = {}
        self._listeners: list[Callable[[], None]] = []
        self._decision_listeners: list[Callable[[Decided], None]] = []
        self._unsubscribe: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._pace_known = False
        self._standings_at = 0
        self._stopped = False
        self.rules: dict[str, RuleState] = {}
        """By subentry id."""
        self.forecaster = Forecaster(hass, entry)
        self.gate = DeliveryGate(hass, entry, clock=clock)
        self.loads = Loads(hass, entry, self.gate, self._desk.notebook, self._clock)
        self.handing_back = HandingBack(hass, entry, self.gate, self._desk.notebook)
        self.metering = Metering(hass, entry, clock=clock)
        self.gate.metered = lambda: self.metering.pause is None and self.metering.refused is None
        self.statements = Statements(hass, entry)

    # --- what others ask for ----------------------------------------------------------------------------

    @property
    def plan(self) -> Balance | None:
        """What the home leaves over and needs, slot by slot; None: not known yet."""
        return self._desk.plan

    @property
    def tanks(self) -> Balance | None:
        """What fuel cells and the like can sell besides; None: there are none, or the plan is not known."""
        return self._desk.tanks

    @property
    def limits(self) -> Limits:
        """What the user lets trading do."""
        settings = self._entry.runtime_data.settings
        return Limits() if settings is None else settings.limits

    @property
    def dry_run(self) -> bool:
        """Whether nothing at all is signed or switched."""
        return not (self.limits.automatic_selling or self.limits.automatic_buying)

    @property
    def decisions(self) -> list[Decided]:
        """The newest decisions of all rules, oldest first."""
        every = [decided for state in self.rules.values() for decided in state.decisions]
        return sorted(every, key=lambda decided: decided.time)

    def end_reason(self, trade: str) -> str | None:
        """Return why this home ended a sale by itself; None: it did not."""
        known = self._desk.notebook.pages.handed_back.get(trade)
        return None if known is None else known.reason

    @callback
    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener after every look; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def listen_decisions(self, listener: Callable[[Decided], None]) -> Callable[[], None]:
        """Call a listener with every new decision; returns what ends it."""
        self._decision_listeners.append(listener)
        return lambda: self._decision_listeners.remove(listener)

    # --- life -------------------------------------------------------------------------------------------

    async def async_start(self) -> None:
        """Begin to meter, to deliver and to decide."""
        self._desk.notebook.restore(await self._store.async_load())
        await self.forecaster.async_start()
        await self.statements.async_start()
        self._read_rules()
        for desk in self._desks.values():
            if isinstance(desk, BuyDesk):
                await desk.async_prepare(self._desk)
        await self.metering.async_start()
        await self.gate.async_start()
        self.loads.rules = {
            rule_id: desk.rule.loads
            for rule_id, desk in self._desks.items()
            if isinstance(desk, BuyDesk) and desk.rule.loads
        }
        await self.loads.async_start()
        data = self._entry.runtime_data
        self._unsubscribe.append(data.ledger.listen(self._on_event))
        if data.settings is not None:
            self._unsubscribe.append(data.settings.async_listen(lambda _: self._wake.set()))
        self._unsubscribe.append(self._hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, self._on_stop))
        self._task = self._entry.async_create_background_task(
            self._hass, self._run(), f"{DOMAIN} {self._entry.title} trading"
        )

    async def async_stop(self) -> None:
        """Release every device, keep what must be kept, and end; once more changes nothing."""
        if self._stopped:
            return
        self._stopped = True
        while self._unsubscribe:
            self._unsubscribe.pop()()
        task, self._task = self._task, None
        await end_tasks(task)
        await self.loads.async_stop()
        await self.gate.async_stop(End.UNLOADED)
        await self.metering.async_stop()
        await self.forecaster.async_stop()
        await self.statements.async_stop()
        for desk in self._desks.values():
            if isinstance(desk, BuyDesk):
                desk.close()
        await self._store.async_save(self._desk.notebook.kept())

    async def _on_stop(self, _: Event) -> None:
        await self.async_stop()

    def _read_rules(self) -> None:
        for subentry in self._entry.subentries.values():
            if subentry.subentry_type not in (SUBENTRY_SELL, SUBENTRY_BUY):
                continue
            selling = subentry.subentry_type == SUBENTRY_SELL
            rule_id = subentry.subentry_id
            state = RuleState(rule_id, subentry.title, selling)
            self.rules[rule_id] = state
            try:
                if selling:
                    self._desks[rule_id] = SellDesk(sell_rule(rule_id, subentry.title, subentry.data), state)
                else:
                    self._desks[rule_id] = BuyDesk(buy_rule(rule_id, subentry.title, subentry.data), state)
            except RuleProblem as problem:
                self._pause(state, problem)
            except (KeyError, TypeError, ValueError) as error:
                self._pause(state, RuleProblem("rule_invalid", error=str(error)[:200]))

    # --- what happens -----------------------------------------------------------------------------------

    @callback
    def _on_event(self, event: EventView) -> None:
        self.statements.take(event)
        notebook = self._desk.notebook
        if event.event == "record_lost":
            notebook.lose(str(event.data["record"]))
        elif event.event == "record_contested":
            notebook.contest(str(event.data["record"]))
        elif event.event == "record_pooled":
            notebook.resume(str(event.data["record"]), int(self._clock()))
        elif event.event == "acceptance_ended":
            notebook.lose(str(event.data["acceptance"]))
        elif event.event == "trade_agreed":
            # Its answer binds, also when the trade should be over before the next look.
            notebook.follow_answers([str(event.data["trade"])], [], 0)
        elif event.event == "trade_closed":
            self._rate(event)
        if event.event in _TELLING:
            self._wake.set()

    @callback
    def _on_decided(self, decided: Decided) -> None:
        for listener in tuple(self._decision_listeners):
            listener(decided)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.async_look()
            except ClientError as error:
                _LOGGER.debug("%s: trading waits for the node: %s", self._entry.title, error)
            except Exception:  # one look that fails must not end all trading
                _LOGGER.exception("%s: trading failed, and goes on", self._entry.title)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            await asyncio.sleep(GATHER_S)

    async def async_look(self) -> None:
        """Look at everything once, and have every rule do its part. Raises ClientError."""
        async with self._lock:
            desk, data = self._desk, self._entry.runtime_data
            desk.now = int(self._clock())
            await self.forecaster.async_look(desk.now)
            view = data.ledger.data
            mine = {each.offer: each.open for each in view.offers if each.author.key == desk.me.hex()}
            desk.notebook.follow_offers(mine, desk.now)
            desk.notebook.follow_answers(
                [trade.trade for trade in view.trades], [each.acceptance for each in view.waiting], desk.now
            )
            meter = meter_of(data.devices)
            follow_origins(desk, grid_now(None if meter is None else meter[1]).imported_wh)
            forecast = self.forecaster.slots(desk.now, HORIZON_SLOTS)
            desk.plan = home_plan(desk, forecast, self.limits.reserve_permille)
            desk.tanks = tank_plan(desk, forecast, self.limits.reserve_permille)
            # Without the node nothing can be known or sent: rules wait, and the gate goes its own way.
            if data.ledger.last_update_success and view.account is not None:
                await self._read_pace(desk)
                await self._read_standings(desk)
                await self.handing_back.async_look(desk.now)
                for rule_id, each in self._desks.items():
                    await self._work(self.rules[rule_id], each, forecast)
                await self._take_back()
            self._store.async_delay_save(desk.notebook.kept, 5)
        for listener in tuple(self._listeners):
            listener()

    async def _work(
        self, state: RuleState, each: SellDesk | BuyDesk, forecast: Sequence[SlotForecast] | None
    ) -> None:
        limits, desk = self.limits, self._desk
        acting = self._acts(state)
        try:
            if isinstance(each, SellDesk):
                self._require_meter()
                supply = supply_of(desk, each.rule, forecast, limits.reserve_permille)
                await each.async_run(desk, supply, limits.price_floor, acting)
            else:
                if each.rule.criteria.only_need:
                    self._require_need()
                await each.async_run(desk, limits.price_ceiling, acting)
        except RuleProblem as problem:
            self._pause(state, problem)
            return
        state.status = RuleStatus.ACTIVE if acting else RuleStatus.DRY_RUN
        state.problem, state.values, state.paused_since = None, {}, None
        ir.async_delete_issue(self._hass, DOMAIN, issue_id(ISSUE_RULE, state.rule_id))

    async def _take_back(self) -> None:
        """Withdraw offers and counters of rules that do not act now: what a neighbour takes would bind."""
        desk, pages = self._desk, self._desk.notebook.pages
        for name, made in list(pages.offers.items()):
            if not made.withdrawn and not self._stands(self.rules.get(made.rule)):
                await withdraw(desk, name)
        countered = {answer.record: answer.rule for answer in pages.answers.values()}
        for waiting in desk.entry.runtime_data.ledger.data.waiting:
            rule = countered.get(waiting.acceptance)
            if rule is not None and not waiting.bid and not self._stands(self.rules.get(rule)):
                await withdraw(desk, waiting.acceptance)

    def _acts(self, state: RuleState) -> bool:
        return self.limits.automatic_selling if state.selling else self.limits.automatic_buying

    def _stands(self, state: RuleState | None) -> bool:
        """Whether what a rule has offered or countered still stands: also while it pauses for a moment."""
        if state is None or not self._acts(state):
            return False
        if state.paused_since is None:
            return True
        moment = min(PATIENCE_S, self._desk.slot_s / 4)
        return state.problem in _TRANSIENT and self._desk.now - state.paused_since < moment

    def _require_need(self) -> None:
        """Refuse to buy by what the home needs while that is not known; raises RuleProblem."""
        if self.metering.pause is not None:
            raise RuleProblem("meter_paused")
        if self._desk.plan is None:
            raise RuleProblem("consumption_unknown")

    def _require_meter(self) -> None:
        """Refuse to sell what nobody counts, for the ledger pays by readings; raises RuleProblem."""
        meter = meter_of(self._entry.runtime_data.devices)
        if meter is None:
            raise RuleProblem("meter_missing")
        if grid_now(meter[1]).exported_wh is None:
            raise RuleProblem("meter_away", device=meter[1].name)
        if self.metering.pause is not None:
            raise RuleProblem("meter_paused")
        if self.metering.refused is not None:
            raise RuleProblem("readings_refused", error=self.metering.refused)

    @callback
    def _pause(self, state: RuleState, problem: RuleProblem) -> None:
        """Pause a rule, and say why where the user looks."""
        state.status, state.problem, state.values = RuleStatus.PAUSED, problem.code, problem.values
        state.paused_since = int(self._clock()) if state.paused_since is None else state.paused_since
        name = issue_id(ISSUE_RULE, state.rule_id)
        if problem.code in _TRANSIENT:
            ir.async_delete_issue(self._hass, DOMAIN, name)
            return
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            name,
            is_fixable=False,
            severity=ir.IssueSeverity.WARNING,
            translation_key=f"rule_{problem.code}",
            translation_placeholders={"rule": state.name, **problem.values},
        )

    async def _read_pace(self, desk: Desk) -> None:
        """Ask once how fast the blocks come: it never changes."""
        if not self._pace_known:
            community = await self._entry.runtime_data.client.community()
            desk.pace = Pace(int(community.parameters["block_spacing_s"]))
            self._pace_known = True

    async def _read_standings(self, desk: Desk) -> None:
        if desk.now - self._standings_at < STANDINGS_S:
            return
        self._standings_at = desk.now
        accounts = await self._entry.runtime_data.client.all_accounts()
        desk.standings = {
            account.member.key: Standing(
                account.reputation.delivered_permille,
                account.reputation.agreed_wh,
                account.reputation.mean_score_tenths,
            )
            for account in accounts
        }

    @callback
    def _rate(self, event: EventView) -> None:
        """Score the seller of a settled purchase by what it delivered, where the rule that bought says so."""
        if event.data.get("buyer") != self._desk.me.hex() or not self.limits.automatic_buying:
            return
        trade = str(event.data["trade"])
        buyer = self._desks.get(self._desk.notebook.rule_of(trade) or "")
        points = self.statements.points(trade)
        if isinstance(buyer, BuyDesk) and buyer.rule.rate and points is not None:
            self._entry.async_create_background_task(
                self._hass,
                self._send_rating(trade, points),
                f"{DOMAIN} {self._entry.title} rating",
            )

    async def _send_rating(self, trade: str, points: int) -> None:
        try:
            await self._entry.runtime_data.home.rate(trade, points)
        except LedgerError as error:
            _LOGGER.debug("%s: the trade was not rated: %s", self._entry.title, error)


async def async_start_trading(hass: HomeAssistant, entry: EnergyLedgerEntry) -> TradingEngine:
    """Start the trading of an entry whose devices run; `data.trading` holds it afterwards."""
    engine = TradingEngine(hass, entry)
    entry.runtime_data.trading = engine
    entry.async_on_unload(engine.async_stop)
    await engine.async_start()
    return engine


async def async_remove_storage(hass: HomeAssistant, entry_id: str) -> None:
    """Forget what trading kept of a removed entry."""
    await remove_gate(hass, entry_id)
    await remove_metering(hass, entry_id)
    for kind in ("rules", "load", "loads", "statements"):
        await Store[dict[str, Any]](hass, 1, f"{DOMAIN}.{kind}.{entry_id}").async_remove()
