"""What every benchmark shares: interleaved measuring, progress, and one way to print figures.

A benchmark is a module of this folder whose docstring's first line says what it measures and which ends in

    if __name__ == "__main__":
        run("NAME", main)

where `main` takes a `Figures` and adds to it. `script/bench NAME` then prints a table, and
`script/bench NAME --json` one object `{"bench": NAME, "figures": {KEY: NUMBER, ...}}` on stdout.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def progress(text: str) -> None:
    """Tell on stderr what is being done; stdout is for the figures alone."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def interleaved(functions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Call each function once in every round, and give the median of what each returned.

    Interleaving spreads a slow moment of the machine over all of them, so that their ratio holds. Each
    function measures itself and returns its figure (seconds, or a rate), so that what it prepares does not
    count; `timed` makes one of a callable that is measured as a whole. The order turns by one place each
    round, so that no function always runs first.

    Raises ValueError for less than one round.
    """
    if rounds < 1:
        raise ValueError(f"interleaved needs at least 1 round, not {rounds}")
    names = list(functions)
    results: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: {', '.join(names)}")
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            results[name].append(functions[name]())
    return {name: statistics.median(values) for name, values in results.items()}


def timed(function: Callable[[], object]) -> Callable[[], float]:
    """Give a function that calls `function` once and returns the seconds it took."""

    def measure() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return measure


@dataclass(frozen=True, slots=True)
class _Goal:
    """A bound that a figure should keep, at least or at most."""

    least: float | None
    most: float | None

    def __str__(self) -> str:
        if self.least is not None:
            return f"≥ {_number(self.least)}"
        return f"≤ {_number(self.most)}" if self.most is not None else ""

    def verdict(self, value: float) -> str:
        """Say whether a value keeps the bound; nothing where there is none."""
        if self.least is None and self.most is None:
            return ""
        kept = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        return "reached" if kept else "MISSED"


def _number(value: float) -> str:
    """Write a number with about four significant digits, thousands apart by a space."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.4g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Lay text out in columns as wide as their longest cell."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


class Figures:
    """The named numbers that a benchmark found, in the order it added them, and tables beside them."""

    def __init__(self, bench: str) -> None:
        self.bench = bench
        self._figures: dict[str, float] = {}
        self._rows: list[tuple[str, str, str, str, str]] = []
        self._tables: list[str] = []

    def add(
        self, key: str, value: float, unit: str = "", *, least: float | None = None, most: float | None = None
    ) -> None:
        """Add a figure, and the goal it should reach.

        Raises ValueError for a key that was added before, for a value that is no finite number (JSON has no
        way to write it), and for two goals at once.
        """
        if key in self._figures:
            raise ValueError(f"figure {key!r} was added before")
        if not math.isfinite(value):
            raise ValueError(f"figure {key!r} is {value}, which is no finite number")
        if least is not None and most is not None:
            raise ValueError(f"figure {key!r} may have one goal, least or most, not both")
        goal = _Goal(least, most)
        self._figures[key] = value
        self._rows.append((key, _number(value), unit, str(goal), goal.verdict(value)))

    def add_table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """Add a table that is printed below the figures, such as one of growth; it is not in the JSON."""
        cells = [[cell if isinstance(cell, str) else _number(cell) for cell in row] for row in rows]
        text = _table(header, cells, [column > 0 for column in range(len(header))])
        self._tables.append(f"{title}\n{text}")

    def as_json(self) -> str:
        """Give the figures as one JSON object on one line."""
        return json.dumps({"bench": self.bench, "figures": self._figures})

    def as_text(self) -> str:
        """Give the figures, their goals and the machine as aligned tables."""
        machine = f"Python {platform.python_version()}, {os.process_cpu_count()} cores, {platform.machine()}"
        figures = _table(
            ("figure", "value", "unit", "goal", ""), self._rows, (False, True, False, False, False)
        )
        return "\n\n".join([f"{self.bench}  ({machine})\n\n{figures}", *self._tables])


def run(bench: str, measure: Callable[[Figures], None], arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark and print its figures, as a table or with `--json` as one JSON object.

    `arguments` stand in for the command line's. Exits with code 2 on an unknown argument.
    """
    parser = argparse.ArgumentParser(prog=f"script/bench {bench}")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args(arguments)
    figures = Figures(bench)
    measure(figures)
    print(figures.as_json() if options.json else figures.as_text())
