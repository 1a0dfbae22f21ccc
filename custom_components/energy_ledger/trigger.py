"""Triggers of Energy Ledger: what happens to the home starts automations."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, override

import probatio as vol
from homeassistant.const import ATTR_CONFIG_ENTRY_ID
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.trigger import (
    NotTriggeredInfo,
    Trigger,
    TriggerActionRunner,
    TriggerConfig,
    TriggerNotTriggeredReporter,
)
from homeassistant.helpers.typing import ConfigType

from .const import DOMAIN
from .data import EnergyLedgerEntry
from .events import EndReason, Happening, HomeEvent, ShortfallStage, async_listen_all
from .loaded import LOADED, check_options, loaded_entries, split_options
from .matching import (
    AMOUNT_FILTERS,
    AUTHOR_FILTER,
    OFFER_FILTERS,
    TERMS_FILTERS,
    TRADE_FILTERS,
    matches,
    options_schema,
)
from .quantities import money

FILTER_DISPUTED: Final = "disputed"
FILTER_OWN: Final = "own"
FILTER_REASON: Final = "reason"
FILTER_STAGE: Final = "stage"
CONF_BALANCE: Final = "balance"


class _LedgerTrigger(Trigger):
    """Base: options are checked, and name a home or none for all of them."""

    schema: ClassVar[vol.Schema]

    @classmethod
    @override
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        """Check the options."""
        return check_options(hass, cls.schema, config)

    def __init__(self, hass: HomeAssistant, config: TriggerConfig) -> None:
        """Take the options apart."""
        super().__init__(hass, config)
        self._entry_id, self._options = split_options(config.options)


class HappeningTrigger(_LedgerTrigger):
    """Runs when something of one kind happens that passes the filters."""

    kind: ClassVar[Happening]

    @override
    async def async_attach_runner(
        self, run_action: TriggerActionRunner, did_not_trigger: TriggerNotTriggeredReporter | None = None
    ) -> CALLBACK_TYPE:
        """Listen until what is returned is called."""

        @callback
        def happened(entry_id: str, event: HomeEvent) -> None:
            if event.kind is not self.kind or self._entry_id not in (None, entry_id):
                return
            if not self._passes(event.data):
                if did_not_trigger is not None:
                    did_not_trigger(NotTriggeredInfo("filtered", {"event": event.kind.value}))
                return
            run_action(
                {ATTR_CONFIG_ENTRY_ID: entry_id, "event": event.kind.value, "data": dict(event.data)},
                f"{event.kind.value} of {DOMAIN}",
            )

        return async_listen_all(self._hass, happened)

    def _passes(self, data: Mapping[str, Any]) -> bool:
        own = {name: self._options[name] for name in _PLAIN if name in self._options}
        if any(data.get(name) != wanted for name, wanted in own.items()):
            return False
        return matches({name: each for name, each in self._options.items() if name not in own}, data)


_PLAIN: Final = (FILTER_DISPUTED, FILTER_OWN, FILTER_REASON, FILTER_STAGE)


class OfferReceived(HappeningTrigger):
    """Another home offers or asks for something that this home may accept."""

    kind = Happening.OFFER_RECEIVED
    schema = options_schema(OFFER_FILTERS)


class CounterReceived(HappeningTrigger):
    """Another home proposes other terms for an own offer, or bids in an own auction."""

    kind = Happening.COUNTER_RECEIVED
    schema = options_schema({**AUTHOR_FILTER, **AMOUNT_FILTERS})


class TradeAgreed(HappeningTrigger):
    """A sale or purchase of this home is binding."""

    kind = Happening.TRADE_AGREED
    schema = options_schema({**TERMS_FILTERS, **TRADE_FILTERS})


class TradeTerminated(HappeningTrigger):
    """A trade of this home was ended or shortened."""

    kind = Happening.TRADE_TERMINATED
    schema = options_schema({**TRADE_FILTERS, vol.Optional(FILTER_OWN): bool})


class DeliveryStarted(HappeningTrigger):
    """The physical delivery of a trade began."""

    kind = Happening.DELIVERY_STARTED
    schema = options_schema(TRADE_FILTERS)


class DeliveryEnded(HappeningTrigger):
    """The physical delivery of a trade ended, for whatever reason."""

    kind = Happening.DELIVERY_ENDED
    schema = options_schema(
        {**TRADE_FILTERS, vol.Optional(FILTER_REASON): vol.In([reason.value for reason in EndReason])}
    )


class SlotSettled(HappeningTrigger):
    """A slot of a trade was settled: what was delivered and paid is known."""

    kind = Happening.SLOT_SETTLED
    schema = options_schema({**TRADE_FILTERS, vol.Optional(FILTER_DISPUTED): bool})


class Shortfall(HappeningTrigger):
    """Less is, or was, delivered than was agreed."""

    kind = Happening.SHORTFALL
    schema = options_schema(
        {**TRADE_FILTERS, vol.Optional(FILTER_STAGE): vol.In([stage.value for stage in ShortfallStage])}
    )


class BalanceBelow(_LedgerTrigger):
    """The home's balance falls below a limit."""

    schema = options_schema({vol.Required(CONF_BALANCE): vol.Coerce(float)})

    @override
    async def async_attach_runner(
        self, run_action: TriggerActionRunner, did_not_trigger: TriggerNotTriggeredReporter | None = None
    ) -> CALLBACK_TYPE:
        """Watch the account of every home that is meant, whenever it is loaded."""
        limit: float = self._options[CONF_BALANCE]
        stops: dict[str, CALLBACK_TYPE] = {}

        @callback
        def watch(entry: EnergyLedgerEntry) -> None:
            if self._entry_id not in (None, entry.entry_id) or entry.entry_id in stops:
                return
            ledger = entry.runtime_data.ledger
            before = _balance(entry)

            @callback
            def look() -> None:
                nonlocal before
                now = _balance(entry)
                if now is not None and before is not None and before >= limit > now:
                    run_action(
                        {
                            ATTR_CONFIG_ENTRY_ID: entry.entry_id,
                            "event": "balance_below",
                            "data": {"balance": now, "before": before, "limit": limit},
                        },
                        f"balance below {limit:g} of {DOMAIN}",
                    )
                before = before if now is None else now

            stops[entry.entry_id] = ledger.async_add_listener(look)
            entry.async_on_unload(lambda: _end(stops.pop(entry.entry_id, None)))

        for entry in loaded_entries(self._hass):
            watch(entry)
        stop_waiting = async_dispatcher_connect(self._hass, LOADED, watch)

        @callback
        def detach() -> None:
            stop_waiting()
            for stop in list(stops.values()):
                stop()
            stops.clear()

        return detach


def _balance(entry: EnergyLedgerEntry) -> float | None:
    account = entry.runtime_data.ledger.data.account
    return None if account is None else money(account.balance)


def _end(stop: CALLBACK_TYPE | None) -> None:
    if stop is not None:
        stop()


TRIGGERS: Final[dict[str, type[Trigger]]] = {
    "offer_received": OfferReceived,
    "counter_received": CounterReceived,
    "trade_agreed": TradeAgreed,
    "trade_terminated": TradeTerminated,
    "delivery_started": DeliveryStarted,
    "delivery_ended": DeliveryEnded,
    "slot_settled": SlotSettled,
    "shortfall": Shortfall,
    "balance_below": BalanceBelow,
}


async def async_get_triggers(_hass: HomeAssistant) -> dict[str, type[Trigger]]:
    """Return the triggers by name."""
    return TRIGGERS
