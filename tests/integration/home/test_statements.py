"""The action that makes a month's statement, and the settled slots in the list of trades."""

import csv
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from homeassistant.exceptions import ServiceValidationError
from homeassistant.util import dt as dt_util

from custom_components.energy_ledger.actions.statements import last_month
from custom_components.energy_ledger.quantities import moment
from ledger_core.keys import address

from .conftest import Street

ANNA = {"name": "Anna", "iban": "DE89370400440532013000"}
BERT = {"name": "Bert", "iban": "GB82WEST12345698765432"}


async def settled(street: Street) -> tuple[str, str]:
    """Anna has bought 1 kWh of Bert and got it; returns the month and Bert's address."""
    trade = await street.buy(1_000)
    await street.settle(trade, 500, 500)
    await street.until(lambda: len(street.data.trading.statements.lines()) == 2)
    month = dt_util.as_local(moment(trade.end - 1)).strftime("%Y-%m")
    return month, address(street.world["bert"].id)


async def test_a_month_as_csv_and_payments(street: Street) -> None:
    month, bert = await settled(street)
    answer = await street.call("statement", month=month, **ANNA, accounts={bert: BERT})
    (row,) = csv.DictReader(io.StringIO(answer["csv"]))
    assert (row["neighbour"], row["bought_kwh"]) == (bert, "1.000")
    (partner,) = answer["neighbours"]
    assert (partner["neighbour"], partner["bought_kwh"], partner["owed"]) == (bert, 1.0, 0.2)
    root = ET.fromstring(answer["payments"])
    assert [each.text for each in root.iter() if each.tag.endswith("InstdAmt")] == ["0.20"]
    assert answer["files"] == []
    listed = await street.call("list_trades", settlements=True, role="buyer")
    assert [(each["delivered_kwh"], each["paid"]) for each in listed["settlements"]] == [(0.5, 0.1)] * 2
    asked = ("difference_kwh", "price", "agreed_amount", "difference_amount")
    assert [[each[name] for name in asked] for each in listed["settlements"]] == [[0.0, 0.2, 0.1, 0.0]] * 2
    slots = list(csv.DictReader(io.StringIO(answer["slots_csv"])))
    assert [each["slot_end"] for each in slots] == [each["slot_end"] for each in listed["settlements"]]
    assert (await street.call("list_trades", settlements=True, role="seller"))["settlements"] == []
    assert "settlements" not in await street.call("list_trades")


async def test_files_only_where_home_assistant_may_write(street: Street, tmp_path: Path) -> None:
    month, bert = await settled(street)
    given: dict[str, Any] = {"month": month, **ANNA, "accounts": {bert: BERT}}
    with pytest.raises(ServiceValidationError) as caught:
        await street.call("statement", directory=str(tmp_path / "out"), **given)
    assert caught.value.translation_key == "directory_not_allowed"
    street.hass.config.allowlist_external_dirs.add(str(tmp_path.resolve()))
    answer = await street.call("statement", directory=str(tmp_path / "out"), **given)
    assert [Path(each).name for each in answer["files"]] == [
        f"energy-ledger-{month}.csv",
        f"energy-ledger-{month}-slots.csv",
        f"energy-ledger-{month}-pain001.xml",
    ]
    assert Path(answer["files"][0]).read_bytes().decode() == answer["csv"]
    assert Path(answer["files"][1]).read_bytes().decode() == answer["slots_csv"]
    assert Path(answer["files"][2]).read_text() == answer["payments"]
    street.hass.config.allowlist_external_dirs.add(street.hass.config.path("www"))
    for public in ("www", "www/statements", "statements/../www"):
        with pytest.raises(ServiceValidationError) as caught:
            await street.call("statement", directory=public, **given)
        assert caught.value.translation_key == "directory_not_allowed"
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceValidationError) as caught:
        await street.call("statement", directory=str(tmp_path / "file"), **given)
    assert caught.value.translation_key == "file_not_written"


async def test_what_is_missing_is_named(street: Street) -> None:
    month, bert = await settled(street)
    with pytest.raises(ServiceValidationError) as caught:
        await street.call("statement", month=month, **ANNA)
    assert bert in str(caught.value)
    empty = await street.call("statement")
    assert (empty["month"], empty["neighbours"], empty["payments"]) == (last_month(), [], None)
