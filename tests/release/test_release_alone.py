"""The release as HACS unpacks it, in real Home Assistants that know nothing of this repository."""

import asyncio
import subprocess
import sys
import time
import venv
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import homeassistant
import pytest

from demo.assistant import ROOT
from demo.bargains import turn_on
from demo.houses import HOUSES
from demo.resident import DOMAIN, Resident
from demo.rest import wait_for
from demo.street import GRACE_S, SLOT_S, TERMS

VERSION = "9.8.7"
LEAD_S = 25
"""Offer, acceptance and their blocks fit in before the window."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return energy_ledger.zip, made of the working tree."""
    made = tmp_path_factory.mktemp("release") / "energy_ledger.zip"
    command = [sys.executable, str(ROOT / "script" / "release"), VERSION, "--output", str(made)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return made


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has what Home Assistant has, and nothing of this repository."""
    folder = tmp_path_factory.mktemp("python")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(homeassistant.__file__).parent.parent
    # The .pth files of a folder that is named in one are not read: one of those names the repository.
    (folder / "lib" / version / "site-packages" / "deps.pth").write_text(f"{packages}\n")
    return folder / "bin" / "python"


def test_the_python_knows_nothing_of_the_repository(foreign_python: Path, tmp_path: Path) -> None:
    """Or the test below would show nothing."""
    code = (
        "import importlib.util as u, homeassistant, sys; "
        "sys.exit(any(u.find_spec(name) for name in ('ledger_core', 'custom_components', 'simulator')))"
    )
    done = subprocess.run([foreign_python, "-c", code], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.timeout(480)
async def test_two_homes_set_up_the_release_and_trade(
    archive: Path,
    foreign_python: Path,
    tmp_path: Path,
    socket_enabled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found, join, add devices, sell, accept, deliver, settle: from the unpacked archive alone."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    seller, buyer = (
        Resident(house, tmp_path / house.key, python=str(foreign_python)) for house in (HOUSES[0], HOUSES[2])
    )
    for home in (seller, buyer):
        with zipfile.ZipFile(archive) as content:
            content.extractall(home.assistant.config_dir / "custom_components" / DOMAIN)
    try:
        await _settle_in(seller, buyer)
        settled = await _trade(seller, buyer)
    finally:
        await asyncio.gather(seller.stop(), buyer.stop())
    at_seller, at_buyer = settled
    for name in ("trade", "slot_end", "agreed_kwh", "sent_kwh", "received_kwh", "delivered_kwh", "paid"):
        assert at_seller[name] == at_buyer[name], name
    assert at_seller["agreed_kwh"] == 0.05
    # Meters tell whole watt-hours; what was sold really left one home and came to the other.
    assert at_seller["delivered_kwh"] >= 0.045
    assert at_seller["paid"] == pytest.approx(at_seller["delivered_kwh"] * 0.25)
    for home in (seller, buyer):
        log = home.assistant.log_path.read_text()
        assert str(ROOT / "ledger_core") not in log
        assert "Detected blocking call" not in log


async def _settle_in(seller: Resident, buyer: Resident) -> None:
    """Start both homes, found a community, join it, and add the devices of both."""
    await asyncio.gather(seller.start(), buyer.start())
    await seller.found("Release Street", TERMS)
    await buyer.join(await seller.invite())
    for home in (seller, buyer):
        manifest = await home.api.command("manifest/get", integration=DOMAIN)
        assert manifest["version"] == VERSION
        assert (await (await home.node()).status()).version == VERSION
    await asyncio.gather(seller.add_devices(), buyer.add_devices())
    await asyncio.gather(seller.wait_assets(), buyer.wait_assets())
    # Without it the home trades in dry run, and commands no device.
    await turn_on(seller, "automatic_selling")


async def _trade(seller: Resident, buyer: Resident) -> list[dict[str, Any]]:
    """Sell a slot's energy from the seller's battery; return how it was settled, as each home was told."""
    told: dict[Resident, list[dict[str, Any]]] = {seller: [], buyer: []}

    def heard(home: Resident, event: dict[str, Any]) -> None:
        told[home].append(event)

    for home in (seller, buyer):
        home.listen(heard)
    start = -(-(int(time.time()) + LEAD_S) // SLOT_S) * SLOT_S
    offer = await seller.act("sell", quantity=0.05, price=0.25, start=_text(start), end=_text(start + SLOT_S))

    async def offered() -> bool:
        listed = await buyer.act("list_offers", own=False)
        return any(each["offer"] == offer["record"] for each in listed["offers"])

    await wait_for(offered, "the offer to be at the buyer")
    await buyer.act("accept", offer=offer["record"])

    def settled() -> list[dict[str, Any]]:
        return [event for events in told.values() for event in events if event["type"] == "slot_settled"]

    async def at_both() -> bool:
        return len(settled()) == len(told)

    await wait_for(
        at_both, "the slot to be settled at both homes", start + SLOT_S + GRACE_S + 60 - time.time()
    )
    assert {event["type"] for event in told[seller]} >= {
        "trade_agreed",
        "delivery_started",
        "delivery_ended",
        "slot_settled",
    }
    return settled()


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
