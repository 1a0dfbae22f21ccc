"""What an own node is told: the options of its entry, then the environment, then its own defaults."""

import os
from pathlib import Path
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped]

from custom_components.energy_ledger.const import (
    CONF_ADVERTISE,
    CONF_LOG_LEVEL,
    CONF_MINING,
    CONF_MINING_SHARE,
    CONF_PEER_PORT,
    CONF_PEERS,
    DOMAIN,
)
from custom_components.energy_ledger.node.process import NodeLaunch
from custom_components.energy_ledger.node_setup import node_settings
from ledger_core.node.config import Settings, load_settings


def told(hass: HomeAssistant, folder: Path, options: dict[str, Any]) -> dict[str, str]:
    """The environment that a node with these options of its entry is started with."""
    entry = MockConfigEntry(domain=DOMAIN, options=options)
    return NodeLaunch(directory=folder, settings=node_settings(hass, entry)).environment()


def read(folder: Path, environment: dict[str, str]) -> Settings:
    """What the node itself makes of its environment."""
    return load_settings(folder, environment)


def test_the_environment_stands_where_nothing_was_chosen(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGY_LEDGER_PEER_HOST", "127.0.0.1")
    monkeypatch.setenv("ENERGY_LEDGER_PEER_PORT", "4711")
    monkeypatch.setenv("ENERGY_LEDGER_MINING", "no")
    monkeypatch.setenv("ENERGY_LEDGER_DISCOVERY", "no")
    settings = read(tmp_path, told(hass, tmp_path, {}))
    assert (settings.peer_host, settings.peer_port) == ("127.0.0.1", 4711)
    assert (settings.mining, settings.discovery) == (False, False)


def test_what_was_chosen_counts_more_than_the_environment(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGY_LEDGER_PEER_HOST", "127.0.0.1")
    monkeypatch.setenv("ENERGY_LEDGER_PEER_PORT", "4711")
    monkeypatch.setenv("ENERGY_LEDGER_MINING", "no")
    monkeypatch.setenv("ENERGY_LEDGER_PEERS", "192.0.2.1:1")
    chosen = {
        CONF_PEER_PORT: 4712,
        CONF_MINING: True,
        CONF_MINING_SHARE: 25,
        CONF_PEERS: ["192.0.2.2:4711", "192.0.2.3:4711"],
        CONF_ADVERTISE: "home.example.org:4712",
        CONF_LOG_LEVEL: "debug",
    }
    settings = read(tmp_path, told(hass, tmp_path, chosen))
    assert (settings.peer_host, settings.peer_port) == ("127.0.0.1", 4712)
    assert (settings.mining, settings.mining_share) == (True, 0.25)
    assert list(settings.peers) == ["192.0.2.2:4711", "192.0.2.3:4711"]
    assert (settings.advertise, settings.log_level) == ("home.example.org:4712", "debug")


def test_without_either_the_node_has_its_defaults(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ENERGY_LEDGER_")]:
        monkeypatch.delenv(name)
    defaults = read(tmp_path, {})
    assert read(tmp_path, told(hass, tmp_path, {})) == defaults
    empty = {CONF_ADVERTISE: "", CONF_PEER_PORT: None, CONF_LOG_LEVEL: None}
    assert read(tmp_path, told(hass, tmp_path, empty)) == defaults
