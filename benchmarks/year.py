"""A year of 50 homes, extrapolated from days: disk per reading, restart, memory; raw limit: signatures."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures, interleaved, progress, run
from ledger_core.chain.chain import SNAPSHOT_EVERY, Chain
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.synthetic import Config, GeneratedBlock, SyntheticChain
from ledger_core.synthetic.weather import DAY

ROOT = Path(__file__).resolve().parents[1]
HOMES, DAYS, FIRST = 50, 9, 7
"""The slope is taken from the end of day `FIRST` to the end of the last: longer than trades can be scored."""

GROWTH = (10, 25, 100)
GROWTH_DAYS, GROWTH_FIRST = 3, 1
YEAR_DAYS = 365
STARTS = 5
MIB = 2**20


@dataclass(frozen=True)
class Mark:
    """What a chain took at the end of a day."""

    readings: int
    signatures: int
    database: int
    """Bytes, the write-ahead log worked off."""
    pruned: int
    """Bytes with all final bodies removed."""
    time: int

    def figure(self, field: str) -> int:
        """Return one of the numbers by its name."""
        number: int = getattr(self, field)
        return number


@dataclass(frozen=True)
class Street:
    """A street's chain on the disk, and what it took on the way."""

    homes: int
    directory: Path
    first: Mark
    last: Mark
    tip: str

    def per_reading(self, field: str, unit: int = 1) -> float:
        """Return how much of a mark's figure a reading brings, from the first mark to the last."""
        more = self.last.figure(field) - self.first.figure(field)
        return more * unit / (self.last.readings - self.first.readings)

    @property
    def readings_a_day(self) -> float:
        """Return the slot boundaries told a day."""
        return (self.last.readings - self.first.readings) * DAY / (self.last.time - self.first.time)

    def year_mib(self, field: str) -> float:
        """Return the size after a year: the last mark and the slope from there on."""
        days_left = YEAR_DAYS - DAYS
        return (self.last.figure(field) + self.per_reading(field) * self.readings_a_day * days_left) / MIB


def live(homes: int, days: int, first: int, directory: Path) -> Street:
    """Have a street live for some days, and keep its chain in a directory."""
    synthetic = SyntheticChain(Config(homes=homes, duration_s=days * DAY, seed=1))
    marks: dict[int, Mark] = {}

    def day_of(item: GeneratedBlock) -> int:
        return (item.time - synthetic.config.start - 1) // DAY + 1

    with open_store(directory, synthetic.genesis) as store, Verifier(1) as verifier:
        store.set_durable(durable=False)
        chain = Chain.open(store, verifier)
        for day, items in groupby(up_to_the_next_snapshot(synthetic), day_of):
            chain.add_blocks((item.block for item in items), synthetic.config.end)
            progress(f"{homes} homes, day {day} of {days}, {chain.height} blocks")
            if day in (first, days):
                marks[day] = mark(synthetic, chain, store, directory)
        store.set_durable(durable=True)
    return Street(homes, directory, marks[first], marks[days], chain.tip_hash.hex())


def up_to_the_next_snapshot(synthetic: SyntheticChain) -> Iterator[GeneratedBlock]:
    """Yield a chain's blocks, and end in its last hours where a restart has the most to replay."""
    cycle = synthetic.config.checkpoint_interval * SNAPSHOT_EVERY
    late = synthetic.config.end - 2 * cycle * synthetic.config.spacing_s
    for item in synthetic.blocks():
        yield item
        if item.time > late and not item.side and (item.height + 1) % cycle == 0:
            return
    raise RuntimeError("no snapshot is due in the last hours of the chain")


def mark(synthetic: SyntheticChain, chain: Chain, store: SqliteStore, directory: Path) -> Mark:
    """Measure a store as it is, and a copy of it without bodies."""
    store.checkpoint()
    usage = store.usage()
    tally = synthetic.tally
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        copy = Path(name) / "copy"
        shutil.copytree(directory, copy)
        with open_store(copy) as other:
            other.prune(other.final()[0])
            other.compact()
            pruned = other.usage()
    return Mark(
        tally.reading_rows,
        tally.signatures,
        usage.database + usage.log,
        pruned.database + pruned.log,
        chain.state.tip.times[-1],
    )


def start_process(*arguments: str | Path) -> tuple[float, dict[str, Any]]:
    """Return how long a fresh process took until it was ready, and what it told."""
    command = [sys.executable, "-m", "benchmarks._open_chain", *map(str, arguments)]
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the process has no output")
        line = process.stdout.readline()
        took = time.perf_counter() - begun
    if process.returncode:
        raise RuntimeError(f"the process that opens the chain ended with code {process.returncode}")
    return took, json.loads(line)


def restart(street: Street) -> tuple[float, float, dict[str, Any]]:
    """Return the medians of seconds and MiB of fresh processes that open a chain, and what they told."""
    told = [start_process(street.directory) for _ in range(STARTS)]
    if any(found["tip"] != street.tip for _, found in told):
        raise RuntimeError("the chain was opened at another tip")
    seconds = statistics.median(took for took, _ in told)
    return seconds, statistics.median(found["rss_mib"] for _, found in told), told[0][1]


def growth_row(street: Street) -> list[float | str]:
    """Return a street's line of the table of growth."""
    seconds, rss, _ = restart(street)
    return [
        street.homes,
        street.readings_a_day,
        street.per_reading("database"),
        street.per_reading("signatures", 64),
        street.per_reading("pruned"),
        street.year_mib("database"),
        street.year_mib("pruned"),
        seconds,
        rss,
    ]


def main(figures: Figures) -> None:
    """Measure 50 homes, then how everything grows from 10 to 100."""
    with tempfile.TemporaryDirectory(prefix="energy-ledger-year-") as name:
        place = Path(name)
        street = live(HOMES, DAYS, FIRST, place / str(HOMES))
        medians = interleaved(
            {
                "open": lambda: start_process(street.directory)[0],
                "bare": lambda: start_process()[0],
            },
            STARTS,
        )
        _, rss, found = restart(street)
        figures.add("bytes_per_reading", street.per_reading("database"), "B", most=150)
        figures.add("signature_bytes_per_reading", street.per_reading("signatures", 64), "B")
        figures.add("pruned_bytes_per_reading", street.per_reading("pruned"), "B")
        figures.add("year_mib", street.year_mib("database"), "MiB")
        figures.add("year_pruned_mib", street.year_mib("pruned"), "MiB")
        figures.add("readings_per_year", round(street.readings_a_day * YEAR_DAYS))
        figures.add("restart_s", medians["open"], "s", most=3)
        figures.add("bare_process_s", medians["bare"], "s")
        figures.add("blocks_replayed", int(found["replayed"]), "blocks")
        figures.add("rss_mib", rss, "MiB", most=120)
        figures.add("bare_rss_mib", start_process()[1]["rss_mib"], "MiB")
        rows = [growth_row(street)]
        rows += [growth_row(live(homes, GROWTH_DAYS, GROWTH_FIRST, place / str(homes))) for homes in GROWTH]
    figures.add_table(
        f"growth; a year is extrapolated from what days {FIRST + 1} to {DAYS} ({HOMES} homes) or "
        f"{GROWTH_FIRST + 1} to {GROWTH_DAYS} (others) added\n"
        "restart and memory as they were then; what is kept in memory doesn't grow with the chain's age",
        [
            "homes",
            "readings a day",
            "B a reading",
            "of it signatures",
            "pruned",
            "MiB a year",
            "pruned",
            "restart s",
            "RSS MiB",
        ],
        sorted(rows, key=lambda row: float(row[0])),
    )


if __name__ == "__main__":
    run("year", main)
