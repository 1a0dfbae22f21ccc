"""One fixed body of every record kind, all optional fields filled: for golden bytes and mutations."""

from hashlib import sha256
from typing import Any

from ledger_core.keys import SoftwareSigner
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.assets import Asset, CurveStep
from ledger_core.records.body import Body
from ledger_core.records.codec import encode_body, invite, record_message
from ledger_core.records.members import Member
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.offers import Auction, Offer, Withdrawal
from ledger_core.records.readings import Quality, Reading, ReadingRow, Stored
from ledger_core.records.trades import Score, Termination
from ledger_core.records.types import AssetKind, Basis, Carrier, Location, Role, Side
from ledger_core.records.votes import VOTE_NONCE, Evidence, SignedVote, Vote
from tests.core.world import START, asset_id, signer

CHAIN_ID = sha256(b"a chain for samples").digest()
AUTHOR = signer("sample author")
OTHER = signer("sample other")
BEARER = signer("sample invitation")
NONCE = bytes(range(8))


def digest(text: str) -> bytes:
    """A hash that stands for the record, name or block called so."""
    return sha256(text.encode()).digest()


def _head(author: SoftwareSigner = AUTHOR, created: int = START) -> dict[str, Any]:
    return {"author": author.public_key, "created": created, "nonce": NONCE}


def vote(target: str, author: SoftwareSigner = AUTHOR) -> Vote:
    """A vote for one of several blocks at height 60."""
    return Vote(
        author.public_key,
        START + 1800,
        VOTE_NONCE,
        30,
        digest("checkpoint 30"),
        60,
        digest(f"checkpoint {target}"),
    )


def signed_vote(target: str) -> SignedVote:
    """The same, signed."""
    data = encode_body(vote(target))
    return SignedVote(data, AUTHOR.sign(record_message(CHAIN_ID, data)))


def samples() -> dict[str, Body]:
    """Return a body of every kind, by the kind's name."""
    window: dict[str, Any] = {"start": START + 3600, "end": START + 7200}
    location = Location(52_520_008, -13_404_954)
    bodies: list[Body] = [
        Member(
            **_head(),
            member=AUTHOR.public_key,
            roles=int(Role.HOME | Role.NODE),
            node=OTHER.public_key,
            name_hash=digest("name"),
            location=location,
            invitation=invite(CHAIN_ID, OTHER, BEARER.public_key, int(Role.HOME | Role.NODE), START + 86_400),
        ),
        Asset(
            **_head(),
            asset=asset_id("battery"),
            kind=AssetKind.BATTERY,
            carrier=Carrier.ELECTRICITY,
            rating_w=10_000,
            curve=(CurveStep(START, 5_000), CurveStep(START + 900, 10_000)),
            energy_wh=8_000,
            capacity_wh=12_000,
            meter=asset_id("meter"),
            meter_key=OTHER.public_key,
            location=location,
            supersedes=digest("asset"),
        ),
        Offer(
            **_head(),
            side=Side.SELL,
            asset=asset_id("battery"),
            carrier=Carrier.ELECTRICITY,
            basis=Basis.ENERGY,
            quantity=7_000,
            min_quantity=500,
            max_w=9_000,
            **window,
            price=250_000,
            shortfall_price=50_000,
            audience=(bytes(32), OTHER.public_key),
            valid_until=START + 3000,
            auction=Auction(START + 1800, 300_000, 200_000),
        ),
        Withdrawal(**_head(), target=digest("offer")),
        Acceptance(
            **_head(),
            offer=digest("offer"),
            asset=asset_id("other meter"),
            quantity=4_000,
            **window,
            price=240_000,
            valid_until=START + 1800,
        ),
        Confirmation(**_head(), acceptance=digest("acceptance")),
        Rejection(**_head(), acceptance=digest("acceptance")),
        Termination(**_head(), trade=digest("acceptance"), end=START + 4500, compensation=1_000_000),
        Reading(
            **_head(),
            meter=asset_id("meter"),
            rows=(
                ReadingRow(START - 900, 1_000_000, 2_000, Quality.MEASURED),
                ReadingRow(START, 1_000_250, 2_500, Quality.INTERPOLATED),
            ),
            stored=(Stored(asset_id("battery"), 6_500, 1_250),),
        ),
        Transfer(
            **_head(),
            kind=TransferKind.PAY,
            to=OTHER.public_key,
            amount=2_500_000,
            reference=digest("invoice"),
        ),
        Score(**_head(), trade=digest("acceptance"), score=9),
        vote("60"),
        Evidence(**_head(OTHER), first=signed_vote("60"), second=signed_vote("60 on another branch")),
    ]
    return {body.KIND: body for body in bodies}


def author_of(body: Body) -> SoftwareSigner:
    """The key that signs a sample."""
    return OTHER if body.author == OTHER.public_key else AUTHOR
