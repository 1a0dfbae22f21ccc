"""Buying: looks at every open offer, the cheapest first, and answers those that a rule takes."""

import logging
from typing import Any, cast

import voluptuous as vol
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import condition
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.typing import ConfigType
from msgspec.structs import replace

from ledger_core.client.views import OfferView
from ledger_core.market.buying import BuyWorld, cheapest_first, decide_buy
from ledger_core.market.reasons import Decision, Reason, Verdict
from ledger_core.market.terms import OfferTerms

from ..describe import offer_data
from .context import Desk, local_day, local_window, require_day, terms_of
from .prices_now import entity_price, price_now
from .rule_config import BuyRule, RuleProblem
from .rule_state import RuleState

_LOGGER = logging.getLogger(__name__)


class BuyDesk:
    """One buying rule at work."""

    def __init__(self, rule: BuyRule, state: RuleState) -> None:
        """Take a rule; `async_prepare` before anything else."""
        self.rule = rule
        self.state = state
        self._conditions: condition.ConditionsChecker | None = None
        self._problem: RuleProblem | None = None

    async def async_prepare(self, desk: Desk) -> None:
        """Make the user's conditions ready; what is wrong with them pauses the rule."""
        if not self.rule.conditions:
            return
        try:
            valid = await condition.async_validate_conditions_config(
                desk.hass, cv.CONDITIONS_SCHEMA(self.rule.conditions)
            )
            self._conditions = await condition.async_conditions_from_config(
                desk.hass, cast("list[ConfigType]", valid), _LOGGER, self.rule.name
            )
        except (vol.Invalid, HomeAssistantError) as error:
            self._problem = RuleProblem("conditions_invalid", error=str(error)[:200])

    def close(self) -> None:
        """Let go of the conditions."""
        if self._conditions is not None:
            self._conditions.async_unload()
            self._conditions = None

    async def async_run(self, desk: Desk, ceiling: int, acting: bool) -> None:
        """Look at every offer; `ceiling` is the home's own. Raises RuleProblem."""
        if self._problem is not None:
            raise self._problem
        require_day(self.rule.last_day, desk.now)
        self.state.price = min(price_now(desk.hass, self.rule.ceiling, desk.now), ceiling)
        tariff = None if self.rule.tariff is None else entity_price(desk.hass, self.rule.tariff)
        views = {bytes.fromhex(view.offer): view for view in desk.entry.runtime_data.ledger.data.offers}
        offers = [terms_of(view) for view in views.values() if bytes.fromhex(view.author.key) != desk.me]
        limits: dict[int, int] = {}
        for offer in cheapest_first(offers):
            if offer.start not in limits:  # a template is rendered once for each window
                limits[offer.start] = min(price_now(desk.hass, self.rule.ceiling, offer.start), ceiling)
            limit = limits[offer.start]
            decision = self._decide(desk, offer, views[offer.id], limit, tariff)
            if decision is None:
                continue
            if decision.acts and acting:
                await self._act(desk, offer, views[offer.id], decision)
            else:
                desk.note(self.state, offer.id.hex(), decision, dry_run=not acting)

    def _decide(
        self, desk: Desk, offer: OfferTerms, view: OfferView, ceiling: int, tariff: int | None
    ) -> Decision | None:
        """Decide about an offer; None: nothing worth telling, an answer is on its way."""
        known = desk.notebook.pages.answers.get(view.offer)
        if known is not None and known.state != "lost":
            return None
        need = None
        if desk.plan is not None and desk.plan.slots and offer.end <= desk.plan.slots[-1].start + desk.slot_s:
            need = desk.plan.need_between(offer.start, offer.end)
            need = max(need - desk.notebook.on_the_way(offer.start, offer.end), 0)
        world = BuyWorld(
            now=desk.now,
            me=desk.me,
            window=local_window(offer.start, offer.end),
            ceiling=ceiling,
            tariff=tariff,
            need_wh=need,
            spent_today=desk.notebook.spent(self.rule.rule_id, local_day(desk.now)),
            standing=desk.standings.get(view.author.key),
            answered=known is not None and known.kind != Verdict.COUNTER.value,
            countered=known is not None,
        )
        criteria = replace(self.rule.criteria, lead_s=desk.pace.answer_s)
        decision = decide_buy(criteria, offer, world)
        if decision.acts and self._conditions is not None and not self._conditions_hold(desk, view, decision):
            return Decision(Verdict.IGNORE, Reason.CONDITIONS_NOT_MET)
        return decision

    def _conditions_hold(self, desk: Desk, view: OfferView, decision: Decision) -> bool:
        """Ask the user's conditions, which see the offer as automations do."""
        variables: dict[str, Any] = {
            "offer": offer_data(view, desk.me.hex()),
            "quantity_kwh": decision.quantity / 1000,
            "price": decision.price / 1e6,
        }
        return self._conditions is not None and self._conditions.async_check(variables=variables)

    async def _act(self, desk: Desk, offer: OfferTerms, view: OfferView, decision: Decision) -> None:
        """Sign and send what was decided; a race that is lost leaves the next offer to be tried."""
        home = desk.entry.runtime_data.home
        if decision.verdict is Verdict.ACCEPT:
            sending = home.accept(view, decision.quantity)
        elif decision.verdict is Verdict.BID:
            sending = home.bid(view, decision.price, decision.quantity)
        else:
            sending = home.counter(view, price=decision.price, quantity=decision.quantity)
        await desk.answer(self.state, offer, decision, sending)
