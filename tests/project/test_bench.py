"""The benchmarks' shared helper, and the command that runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main, names, summary
from benchmarks.harness import Figures, interleaved, run, timed

ROOT = Path(__file__).resolve().parents[2]


def test_json_is_one_object_with_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout holds the object alone; what a goal or a table adds is for people."""

    def measure(figures: Figures) -> None:
        figures.add("ratio", 0.9321, least=0.85)
        figures.add("count", 12, "records")
        figures.add_table("growth", ["homes", "bytes"], [[10, 1500]])

    run("sample", measure, ["--json"])
    printed = capsys.readouterr()
    assert printed.out == '{"bench": "sample", "figures": {"ratio": 0.9321, "count": 12}}\n'
    assert printed.err == ""


def test_table_shows_goals_and_whether_they_are_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure at its bound reaches it; one beyond misses it; one without a goal has no verdict."""

    def measure(figures: Figures) -> None:
        figures.add("at_least", 0.85, least=0.85)
        figures.add("too_low", 0.84, least=0.85)
        figures.add("at_most", 3, "s", most=3)
        figures.add("too_high", 1_234_567.8, "B", most=150)
        figures.add("free", 2.5)
        figures.add_table("growth", ["homes", "seconds"], [[10, 0.123456], ["all", 20]])

    run("sample", measure, [])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["at_least", "0.85", "≥", "0.85", "reached"] in lines
    assert ["too_low", "0.84", "≥", "0.85", "MISSED"] in lines
    assert ["at_most", "3", "s", "≤", "3", "reached"] in lines
    assert ["too_high", "1", "234", "568", "B", "≤", "150", "MISSED"] in lines
    assert ["free", "2.5"] in lines
    assert lines[-5:] == [
        ["growth"],
        ["homes", "seconds"],
        ["-----", "-------"],
        ["10", "0.1235"],
        ["all", "20"],
    ]


def test_columns_are_aligned() -> None:
    """Every line of the figures' table has its columns at the same places."""
    figures = Figures("sample")
    figures.add("a", 1, "s")
    figures.add("a_much_longer_name", 123456, "records/s")
    rows = figures.as_text().splitlines()[2:]
    assert {row.index("  s") for row in rows if row.startswith("a ")} == {
        row.index("  records/s") for row in rows if row.startswith("a_much")
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_refuses_what_json_cannot_write(value: float) -> None:
    """A division by a time of nothing shows at once, not in whoever reads the JSON."""
    with pytest.raises(ValueError, match=r"figure 'rate' is -?(nan|inf), which is no finite number"):
        Figures("sample").add("rate", value)


def test_refuses_the_same_key_twice_and_two_goals() -> None:
    """Mistakes of a benchmark are told to its author."""
    figures = Figures("sample")
    figures.add("rate", 1.0)
    with pytest.raises(ValueError, match="figure 'rate' was added before"):
        figures.add("rate", 2.0)
    with pytest.raises(ValueError, match="figure 'ratio' may have one goal"):
        figures.add("ratio", 1.0, least=1, most=2)
    assert json.loads(figures.as_json())["figures"] == {"rate": 1.0}


def test_unknown_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and nothing measured."""

    def measure(_figures: Figures) -> None:
        pytest.fail("measured in spite of a wrong argument")

    with pytest.raises(SystemExit) as ended:
        run("sample", measure, ["--jsno"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --jsno" in capsys.readouterr().err


def test_interleaves_and_gives_medians(capsys: pytest.CaptureFixture[str]) -> None:
    """Each round calls all, first another one each time; an outlier does not move the median."""
    order: list[str] = []
    figures = {"bare": iter([1.0, 100.0, 2.0, 3.0]), "ours": iter([5.0, 6.0, 7.0, 8.0])}

    def measure(name: str) -> float:
        order.append(name)
        return next(figures[name])

    medians = interleaved({"bare": lambda: measure("bare"), "ours": lambda: measure("ours")}, 4)
    assert medians == {"bare": 2.5, "ours": 6.5}
    assert order == ["bare", "ours", "ours", "bare"] * 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "round 4 of 4: bare, ours" in printed.err


def test_interleaved_needs_a_round() -> None:
    """No median of nothing."""
    with pytest.raises(ValueError, match="at least 1 round, not 0"):
        interleaved({}, 0)


def test_timed_calls_once_and_gives_seconds() -> None:
    """The callable runs once for each measurement, not when it is wrapped."""
    calls: list[None] = []
    measure = timed(lambda: calls.append(None))
    assert calls == []
    assert measure() >= 0
    assert len(calls) == 1


def test_every_benchmark_says_what_it_measures() -> None:
    """The list shows a line for each, and leaves the helpers out."""
    assert {"harness", "__init__", "__main__"}.isdisjoint(names())
    assert [name for name in names() if not summary(name)] == []


def test_a_wrong_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the names there are, and nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        main(["no-such-benchmark", "--json"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no benchmark named 'no-such-benchmark'" in printed.err


def test_the_list_names_every_benchmark() -> None:
    """Without a name, the command lists them all and ends well."""
    listing = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert [line.split()[0] for line in listing.stdout.splitlines()] == names()
