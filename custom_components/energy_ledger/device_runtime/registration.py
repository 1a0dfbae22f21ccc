"""Every device an asset on the ledger: registered, changed and retired until the chain says the same.

Nothing is done twice and nothing is lost: what is wanted is compared with what the chain holds whenever the
ledger has changed, and only a difference is signed and sent, again if it got lost on the way.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from ledger_core.client import ClientError, RefusedError
from ledger_core.client.bodies import AssetTerms
from ledger_core.client.bodies import asset as asset_body
from ledger_core.client.home import Home
from ledger_core.client.views import AssetView
from ledger_core.errors import LedgerError
from ledger_core.records.types import AssetKind

from ..const import DOMAIN, issue_id
from ..devices.readings import Field
from ..refusals import async_reason
from .runtime import DeviceRuntime
from .settings import STORES
from .storage import DeviceStore

if TYPE_CHECKING:
    from ..data import EnergyLedgerEntry

_LOGGER = logging.getLogger(__name__)

ISSUE_REFUSED: Final = "asset_refused"
ISSUE_NOT_APPROVED: Final = "asset_not_approved"
# A submitted record that is not in the chain by then is asked for, and sent again if nobody has it (seconds).
_LOOK_AFTER_S: Final = 60.0
# What was refused is tried again so seldom while nothing about it changes (seconds).
_REFUSED_AGAIN_S: Final = 300.0
# A record is good for a day; a text that waits for an approval is made anew before that (seconds).
_PROPOSAL_S: Final = 43_200.0
# No community lets a record count for longer than this, in the chain's time (seconds).
_LONGEST_RECORD_S: Final = 7 * 86_400
_OVERTAKEN: Final = frozenset({"asset_superseded"})
_NOT_APPROVED: Final = frozenset({"authority_missing"})


class AssetState(StrEnum):
    """How a device stands on the ledger."""

    UNKNOWN = "unknown_yet"  # not compared yet
    REGISTERED = "registered"
    WAITING = "waiting"  # sent; not in the chain yet
    NO_METER = "no_meter"  # there is no meter that it could settle through
    NOT_MEMBER = "not_member"  # the home itself is not admitted yet
    NODE_AWAY = "node_away"
    NOT_APPROVED = "not_approved"  # an authority has to sign
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True, slots=True)
class AssetStatus:
    """A state, and the reason in the ledger's own words where there is one."""

    state: AssetState
    reason: str | None = None
    code: str | None = None
    proposal: str | None = None
    """The record as a text, for an authority to approve."""


@dataclasses.dataclass(slots=True)
class _Sent:
    """What was sent last for an asset. `error`: it was refused. `proposed_at`: when it was put into words."""

    terms: AssetTerms
    at: float
    record: str | None = None
    error: AssetStatus | None = None
    proposed_at: float = 0.0


