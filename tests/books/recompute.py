"""Settles a chain once more, from its raw bytes and the rules as they are described, without their code.

Input is a file of blocks as `energy-ledger chain export` and `chain generate --out` write it. Of every block
only the records and the time are used. Who agreed to what follows from offers, acceptances, confirmations,
bids and terminations; what a meter counted, from its signed registers; the rest is whole-number arithmetic:

- an agreed energy is spread evenly over its slots; reserved power counts with its full use;
- a slot is settled in the first block at or after its end and the grace, that block's readings included;
- a meter's Wh of the slot are shared over its trades pro rata, largest remainder first, then the trade's id;
  reserved power claims no more of the seller's export than its buyer drew;
- delivered is the smaller of sent and received, and nothing where a reading is missing;
- paid is Wh x price // 1000; what is missing is paid at the shortfall price.

    python tests/books/recompute.py street.blocks
"""

import hashlib
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec

_HEADER = struct.Struct(">HI32s32sI32sQI32sQ")

_OFFER_FIELDS = (
    "side",
    "asset",
    "carrier",
    "basis",
    "quantity",
    "min_quantity",
    "max_w",
    "start",
    "end",
    "price",
    "shortfall_price",
    "audience",
    "valid_until",
    "auction",
)


class Kind(IntEnum):
    """First element of a record's body."""

    ASSET = 2
    OFFER = 3
    WITHDRAWAL = 4
    ACCEPTANCE = 5
    CONFIRMATION = 6
    TERMINATION = 8
    READING = 9
    TRANSFER = 10


