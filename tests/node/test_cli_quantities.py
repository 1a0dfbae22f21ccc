"""What people write comes out exact, or is refused with what would be right; what is shown reads back."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.cli import quantities
from ledger_core.cli.frame import UsageError
from ledger_core.cli.quantities import (
    duration,
    energy,
    moment,
    money,
    past_moment,
    power,
    show_time,
    show_window,
)
from ledger_core.cli.refusal_text import people_text
from ledger_core.cli.tables import columns

NOW = 1_795_269_600
"""2026-11-21 14:00 UTC"""


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (energy, "4", 4000),
        (energy, "4.5 kWh", 4500),
        (energy, "4500wh", 4500),
        (energy, "0.001", 1),
        (energy, "2MWh", 2_000_000),
        (power, "2.5", 2500),
        (power, "1 W", 1),
        (power, "1MW", 1_000_000),
        (duration, "90min", 5400),
        (duration, "1.5h", 5400),
        (duration, "7d", 7 * 86_400),
        (duration, "2w", 14 * 86_400),
        (money, "12.50", 12_500_000),
        (money, "0.000001", 1),
        (money, "7", 7_000_000),
    ],
)
def test_quantities_as_people_write_them(parse: Callable[[str, str], int], text: str, value: int) -> None:
    assert parse(text, "--x") == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (energy, ""),
        (energy, "-1"),
        (energy, "1,5"),
        (energy, "4 kW"),
        (energy, "0.0005"),
        (energy, "1e3"),
        (energy, "4" + "0" * 60),
        (power, "nan"),
        (power, "0.5W"),
        (duration, "5"),
        (duration, "5 years"),
        (duration, "0.5s"),
        (money, "1.0000001"),
        (money, "EUR 5"),
        (money, "-5"),
    ],
)
def test_what_can_not_be_is_refused_by_the_option_s_name(parse: Callable[[str, str], int], text: str) -> None:
    with pytest.raises(UsageError, match="--x: "):
        parse(text, "--x")


@pytest.mark.parametrize("parse", [energy, power, money])
def test_no_decimal_is_too_far_behind_the_point_to_be_seen(parse: Callable[[str, str], int]) -> None:
    with pytest.raises(UsageError, match=r"--x: .* is too fine"):
        parse("1.0000000000000000000000000000001", "--x")
    assert parse("1.00000000000000000000000000", "--x") == parse("1", "--x")


def test_a_number_that_is_too_long_is_not_called_too_fine() -> None:
    with pytest.raises(UsageError, match=r"--x: '4000000000.*' is too long for a number"):
        energy("4" + "0" * 60, "--x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("now", NOW),
        ("+90min", NOW + 5400),
        ("16:00", NOW + 3600),
        ("15:00", NOW + 86_400),
        ("9:30", NOW + 66_600),
        ("today 14:00", NOW - 3600),
        ("tomorrow 15:00", NOW + 86_400),
        ("2026-11-21 15:00", NOW),
        ("2026-11-21T15:00:30", NOW + 30),
        ("2026-11-21T14:00Z", NOW),
        ("2026-11-21T14:00+02:00", NOW - 7200),
        ("2026-11-22", NOW + 9 * 3600),
        ("2026-10-25T02:30+01:00", 1_792_891_800),
    ],
)
def test_times_as_people_write_them(text: str, value: int) -> None:
    assert moment(text, "--from", NOW) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("25:00", "or +90min"),
        ("noon", "or +90min"),
        ("", "or +90min"),
        ("+5", "time span"),
        ("2026-02-30 10:00", "or +90min"),
        ("2026-10-25 02:30", "comes twice"),
        ("2026-03-29 02:30", "does not come"),
        ("2026-11-21 15:00:00.5", "whole seconds"),
        ("1969-01-01 00:00", "before 1970"),
        ("0001-01-01 00:00", ""),
    ],
)
def test_times_that_are_none_or_unclear(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="--from: ") as caught:
        moment(text, "--from", NOW)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90min", NOW - 5400), ("2d", NOW - 172_800), ("16:00", NOW + 3600), ("+1h", NOW + 3600)],
)
def test_times_that_have_been(text: str, value: int) -> None:
    assert past_moment(text, "--since", NOW) == value


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        (
            "funds_insufficient",
            "60000000 micro-currency are needed, 12500000 are left",
            "60.00 are needed, 12.50 are left",
        ),
        (
            "compensation_too_low",
            "ending alone costs at least 100000 micro-currency, or",
            "ending alone costs at least 0.10, or",
        ),
        (
            "power_unavailable",
            f"400000 W wanted in the slot from {NOW}, 20000 W left",
            "400 kW wanted in the slot from 2026-11-21 15:00, 20 kW left",
        ),
        ("energy_unavailable", "4500 Wh wanted, 0 Wh left", "4.5 kWh wanted, 0 kWh left"),
        (
            "reading_early",
            f"the boundary {NOW + 900} lies after the reading's creation {NOW}",
            "the boundary 2026-11-21 15:15 lies after the reading's creation 2026-11-21 15:00",
        ),
        (
            "bid_above_ceiling",
            "the bid of 250000 exceeds the ceiling of 200000",
            "0.25 exceeds the ceiling of 0.20",
        ),
        ("slot_misaligned", "a multiple of the slot of 900 s", "a multiple of the slot of 900 s"),
        (
            "unauthorized",
            "this is not the token",
            "give its api.token with --token-file",
        ),
        (
            "os_error",
            "[Errno 28] No space left on device",
            "[Errno 28] No space left on device; energy-ledger status",
        ),
    ],
)
def test_refusals_in_people_s_units(code: str, message: str, shown: str) -> None:
    assert shown in people_text(code, message)


def test_the_clock_itself_is_used_where_no_time_is_given() -> None:
    assert abs(moment("now", "--from") - time.time()) < 5


def test_shown_for_people() -> None:
    assert quantities.show_energy(None) == "-"
    assert quantities.show_energy(1_500) == "1.5 kWh"
    assert quantities.show_energy(10_000) == "10 kWh"
    assert quantities.show_quantity(500, "capacity") == "0.5 kW"
    assert quantities.show_quantity(500, "energy") == "0.5 kWh"
    assert quantities.show_money(-1_230_000, "EUR") == "-1.23 EUR"
    assert quantities.show_money(1, "EUR") == "0.000001 EUR"
    assert quantities.show_price(200_000, "EUR", "energy") == "0.20 EUR/kWh"
    assert quantities.show_price(35_500, "EUR", "capacity") == "0.0355 EUR/kW h"
    assert show_time(NOW) == "2026-11-21 15:00"
    assert show_time(NOW + 5) == "2026-11-21 15:00:05"
    assert show_time(2**40) == f"{2**40} s after 1970"
    assert show_window(NOW, NOW + 900) == "2026-11-21 15:00 - 15:15"
    assert show_window(NOW, NOW + 86_400) == "2026-11-21 15:00 - 2026-11-22 15:00"
    assert quantities.show_address("el1short") == "el1short"
    assert quantities.show_utc(NOW) == "2026-11-21 14:00:00 UTC"
    assert quantities.show_utc(2**40) == f"{2**40} s after 1970"
    assert [quantities.show_span(span) for span in (-1, 4.6, 65, 3600)] == [
        "0 s",
        "5 s",
        "1 min 5 s",
        "1 h 0 min",
    ]


@given(st.integers(0, 10**15))
def test_money_and_energy_that_are_shown_read_back(value: int) -> None:
    assert money(quantities.show_money(value, "").strip(), "--x") == value
    assert energy(quantities.show_energy(value), "--x") == value
    assert power(quantities.show_power(value), "--x") == value


@given(st.integers(0, 4 * 10**9))
def test_a_time_that_is_shown_reads_back_unless_the_clocks_changed(value: int) -> None:
    shown = show_time(value)
    try:
        assert moment(shown, "--x") == value
    except UsageError:
        local = datetime.fromisoformat(shown)
        assert local.astimezone().utcoffset() != local.replace(fold=1).astimezone().utcoffset()


def test_columns_are_aligned() -> None:
    rows = [("a", "5"), ("longer", "10")]
    assert columns(("name", "figure"), rows, "none") == ["name    figure", "a            5", "longer      10"]
    assert columns(("name",), [], "none") == ["none"]