class AssetRegistrar:
    """Registers the devices of one entry. `runtimes` by subentry id."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: EnergyLedgerEntry,
        runtimes: Mapping[str, DeviceRuntime],
        store: DeviceStore,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with `start`."""
        self._hass = hass
        self._entry = entry
        self._runtimes = runtimes
        self._store = store
        self._clock = clock
        self._sent: dict[str, _Sent] = {}
        self._status: dict[str, AssetStatus] = {}
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._lock = asyncio.Lock()

    def status(self, subentry_id: str) -> AssetStatus:
        """How a device stands on the ledger."""
        return self._status.get(subentry_id, AssetStatus(AssetState.UNKNOWN))

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when a status has changed; the returned function ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def start(self) -> None:
        """Compare now, and whenever the ledger or a device's figures change, until the entry unloads."""
        ledger = self._entry.runtime_data.ledger
        self._entry.async_on_unload(ledger.async_add_listener(self.schedule))
        for runtime in self._runtimes.values():
            runtime.on_figures = self.schedule
        self.schedule()

    @callback
    def schedule(self) -> None:
        """Compare soon; what comes meanwhile leads to one more comparison."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = self._entry.async_create_background_task(
                self._hass, self._run(), f"{DOMAIN} {self._entry.title} assets"
            )

    async def _run(self) -> None:
        while self._again:
            self._again = False
            await self.async_reconcile()

    # --- what is there and what should be ---------------------------------------------------------------

    def asset_of(self, subentry_id: str) -> bytes | None:
        """The asset of a device, once the chain holds it."""
        runtime = self._runtimes.get(subentry_id)
        if runtime is None:
            return None
        view = self._in_chain().get(runtime.settings.asset_id.hex())
        return runtime.settings.asset_id if view is not None and view.rating_w > 0 else None

    def meter_of(self, subentry_id: str) -> bytes | None:
        """The asset of the meter that a device settles through, once the chain holds it."""
        meter = self._meter(subentry_id)
        return None if meter is None else self.asset_of(meter.settings.subentry_id)

    def _meter(self, subentry_id: str) -> DeviceRuntime | None:
        """The meter that was chosen, or the only one of the same carrier."""
        runtime = self._runtimes.get(subentry_id)
        if runtime is None or runtime.settings.is_meter:
            return None
        if runtime.settings.meter is not None:
            return self._runtimes.get(runtime.settings.meter)
        meters = [
            each
            for each in self._runtimes.values()
            if each.settings.is_meter and each.carrier is runtime.carrier
        ]
        return meters[0] if len(meters) == 1 else None

    def _in_chain(self) -> dict[str, AssetView]:
        return {view.asset: view for view in self._entry.runtime_data.ledger.data.assets}

    async def _wanted(self, runtime: DeviceRuntime, view: AssetView | None) -> AssetTerms | None:
        """The asset as it should be; None while there is no meter for it."""
        settings = runtime.settings
        meter = key = None
        if settings.is_meter:
            signer = await self._entry.runtime_data.key.async_meter_signer(settings.subentry_id)
            key = signer.public_key
        else:
            meter = self.meter_of(settings.subentry_id)
            if meter is None:
                return None
        capacity = runtime.capacity_wh if settings.kind in STORES else None
        energy = None
        if view is None and capacity is not None:
            energy = runtime.coordinator.data.number(Field.ENERGY_AVAILABLE_WH)
            if energy is None and settings.kind is AssetKind.FUEL_CELL:
                # Nothing tells how full its tank is: what its owner stated is taken to be there.
                energy = capacity
            energy = None if energy is None else min(energy, capacity)
        return AssetTerms(
            asset=settings.asset_id,
            kind=settings.kind,
            rating_w=runtime.rating_w,
            carrier=settings.carrier,
            meter=meter,
            meter_key=key,
            energy_wh=energy,
            capacity_wh=capacity,
        )

    # --- one comparison ---------------------------------------------------------------------------------

    async def async_reconcile(self) -> None:
        """Compare what the chain holds with what is set up, and send what differs."""
        async with self._lock:
            await self._reconcile()

    async def _reconcile(self) -> None:
        ledger = self._entry.runtime_data.ledger
        before = dict(self._status)
        ordered = sorted(self._runtimes.items(), key=lambda item: not item[1].settings.is_meter)
        for subentry_id, runtime in ordered:
            if not ledger.last_update_success:
                self._status[subentry_id] = AssetStatus(AssetState.NODE_AWAY)
            elif ledger.data.account is None:
                self._status[subentry_id] = AssetStatus(AssetState.NOT_MEMBER)
            else:
                self._status[subentry_id] = await self._settle(runtime)
            self._tell(runtime, self._status[subentry_id])
        if ledger.last_update_success and ledger.data.account is not None:
            await self._retire_others()
        if before != self._status:
            for listener in tuple(self._listeners):
                listener()

    async def _settle(self, runtime: DeviceRuntime) -> AssetStatus:
        """Bring one device's asset a step nearer to what it should be."""
        asset = runtime.settings.asset_id.hex()
        view = self._in_chain().get(asset)
        terms = await self._wanted(runtime, view)
        if terms is None:
            return AssetStatus(AssetState.NO_METER)
        if view is not None and _same(view, terms):
            await self._remember(asset, runtime.name, sends=False)
            self._sent.pop(asset, None)
            return AssetStatus(AssetState.REGISTERED)
        sent = self._sent.get(asset)
        if sent is not None and _same_terms(sent.terms, terms):
            age = self._clock() - sent.at
            if sent.error is not None and age < _REFUSED_AGAIN_S:
                return sent.error
            if sent.error is None and (age < _LOOK_AFTER_S or await self._on_its_way(sent)):
                return AssetStatus(AssetState.WAITING)
        await self._remember(asset, runtime.name, sends=True)
        return await self._send(asset, terms, changes=view is not None)

    async def _on_its_way(self, sent: _Sent) -> bool:
        """Whether the node still has a record that was sent."""
        if sent.record is None:
            return False
        try:
            record = await self._entry.runtime_data.client.record(sent.record)
        except RefusedError as error:
            return error.code != "record_unknown"
        except ClientError:
            return True
        if record.state == "contested":
            # What is sent anew is refused with the reason, or fits where this one did not.
            return False
        sent.at = self._clock()
        return True

    async def _send(self, asset: str, terms: AssetTerms, *, changes: bool) -> AssetStatus:
        """Sign and send a registration or a change."""
        home = self._entry.runtime_data.home
        sent = _Sent(terms, self._clock())
        try:
            sent.record = await self._submit(home, terms, changes=changes)
        except RefusedError as error:
            if error.may_pass:
                return AssetStatus(AssetState.NODE_AWAY, error.message, error.code)
            if error.code in _OVERTAKEN:
                # A record from before a restart waits at the node, and comes first.
                return AssetStatus(AssetState.WAITING)
            if error.code in _NOT_APPROVED:
                sent.error = await self._proposed(asset, sent, error, changes=changes)
            else:
                sent.error = await self._refused(error)
            _LOGGER.warning("%s: the ledger refuses the asset: %s", asset, error)
        except ClientError as error:
            return AssetStatus(AssetState.NODE_AWAY, error.message, error.code)
        except LedgerError as error:
            sent.error = await self._refused(error)
        self._sent[asset] = sent
        return sent.error or AssetStatus(AssetState.WAITING)

    async def _refused(self, error: LedgerError) -> AssetStatus:
        return AssetStatus(AssetState.REFUSED, await async_reason(self._hass, error), error.code)

    async def _proposed(
        self, asset: str, sent: _Sent, refusal: RefusedError, *, changes: bool
    ) -> AssetStatus:
        """Put the record into a text that an authority can approve; the same text for half a day."""
        before = self._sent.get(asset)
        if before is not None and before.error is not None and before.error.proposal is not None:
            fresh = self._clock() - before.proposed_at < _PROPOSAL_S
            if fresh and _same_terms(before.terms, sent.terms):
                sent.proposed_at = before.proposed_at
                return before.error
        home = self._entry.runtime_data.home
        latest = bytes.fromhex(self._in_chain()[asset].record) if changes else None
        proposal = await home.propose(asset_body(home.stamp(), sent.terms, latest))
        sent.proposed_at = self._clock()
        reason = await async_reason(self._hass, refusal)
        return AssetStatus(AssetState.NOT_APPROVED, reason, refusal.code, proposal)

    async def _submit(self, home: Home, terms: AssetTerms, *, changes: bool) -> str:
        if not changes:
            return await home.register_asset(terms)
        return await home.update_asset(
            terms.asset,
            rating_w=terms.rating_w,
            capacity_wh=terms.capacity_wh,
            meter=terms.meter,
            meter_key=terms.meter_key,
        )

    # --- devices that are set up no more ----------------------------------------------------------------

    async def _remember(self, asset: str, name: str, *, sends: bool) -> None:
        """Know later that this asset was registered from here, and when a record of it was sent last."""
        if sends or asset not in self._store.assets:
            self._store.assets[asset] = {"name": name, "sent": int(time.time())}
            await self._store.async_save()

    def _may_still_come(self, asset: str) -> bool:
        """Whether a block could still hold what was sent of an asset that the chain does not know (yet)."""
        kept = self._store.assets[asset]
        if "sent" not in kept:
            # An earlier version did not note it: it counts from now on.
            kept["sent"] = int(time.time())
            self._store.save_later()
        return bool(self._entry.runtime_data.ledger.data.status.tip_time <= kept["sent"] + _LONGEST_RECORD_S)

    async def _retire_others(self) -> None:
        """Retire what was registered from here and is set up no more."""
        wanted = {runtime.settings.asset_id.hex() for runtime in self._runtimes.values()}
        chain = self._in_chain()
        # Assets before the meters that they settle through.
        gone = sorted(
            self._store.assets.keys() - wanted,
            key=lambda asset: asset in chain and chain[asset].kind == AssetKind.METER.value,
        )
        for asset in gone:
            view = chain.get(asset)
            sent = self._sent.get(asset)
            if sent is not None and self._clock() - sent.at < _LOOK_AFTER_S:
                continue
            if view is None and self._may_still_come(asset):
                continue
            if view is None or view.rating_w == 0:
                del self._store.assets[asset]
                self._sent.pop(asset, None)
                await self._store.async_save()
                continue
            await self._retire(view)

    async def _retire(self, view: AssetView) -> None:
        terms = AssetTerms(asset=bytes.fromhex(view.asset), kind=AssetKind(view.kind), rating_w=0)
        sent = self._sent[view.asset] = _Sent(terms, self._clock())
        try:
            sent.record = await self._entry.runtime_data.home.retire_asset(terms.asset)
        except LedgerError as error:
            _LOGGER.warning("The asset %s can't be retired yet: %s", view.asset, error)

    # --- telling the user -------------------------------------------------------------------------------

    def _tell(self, runtime: DeviceRuntime, status: AssetStatus) -> None:
        """A repair issue for what does not pass by itself."""
        for key, state in (
            (ISSUE_REFUSED, AssetState.REFUSED),
            (ISSUE_NOT_APPROVED, AssetState.NOT_APPROVED),
        ):
            name = issue_id(key, runtime.settings.subentry_id)
            if status.state is not state:
                ir.async_delete_issue(self._hass, DOMAIN, name)
                continue
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                name,
                is_fixable=False,
                severity=ir.IssueSeverity.WARNING,
                translation_key=key,
                translation_placeholders={
                    "device": runtime.name,
                    "reason": status.reason or "",
                    "proposal": status.proposal or "",
                },
            )


def _same(view: AssetView, terms: AssetTerms) -> bool:
    """Whether the chain holds the asset as it should be; what it stores is told by readings."""
    return (
        view.rating_w == terms.rating_w
        and view.capacity_wh == terms.capacity_wh
        and view.meter == (None if terms.meter is None else terms.meter.hex())
        and view.meter_key == (None if terms.meter_key is None else terms.meter_key.hex())
    )


def _same_terms(old: AssetTerms, new: AssetTerms) -> bool:
    """Whether two registrations say the same; the energy at registration may differ."""
    names = ("rating_w", "capacity_wh", "meter", "meter_key")
    return all(getattr(old, name) == getattr(new, name) for name in names)
