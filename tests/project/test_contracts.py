"""The import contract covers every module it should; `lint-imports` can check only those it names."""

import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "ledger_core"

PURE = {"rules", "market"}
FOR_THE_INTEGRATION = {"client", "records", "keys", "market", "units", "errors"}
FOR_THE_MARKET = {"records", "units", "errors", "market"}


def contracts() -> dict[str, dict[str, Any]]:
    """Give the contracts of pyproject.toml by name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = cast("list[dict[str, Any]]", settings["tool"]["importlinter"]["contracts"])
    return {contract["name"]: contract for contract in found}


def ledger_modules() -> set[str]:
    """Give the names of ledger_core's modules and packages, `__init__` and `__main__` left out."""
    packages = {path.parent.name for path in LEDGER.glob("*/__init__.py")}
    return packages | {path.stem for path in LEDGER.glob("*.py") if not path.stem.startswith("__")}


def full(names: set[str]) -> set[str]:
    """Give the modules' full names."""
    return {f"ledger_core.{name}" for name in names}


def test_what_is_pure_is_held_to_it() -> None:
    """Every pure package that exists is a source of the contract on clocks, files, sockets and chance."""
    contract = contracts()["Rules are pure: no clock, file, socket or random source"]
    assert set(contract["source_modules"]) == full(PURE & ledger_modules())
    forbidden = {"asyncio", "datetime", "os", "random", "secrets", "socket", "sqlite3", "threading", "time"}
    assert set(contract["forbidden_modules"]) >= forbidden


def test_the_integration_is_kept_from_the_nodes_insides() -> None:
    """Every module of the ledger that is not meant for the integration is forbidden to it."""
    contract = contracts()["The integration reaches a node through the client alone"]
    assert set(contract["forbidden_modules"]) == full(ledger_modules() - FOR_THE_INTEGRATION)


def test_the_market_sees_records_only() -> None:
    """Once there is a market, a contract forbids it all of the ledger but the records."""
    contract = contracts().get("The market sees records only")
    if "market" not in ledger_modules():
        assert contract is None, "the market is gone; its contract can go too"
        return
    assert contract is not None, "add the contract 'The market sees records only' to pyproject.toml"
    assert contract["source_modules"] == ["ledger_core.market"]
    assert set(contract["forbidden_modules"]) == full(ledger_modules() - FOR_THE_MARKET)


@pytest.mark.parametrize(
    ("name", "source", "forbidden"),
    [
        ("The ledger knows nothing of Home Assistant", "ledger_core", "homeassistant"),
        (
            "The Modbus devices know nothing of Home Assistant",
            "custom_components.energy_ledger.devices",
            "homeassistant",
        ),
    ],
)
def test_home_assistant_stays_outside(name: str, source: str, forbidden: str) -> None:
    """Not even through a third module: these contracts count indirect imports."""
    contract = contracts()[name]
    assert contract["source_modules"] == [source]
    assert forbidden in contract["forbidden_modules"]
    assert "allow_indirect_imports" not in contract


def test_every_module_of_the_ledger_has_its_layer() -> None:
    """The layers are exhaustive, and in the order that the architecture tells."""
    contract = contracts()["Inside the ledger, dependencies point one way"]
    assert contract["exhaustive"] is True
    layers = [{part.strip(" ()") for part in layer.split(":")} for layer in contract["layers"]]
    above = [{"cli"}, {"client"}, {"simulation"}, {"node"}, {"synthetic"}, {"chain"}, {"rules"}, {"market"}]
    assert layers[:-1] == above
    assert layers[-1] >= {"records", "keys", "community", "units"}
