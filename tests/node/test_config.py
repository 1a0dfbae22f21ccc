"""The node's settings: sources, bounds, messages."""

from pathlib import Path
from typing import Any

import pytest

from ledger_core.node.config import ConfigError, Settings, load_settings, parse_text, settings_reference


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"HOME": "x"}) == Settings()


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('mining_share = 0.5\npeers = ["a:1"]\napi_port = 1\n')
    environment = {"ENERGY_LEDGER_API_PORT": "2", "ENERGY_LEDGER_PEERS": "b:2, c:3,"}
    settings = load_settings(tmp_path, environment, {"api_port": 3})
    assert (settings.mining_share, settings.peers, settings.api_port) == (0.5, ("b:2", "c:3"), 3)


@pytest.mark.parametrize(
    ("toml", "environment", "flags", "code", "parts"),
    [
        ("mining_share = 2.0", {}, {}, "setting_invalid", ("mining_share", "node.toml", "at most 1")),
        ("mining = 1", {}, {}, "setting_invalid", ("node.toml: mining: 1 is not true or false",)),
        ("api_port = 70000", {}, {}, "setting_invalid", ("is not a whole number from 0 to 65535",)),
        ('peers = "a:1"', {}, {}, "setting_invalid", ("peers: 'a:1' is not a list of at most 16 texts",)),
        ('log_level = "x"', {}, {}, "setting_invalid", ("'x' is not one of debug, info, warning, error",)),
        ('api_host = ""', {}, {}, "setting_invalid", ("'' is not a text of 1 to 255 characters",)),
        ("minning = true", {}, {}, "setting_unknown", ("node.toml", "minning", "mining")),
        ("mining", {}, {}, "config_unreadable", ("node.toml", "TOML")),
        (
            "",
            {"ENERGY_LEDGER_API_PORT": "x"},
            {},
            "setting_invalid",
            ("ENERGY_LEDGER_API_PORT: api_port: 'x' is not",),
        ),
        (
            "",
            {"ENERGY_LEDGER_MINING": "maybe"},
            {},
            "setting_invalid",
            ("_MINING: mining: 'maybe' is not yes or",),
        ),
        ("", {"ENERGY_LEDGER_PEERS": "foo"}, {}, "setting_invalid", ("_PEERS: peers: 'foo'", "host:port")),
        ("", {"ENERGY_LEDGER_FOO": "1"}, {}, "setting_unknown", ("ENERGY_LEDGER_FOO", "foo")),
        ("", {"ENERGY_LEDGER_API_PORT": "70000"}, {}, "setting_invalid", ("api_port", "65535")),
        ("", {}, {"log_level": "loud"}, "setting_invalid", ("--log-level on the command line", "debug")),
        ("", {}, {"nothing": 1}, "setting_unknown", ("command line", "nothing")),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    toml: str,
    environment: dict[str, str],
    flags: dict[str, Any],
    code: str,
    parts: tuple[str, ...],
) -> None:
    (tmp_path / "node.toml").write_text(toml)
    with pytest.raises(ConfigError) as refusal:
        load_settings(tmp_path, environment, flags)
    assert refusal.value.code == code
    for part in parts:
        assert part in refusal.value.message
    assert code != "setting_invalid" or "Expected" not in refusal.value.message


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.toml").mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize("text", ["1", "yes", "True", "ON"])
def test_yes_in_its_ways(text: str) -> None:
    assert parse_text("mining", text, "here") is True


@pytest.mark.parametrize("text", ["0", "no", "False", "OFF"])
def test_no_in_its_ways(text: str) -> None:
    assert parse_text("mining", text, "here") is False


def test_every_setting_is_described_and_its_default_is_within_its_bounds(tmp_path: Path) -> None:
    reference = settings_reference()
    assert [setting.name for setting in reference] == list(Settings.__struct_fields__)
    for setting in reference:
        assert setting.help.endswith(".")
        assert setting.flag == "--" + setting.name.replace("_", "-")
        assert setting.variable == "ENERGY_LEDGER_" + setting.name.upper()
        assert load_settings(tmp_path, {}, {setting.name: setting.default}) == Settings()
    by_name = {setting.name: setting for setting in reference}
    assert by_name["mining_share"].bounds == "above 0 to 1"
    assert by_name["log_level"].bounds == "debug, info, warning, error"
    assert by_name["api_port"].bounds == "0 to 65535"
