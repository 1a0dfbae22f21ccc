"""Encode and decode record bodies, per kind and in the mix of a generated day; raw limit: msgspec alone."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any, cast

import msgspec

from benchmarks._synthetic import main_branch, street
from benchmarks.harness import Figures, interleaved, progress, run
from ledger_core.records.block import decode_block_body
from ledger_core.records.body import Body
from ledger_core.records.codec import decode_body, encode_body, kinds
from ledger_core.rules.finality import vote_of, votes_in

ROUNDS = 15
MIX_CALLS = 10_000
KIND_CALLS = 2_000
GOAL_PER_S = 1_000_000

OURS: dict[str, Callable[[Any], object]] = {"encode": encode_body, "decode": decode_body}


def collect() -> list[tuple[str, bytes]]:
    """Return kind and bytes of every record of a generated day, votes included, in the order of the chain."""
    chain = street(20, 24)
    found = []
    for block in main_branch(chain):
        body = decode_block_body(block.body)
        found += [(decode_body(envelope.body).KIND, envelope.body) for envelope in body.records]
        for bundle in body.votes:
            keys = {index: node.key for index, node in chain.state.nodes.items()}
            votes = [vote_of(bundle, keys[index]) for index, _ in votes_in(bundle)]
            found += [(vote.KIND, encode_body(vote)) for vote in votes]
    return found


def raw_codec() -> dict[str, Callable[[Any], object]]:
    """Return msgspec's own encoder and decoder of all kinds, without the check of canonical bytes."""
    union = reduce(or_, cast("Sequence[Any]", kinds()))
    return {"encode": msgspec.msgpack.Encoder().encode, "decode": msgspec.msgpack.Decoder(union).decode}


def rate(function: Callable[[Any], object], items: Sequence[object]) -> Callable[[], float]:
    """Return a measurement of the calls per second of processor time, so that other programs don't count."""

    def measure() -> float:
        start = time.process_time()
        for item in items:
            function(item)
        return len(items) / (time.process_time() - start)

    return measure


def measurements(name: str, data: list[bytes], calls: int) -> dict[str, Callable[[], float]]:
    """Return what is measured of one set of bodies, repeated until there are enough calls."""
    repeated = (data * (calls // len(data) + 1))[:calls]
    items: dict[str, Sequence[Body] | Sequence[bytes]] = {
        "encode": [decode_body(item) for item in repeated],
        "decode": repeated,
    }
    raw = raw_codec()
    return {
        f"{name} {whose} {way}": rate(codec[way], items[way])
        for way in ("encode", "decode")
        for whose, codec in (("ours", OURS), ("raw", raw))
    }


def main(figures: Figures) -> None:
    """Measure the mix and every kind in it."""
    found = collect()
    by_kind: dict[str, list[bytes]] = defaultdict(list)
    for kind, data in found:
        by_kind[kind].append(data)
    functions = measurements("mix", [data for _, data in found], MIX_CALLS)
    for kind, bodies in by_kind.items():
        functions |= measurements(kind, bodies, KIND_CALLS)
    progress(f"{len(functions)} measurements a round")
    medians = interleaved(functions, ROUNDS)
    for way in ("encode", "decode"):
        ours, raw = medians[f"mix ours {way}"], medians[f"mix raw {way}"]
        figures.add(f"{way}_per_s", ours, "records/s", least=GOAL_PER_S)
        figures.add(f"{way}_raw_per_s", raw, "records/s")
        figures.add(f"{way}_ratio", ours / raw)
    rows: list[list[float | str]] = []
    for kind in ["mix", *sorted(by_kind)]:
        bodies = by_kind.get(kind) or [data for _, data in found]
        size = sum(map(len, bodies)) / len(bodies)
        rates = [
            medians[f"{kind} {whose} {way}"] for way in ("encode", "decode") for whose in ("ours", "raw")
        ]
        rows.append([kind, len(bodies), size, *rates])
    header = ["kind", "in the mix", "bytes", "encode/s", "msgspec alone", "decode/s", "msgspec alone"]
    figures.add_table(
        "per kind; decoding includes the check that the bytes are canonical, msgspec alone leaves it out",
        header,
        rows,
    )


if __name__ == "__main__":
    run("codec", main)
