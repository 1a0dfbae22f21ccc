"""What a simulated home does: reads its meter, offers, accepts."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner
from ledger_core.node.engine.engine import Engine
from ledger_core.records.acceptances import Acceptance
from ledger_core.records.body import Body
from ledger_core.records.codec import Envelope, sign_record
from ledger_core.records.offers import Offer
from ledger_core.records.readings import Quality, Reading, ReadingRow
from ledger_core.records.types import Basis, Carrier, Side
from ledger_core.records.votes import Evidence, SignedVote
from ledger_core.rules.events import OfferOpened
from ledger_core.simulation.founding import Home

OFFER_WH = 500
PRICE = 200_000
LEAD_SLOTS = 3
"""How many slots ahead an offered window starts."""

MAX_ROWS = 90


class Household:
    """Acts for one home through its node."""

    def __init__(
        self,
        home: Home,
        random: Random,
        chain_id: bytes,
        slot_s: int,
        submitted: Callable[[bytes, str], None],
    ) -> None:
        self.home = home
        self._random = random
        self._chain_id = chain_id
        self._slot_s = slot_s
        self._submitted = submitted
        self._import_wh = 100_000
        self._export_wh = 50_000
        self._last_end = 0
        self.refused: dict[str, int] = {}
        """How often a submission was refused at once, by code."""

    def read_meter(self, engine: Engine, now: float) -> None:
        """Tell of every slot that ended since the last reading."""
        end = int(now) // self._slot_s * self._slot_s
        first = self._last_end + self._slot_s if self._last_end else end - self._slot_s
        ends = list(range(first, end + 1, self._slot_s))[-MAX_ROWS:]
        rows = []
        for at in ends:
            self._import_wh += self._random.randint(0, 600)
            self._export_wh += self._random.randint(0, 900)
            rows.append(ReadingRow(at, self._import_wh, self._export_wh, Quality.MEASURED))
        if rows:
            self._last_end = end
            body = Reading(
                **self._head(self.home.meter_key, now), meter=self.home.meter, rows=tuple(rows), stored=()
            )
            self._submit(engine, body, self.home.meter_key, now)

    def offer(self, engine: Engine, now: float) -> None:
        """Offer some energy of a slot that comes soon."""
        start = (int(now) // self._slot_s + LEAD_SLOTS) * self._slot_s
        body = Offer(
            **self._head(self.home.key, now),
            side=Side.SELL,
            asset=self.home.panels,
            carrier=Carrier.ELECTRICITY,
            basis=Basis.ENERGY,
            quantity=OFFER_WH,
            min_quantity=None,
            max_w=0,
            start=start,
            end=start + self._slot_s,
            price=PRICE,
            shortfall_price=0,
            audience=None,
            valid_until=start,
            auction=None,
        )
        self._submit(engine, body, self.home.key, now)

    def accept(self, engine: Engine, opened: OfferOpened, now: float) -> None:
        """Accept an offer as it stands."""
        row = engine.chain.state.offers.get(opened.offer)
        if row is None:
            return
        body = Acceptance(
            **self._head(self.home.key, now),
            offer=opened.offer,
            asset=None,
            quantity=row.open,
            start=row.start,
            end=row.end,
            price=row.price,
            valid_until=row.start,
        )
        self._submit(engine, body, self.home.key, now)

    def report(self, engine: Engine, votes: Sequence[SignedVote], now: float) -> None:
        """Put two conflicting votes of one node into the chain: it loses its role."""
        body = Evidence(**self._head(self.home.key, now), first=votes[0], second=votes[1])
        self._submit(engine, body, self.home.key, now)

    def sign(self, body: Body, key: SoftwareSigner) -> Envelope:
        """Sign a record for this street's chain."""
        return sign_record(body, self._chain_id, key)

    def _head(self, key: SoftwareSigner, now: float) -> dict[str, Any]:
        return {"author": key.public_key, "created": int(now), "nonce": self._random.randbytes(8)}

    def _submit(self, engine: Engine, body: Body, key: SoftwareSigner, now: float) -> None:
        try:
            record_id = engine.submit(self.sign(body, key), now)
        except LedgerError as refusal:
            self.refused[refusal.code] = self.refused.get(refusal.code, 0) + 1
        else:
            self._submitted(record_id, body.KIND)
