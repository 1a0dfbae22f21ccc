"""A record with the proof that it stands in the chain; an invitation."""

from datetime import timedelta
from typing import Any, Final

import msgspec
import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import config_validation as cv

from ledger_core.client.bodies import roles_value
from ledger_core.errors import LedgerError, RecordError
from ledger_core.records.types import Role

from ..data import EnergyLedgerData
from ..proofs import check_proof
from ..quantities import local_text, now_s
from ..refusals import invalid, refusal_of
from .fields import ENTRY, IDENTIFIER, entry_of

ATTR_ADDRESSES: Final = "addresses"
ATTR_HEIGHT: Final = "height"
ATTR_RECORD: Final = "record"
ATTR_ROLES: Final = "roles"
ATTR_VALID_FOR: Final = "valid_for"

WEEK: Final = timedelta(days=7)
ROLES: Final = tuple(str(role.name).lower() for role in Role)

GET_RECORD_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Required(ATTR_RECORD): IDENTIFIER,
        vol.Optional(ATTR_HEIGHT): vol.All(vol.Coerce(int), vol.Range(min=1, max=2**32 - 1)),
    }
)
INVITE_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Optional(ATTR_ROLES, default=["home", "node"]): vol.All(
            cv.ensure_list, [vol.In(ROLES)], vol.Length(min=1)
        ),
        vol.Optional(ATTR_VALID_FOR, default=WEEK): cv.positive_time_period,
        vol.Optional(ATTR_ADDRESSES): vol.All(cv.ensure_list, [vol.All(cv.string, str.strip)]),
    }
)


async def get_record(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Return a record and where it stands, with a proof that was checked."""
    data = entry_of(hass, call).runtime_data
    record_id, height = call.data[ATTR_RECORD], call.data.get(ATTR_HEIGHT)
    try:
        record = await data.client.record(record_id, height)
        proof = None if record.height is None else await _proof(data, record_id, record.height)
    except RecordError as error:
        raise invalid("proof_invalid", record=record_id, message=error.message) from error
    except LedgerError as error:
        raise refusal_of(error) from error
    return {"record": msgspec.to_builtins(record), "proof": proof, "verified": proof is not None}


async def _proof(data: EnergyLedgerData, record: str, height: int) -> dict[str, Any]:
    """Return the proof of a record, checked against the block of the node's active branch."""
    proof = await data.client.proof(record, height)
    block = await data.client.block(height)
    check_proof(proof, await data.home.chain_id(), record, block.hash)
    shown: dict[str, Any] = msgspec.to_builtins(proof)
    return {**shown, "final": block.final}


async def invite(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Make a one-time invitation."""
    data = entry_of(hass, call).runtime_data
    expires = now_s() + int(call.data[ATTR_VALID_FOR].total_seconds())
    try:
        text = await data.home.make_invitation(
            expires, roles_value(call.data[ATTR_ROLES]), call.data.get(ATTR_ADDRESSES)
        )
    except LedgerError as error:
        raise refusal_of(error) from error
    return {"invitation": text, "expires": local_text(expires), "roles": list(call.data[ATTR_ROLES])}