@dataclass(slots=True)
class Sale:
    """One trade, as its records agreed it."""

    id: bytes
    seller: bytes
    buyer: bytes
    asset: bytes
    seller_meter: bytes
    buyer_meter: bytes
    capacity: bool
    quantity: int
    watts: int
    start: int
    end: int
    agreed_end: int
    price: int
    shortfall_price: int

    def agreed_by(self, time: int, slot_s: int) -> int:
        """Wh agreed for the slots up to a boundary."""
        time = max(self.start, min(time, self.end))
        if self.capacity:
            return self.quantity * (time - self.start) // 3600
        return self.quantity * ((time - self.start) // slot_s) // ((self.agreed_end - self.start) // slot_s)


@dataclass(frozen=True, slots=True)
class Line:
    """One trade in one slot: Wh and micro-currency."""

    agreed: int
    sent: int | None
    received: int | None
    delivered: int
    paid: int
    shortfall_paid: int
    disputed: bool


@dataclass(slots=True)
class Books:
    """What a chain's records come to."""

    slot_s: int
    grace_s: int
    loss_permille: int
    loss_wh: int
    fee: int
    without_room: frozenset[bytes] = frozenset()
    """Bids that found no power, energy or money left at their auction's close. Whether they did is for the
    rules of availability to say; it decides what is agreed, never how that is settled."""
    lines: dict[tuple[bytes, int], Line] = field(default_factory=dict)
    sales: dict[bytes, Sale] = field(default_factory=dict)
    """Every trade that was ever agreed."""
    balances: defaultdict[bytes, int] = field(default_factory=lambda: defaultdict(int))
    """Of every member, fees paid but not earned."""
    fees: int = 0
    registers: defaultdict[bytes, dict[int, tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By meter and boundary: import and export in Wh."""
    ratings: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    """By asset: rating in W from a time on."""
    _assets: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    _offers: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    _answers: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    _time: int = 0
    _settled: int | None = None

    # --- blocks -----------------------------------------------------------------------------------------

    def take_block(self, time: int, records: Iterable[tuple[bytes, list[Any]]]) -> None:
        """Follow one block: records with their ids, in their order."""
        self._time = max(self._time, time)
        due = [
            (offer["auction"][0], name)
            for name, offer in self._offers.items()
            if offer["auction"] is not None and offer["auction"][0] <= self._time
        ]
        for _, name in sorted(due):
            self._award(name)
        for name, body in records:
            self._take(name, body)
        self._settle_due()

    def _take(self, name: bytes, body: list[Any]) -> None:
        kind, author, rest = body[0], body[1], body[4:]
        if kind in (Kind.OFFER, Kind.ACCEPTANCE) or (kind == Kind.TRANSFER and rest[0] != "issue"):
            self.balances[author] -= self.fee
            self.fees += self.fee
        match kind:
            case Kind.ASSET:
                self._assets[rest[0]] = {
                    "owner": author,
                    "kind": rest[1],
                    "carrier": rest[2],
                    "rating": rest[3],
                    "meter": rest[7],
                }
                self.ratings.setdefault(rest[0], []).append((self._time, rest[3]))
            case Kind.OFFER:
                self._offer(name, author, rest)
            case Kind.WITHDRAWAL:
                self._offers.pop(rest[0], None)
                self._answers.pop(rest[0], None)
            case Kind.ACCEPTANCE:
                self._accept(name, author, rest)
            case Kind.CONFIRMATION:
                answer = self._answers.pop(rest[0])
                self._agree(rest[0], answer)
            case Kind.TERMINATION:
                self._terminate(author, *rest)
            case Kind.READING:
                for end, imported, exported, _ in rest[1]:
                    self.registers[rest[0]][end] = (imported, exported)
            case Kind.TRANSFER:
                self._transfer(author, *rest[:3])

    def _transfer(self, author: bytes, kind: str, to: bytes, amount: int) -> None:
        if kind != "issue":
            self.balances[author] -= amount
        if kind != "redeem":
            self.balances[to] += amount

    # --- agreeing ---------------------------------------------------------------------------------------

    def _offer(self, name: bytes, author: bytes, rest: list[Any]) -> None:
        self._offers[name] = {
            "author": author,
            **dict(zip(_OFFER_FIELDS, rest, strict=True)),
            "open": rest[4],
        }

    def _accept(self, name: bytes, author: bytes, rest: list[Any]) -> None:
        names = ("offer", "asset", "quantity", "start", "end", "price", "valid_until")
        answer = {"author": author, **dict(zip(names, rest, strict=True))}
        offer = self._offers[answer["offer"]]
        if offer["auction"] is None and all(answer[key] == offer[key] for key in ("price", "start", "end")):
            self._agree(name, answer)
        else:
            self._answers[name] = answer

    def _award(self, name: bytes) -> None:
        """Close an auction: sellers take the highest bids, buyers the lowest; the earlier one on ties."""
        offer = self._offers[name]
        bids = [(key, answer) for key, answer in self._answers.items() if answer["offer"] == name]
        # Answers stand in the order of their blocks, and sorting keeps that order on ties.
        bids.sort(key=lambda bid: bid[1]["price"], reverse=offer["side"] == "sell")
        for key, bid in bids:
            del self._answers[key]
            least = offer["open"] if offer["min_quantity"] is None else offer["min_quantity"]
            fits = bid["quantity"] == offer["open"] or least <= bid["quantity"] < offer["open"]
            if offer["open"] and self._time <= bid["start"] and fits and key not in self.without_room:
                self._agree(key, bid)
        del self._offers[name]

    def _agree(self, name: bytes, answer: dict[str, Any]) -> None:
        offer = self._offers[answer["offer"]]
        selling = offer["side"] == "sell"
        seller, buyer = (offer, answer) if selling else (answer, offer)
        quantity, start, end = answer["quantity"], answer["start"], answer["end"]
        capacity = offer["basis"] == "capacity"
        mean = -(-quantity * 3600 // (end - start))
        peak = -(-offer["max_w"] * quantity // offer["quantity"])
        offer["open"] -= quantity
        self.sales[name] = Sale(
            name,
            seller["author"],
            buyer["author"],
            seller["asset"],
            self._meter(seller["asset"], seller["author"], offer["carrier"]),
            self._meter(buyer["asset"], buyer["author"], offer["carrier"]),
            capacity,
            quantity,
            quantity if capacity else max(mean, peak),
            start,
            end,
            end,
            answer["price"],
            offer["shortfall_price"],
        )

    def _meter(self, asset: bytes | None, owner: bytes, carrier: str) -> bytes:
        if asset is not None:
            return self._assets[asset]["meter"] or asset
        (only,) = (
            name
            for name, row in self._assets.items()
            if (row["owner"], row["kind"], row["carrier"]) == (owner, "meter", carrier) and row["rating"]
        )
        return only

    def _terminate(self, author: bytes, name: bytes, end: int, compensation: int) -> None:
        sale = self.sales[name]
        sale.end = end
        other = sale.buyer if author == sale.seller else sale.seller
        self.balances[author] -= compensation
        self.balances[other] += compensation

    # --- settling ---------------------------------------------------------------------------------------

    def _settle_due(self) -> None:
        last = (self._time - self.grace_s) // self.slot_s * self.slot_s
        if self._settled is None:
            self._settled = last
        for slot_end in range(self._settled + self.slot_s, last + 1, self.slot_s):
            running = [sale for sale in self.sales.values() if sale.start < slot_end <= sale.end]
            if running:
                self._settle(slot_end, sorted(running, key=lambda sale: sale.id))
        self._settled = max(self._settled, last)

    def _settle(self, slot_end: int, running: list[Sale]) -> None:
        agreed = {
            sale.id: sale.agreed_by(slot_end, self.slot_s)
            - sale.agreed_by(slot_end - self.slot_s, self.slot_s)
            for sale in running
        }
        received = self._shared(slot_end, {sale.id: sale.buyer_meter for sale in running}, agreed, 0)
        claims = dict(agreed)
        for sale in running:
            drawn = received[sale.id]
            if sale.capacity and drawn is not None:
                claims[sale.id] = min(claims[sale.id], drawn)
        sent = self._shared(slot_end, {sale.id: sale.seller_meter for sale in running}, claims, 1)
        for sale in running:
            line = self._line(sale, agreed[sale.id], sent[sale.id], received[sale.id])
            self.lines[sale.id, slot_end] = line
            for payer, payee, amount in (
                (sale.buyer, sale.seller, line.paid),
                (sale.seller, sale.buyer, line.shortfall_paid),
            ):
                self.balances[payer] -= amount
                self.balances[payee] += amount

    def counted(self, meter: bytes, slot_end: int, direction: int) -> int | None:
        """Wh that a meter counted in a slot: 0 import, 1 export; None without both boundaries."""
        rows = self.registers[meter]
        before, after = rows.get(slot_end - self.slot_s), rows.get(slot_end)
        return None if before is None or after is None else after[direction] - before[direction]

    def _shared(
        self, slot_end: int, meters: dict[bytes, bytes], claims: dict[bytes, int], direction: int
    ) -> dict[bytes, int | None]:
        shares: dict[bytes, int | None] = {}
        for meter in set(meters.values()):
            mine = {name: claims[name] for name, each in meters.items() if each == meter}
            total = self.counted(meter, slot_end, direction)
            shares |= dict.fromkeys(mine) if total is None else _pro_rata(total, mine)
        return shares

    def _line(self, sale: Sale, agreed: int, sent: int | None, received: int | None) -> Line:
        known = sent is not None and received is not None
        gave, took = sent or 0, received or 0
        delivered = min(gave, took) if known else 0
        owed = took if sale.capacity else agreed
        paid = delivered * sale.price // 1000
        if sale.capacity:
            whole = agreed * sale.price // 1000
            paid = 0 if not known else whole * delivered // took if took else whole
        missing = owed - min(gave, owed)
        tolerance = max(gave * self.loss_permille // 1000, self.loss_wh)
        return Line(
            agreed,
            sent,
            received,
            delivered,
            paid,
            missing * sale.shortfall_price // 1000,
            known and abs(gave - took) > tolerance,
        )


def _pro_rata(total: int, claims: dict[bytes, int]) -> dict[bytes, int | None]:
    """Share Wh over claims: whole parts first, then one more each by remainder and id."""
    wanted = sum(claims.values())
    if wanted <= total:
        return dict(claims)
    parts: dict[bytes, int] = {name: total * claim // wanted for name, claim in claims.items()}
    by_remainder = sorted(claims, key=lambda name: (-(total * claims[name] % wanted), name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return dict(parts)


def raw_blocks(data: bytes) -> Iterator[bytes]:
    """Each block of a file of blocks."""
    place = data.index(b"\n") + 1
    while size := int.from_bytes(data[place : place + 4]):
        yield data[place + 4 : place + 4 + size]
        place += 4 + size


def recompute(data: bytes, without_room: frozenset[bytes] = frozenset()) -> Books:
    """The books of a whole file of blocks; see `Books.without_room`."""
    genesis_bytes = bytes.fromhex(data[: data.index(b"\n")].split()[2].decode())
    parameters = msgspec.msgpack.decode(genesis_bytes)[3]
    chain_id = hashlib.sha256(b"energy-ledger/genesis/1\0" + genesis_bytes).digest()
    prefix = b"energy-ledger/record/1\0" + chain_id
    books = Books(parameters[0], parameters[5], parameters[11], parameters[12], parameters[15], without_room)
    for raw in raw_blocks(data):
        header, _, body = msgspec.msgpack.decode(raw)
        records = [
            (hashlib.sha256(prefix + envelope[0]).digest(), msgspec.msgpack.decode(envelope[0]))
            for envelope in msgspec.msgpack.decode(body)[0]
        ]
        books.take_block(_HEADER.unpack(header)[6], records)
    return books


def main(path: Path) -> None:
    """Print what a chain comes to, if every bid found room at its auction's close."""
    books = recompute(path.read_bytes())
    lines = books.lines.values()
    delivered, paid = sum(line.delivered for line in lines), sum(line.paid for line in lines)
    rows = [
        f"{len(books.sales)} trades, {len(lines)} settlement lines",
        f"{delivered} Wh, {paid} paid for them",
    ]
    rows += [f"{member.hex()} {balance:>15}" for member, balance in sorted(books.balances.items())]
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
