"""Registers the actions, once for all entries.

Who may: anybody who may use Home Assistant trades in the home's name, as automations do; moving money to
another member and inviting members is for administrators.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers.service import async_register_admin_service

from .actions import market, records, statements, trades
from .const import DOMAIN

type Handler = Callable[[HomeAssistant, ServiceCall], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Action:
    """One action: what it takes, what it does, and who may."""

    handler: Handler
    schema: vol.Schema
    response: SupportsResponse = SupportsResponse.OPTIONAL
    admin: bool = False


ACTIONS = {
    "sell": Action(market.sell, market.OFFER_SCHEMA),
    "buy": Action(market.buy, market.OFFER_SCHEMA),
    "accept": Action(market.accept, market.ACCEPT_SCHEMA),
    "counter": Action(market.counter, market.COUNTER_SCHEMA),
    "reject": Action(market.reject, market.REJECT_SCHEMA),
    "withdraw": Action(market.withdraw, market.WITHDRAW_SCHEMA),
    "terminate": Action(trades.terminate, trades.TERMINATE_SCHEMA),
    "rate": Action(trades.rate, trades.RATE_SCHEMA),
    "transfer": Action(trades.transfer, trades.TRANSFER_SCHEMA, admin=True),
    "list_offers": Action(trades.list_offers, trades.LIST_OFFERS_SCHEMA, SupportsResponse.ONLY),
    "list_trades": Action(trades.list_trades, trades.LIST_TRADES_SCHEMA, SupportsResponse.ONLY),
    "statement": Action(statements.statement, statements.STATEMENT_SCHEMA, SupportsResponse.ONLY),
    "get_record": Action(records.get_record, records.GET_RECORD_SCHEMA, SupportsResponse.ONLY),
    "invite": Action(records.invite, records.INVITE_SCHEMA, SupportsResponse.ONLY, admin=True),
}


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register every action."""
    for name, action in ACTIONS.items():
        _register(hass, name, action)


def _register(hass: HomeAssistant, name: str, action: Action) -> None:
    async def handle(call: ServiceCall) -> ServiceResponse:
        answer = await action.handler(hass, call)
        return answer if call.return_response else None

    if action.admin:
        async_register_admin_service(hass, DOMAIN, name, handle, action.schema, action.response)
    else:
        hass.services.async_register(DOMAIN, name, handle, action.schema, action.response)
