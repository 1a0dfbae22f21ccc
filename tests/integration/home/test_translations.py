"""Texts: complete in English and German, as Home Assistant's own checks want them, and used by the code.

Home Assistant's checker (hassfest) is no part of its package; the rules of it that need nothing else are held
here: the shape of translations and icons, and that they fit the descriptions of actions, triggers and
conditions.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import yaml
from homeassistant.helpers import selector as selectors
from probatio import UNDEFINED

from custom_components.energy_ledger.condition import CONDITIONS
from custom_components.energy_ledger.events import EndReason, Happening, ShortfallStage
from custom_components.energy_ledger.home_entities.events import OFFERS, TRADES
from custom_components.energy_ledger.home_entities.sensors import ENERGY, MARKET, MONEY, NODE
from custom_components.energy_ledger.issues import KINDS
from custom_components.energy_ledger.node_state import MINING_STATES, VOTING_STATES
from custom_components.energy_ledger.refusals import REFUSALS
from custom_components.energy_ledger.services import ACTIONS
from custom_components.energy_ledger.statistics import SERIES
from custom_components.energy_ledger.trigger import TRIGGERS
from ledger_core.records.types import Carrier

HERE = Path(__file__).parents[3] / "custom_components" / "energy_ledger"
LANGUAGES = ("en", "de")
SLUG = re.compile(r"^(?!.+[_-]{2})(?![_-])[a-z0-9_-]+(?<![_-])$")
TOP = {
    "common",
    "conditions",
    "config",
    "config_subentries",
    "device",
    "entity",
    "entity_component",
    "exceptions",
    "issues",
    "options",
    "preview_features",
    "selector",
    "services",
    "system_health",
    "title",
    "triggers",
}


def load(language: str) -> dict[str, Any]:
    text = (HERE / "translations" / f"{language}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


EN, DE = load("en"), load("de")
ICONS: dict[str, Any] = json.loads((HERE / "icons.json").read_text())


def described(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    return found


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, tree


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys() -> None:
    english, german = dict(leaves(EN)), dict(leaves(DE))
    assert english.keys() == german.keys()
    different = {path for path in english if placeholders(english[path]) != placeholders(german[path])}
    assert not different


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shape_of_the_texts(language: str) -> None:
    texts = load(language)
    assert texts.keys() <= TOP
    for path, text in leaves(texts):
        where = ".".join(path)
        assert isinstance(text, str), where
        assert text.strip() == text, where
        assert text, where
        assert "://" not in text, f"{where}: a URL is given by a placeholder"
        assert not re.search(r"</?[a-z]", text), f"{where}: no HTML"
        assert "[%key" not in text, where
        assert all(SLUG.match(part) for part in path), where


def test_german_is_german() -> None:
    """Texts of more than a word are not left in English."""
    english, german = dict(leaves(EN)), dict(leaves(DE))
    same = {path for path, text in english.items() if text == german[path] and text.count(" ") > 1}
    assert not same


@pytest.mark.parametrize(
    ("what", "names"),
    [("services", set(ACTIONS)), ("triggers", set(TRIGGERS)), ("conditions", set(CONDITIONS))],
)
def test_descriptions_fit_the_texts(what: str, names: set[str]) -> None:
    found = described(what)
    assert set(found) == names == set(EN[what]) == set(ICONS[what])
    for name, description in found.items():
        texts = EN[what][name]
        assert texts["name"]
        assert texts["description"]
        assert set(description["fields"]) == set(texts["fields"]), name
        for field, value in description["fields"].items():
            assert set(texts["fields"][field]) == {"name", "description"}, (name, field)
            selectors.validate_selector(value["selector"])
            options_are_translated(value["selector"])


def options_are_translated(selector: dict[str, Any]) -> None:
    select = selector.get("select")
    if select and "translation_key" in select:
        assert set(select["options"]) == set(EN["selector"][select["translation_key"]]["options"])


@pytest.mark.parametrize("name", list(ACTIONS))
def test_fields_of_an_action_are_those_of_its_schema(name: str) -> None:
    schema: Any = ACTIONS[name].schema.schema
    fields = described("services")[name]["fields"]
    assert {str(key) for key in schema} == set(fields)
    required = {str(key) for key in schema if type(key).__name__ == "Required"}
    defaults = {str(key) for key in required if key_of(schema, key).default is not UNDEFINED}
    assert {field for field, value in fields.items() if value.get("required")} == required - defaults


def key_of(schema: Any, name: str) -> Any:
    return next(key for key in schema if str(key) == name)


@pytest.mark.parametrize(("what", "all_of_them"), [("triggers", TRIGGERS), ("conditions", CONDITIONS)])
def test_fields_of_triggers_and_conditions(what: str, all_of_them: dict[str, Any]) -> None:
    for name, kind in all_of_them.items():
        options = next(iter(kind.schema.schema.values()))
        fields = described(what)[name]["fields"]
        assert {str(key) for key in options} == set(fields), name
        required = {str(key) for key in options if type(key).__name__ == "Required"}
        assert {field for field, value in fields.items() if value.get("required")} == required, name


def test_entities_are_named_and_have_icons() -> None:
    sensors = {each.translation_key for each in (*MONEY, *ENERGY, *MARKET, *NODE)}
    sensors |= {"money_earned", "money_spent"}
    assert sensors <= set(EN["entity"]["sensor"])
    assert sensors <= set(ICONS["entity"]["sensor"])
    for key, held in (("mining_state", MINING_STATES), ("voting_state", VOTING_STATES)):
        assert set(EN["entity"]["sensor"][key]["state"]) == set(held)
    for key, kinds in (("offers", OFFERS), ("trades", TRADES)):
        states = EN["entity"]["event"][key]["state_attributes"]["event_type"]["state"]
        assert set(states) == {kind.value for kind in kinds}
    for domain, entities in ICONS["entity"].items():
        # Icons of what a device class names need no text of their own.
        assert set(entities) <= set(EN["entity"][domain]), domain


def test_what_happens_has_a_line_in_the_logbook() -> None:
    assert {f"logbook_{kind.value}" for kind in Happening} <= set(EN["common"])
    series = {f"statistics_{carrier.value}_{each.key}" for carrier in Carrier for each in SERIES}
    assert series <= set(EN["common"])
    assert set(EN["selector"]["end_reason"]["options"]) == {reason.value for reason in EndReason}
    assert set(EN["selector"]["shortfall_stage"]["options"]) == {stage.value for stage in ShortfallStage}


def test_icons_are_icons() -> None:
    for path, icon in leaves(ICONS):
        assert icon.startswith("mdi:"), path


def test_refusals_show_their_figures() -> None:
    for code, figures in REFUSALS.items():
        message = EN["exceptions"][f"refused_{code}"]["message"]
        assert placeholders(message) <= set(figures), code


def test_issues_have_what_their_flow_shows() -> None:
    for key, issue in EN["issues"].items():
        assert issue["title"], key
        assert ("fix_flow" in issue) != ("description" in issue), key
    for key, kind in KINDS.items():
        assert ("fix_flow" in EN["issues"][key]) == kind.fixable


class Keys(ast.NodeVisitor):
    """Collects the translation keys of errors and issues in a module."""

    def __init__(self) -> None:
        self.exceptions: set[str] = set()
        self.issues: set[str] = set()

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {each.arg: each.value for each in node.keywords}
        key = given.get("translation_key")
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and "translation_domain" in given:
            self.exceptions.add(key.value)
        if name == "async_create_issue" and isinstance(key, ast.Constant):
            self.issues.add(str(key.value))
        if name == "invalid" and node.args and isinstance(node.args[0], ast.Constant):
            self.exceptions.add(str(node.args[0].value))
        self.generic_visit(node)


def test_every_key_in_the_code_has_a_text() -> None:
    keys = Keys()
    for path in HERE.rglob("*.py"):
        if "devices" not in path.relative_to(HERE).parts:
            keys.visit(ast.parse(path.read_text()))
    assert keys.exceptions
    assert keys.exceptions <= set(EN["exceptions"])
    assert keys.issues <= set(EN["issues"])


def test_no_text_is_left_over() -> None:
    """Texts of errors and issues that nothing uses any more are none."""
    code = "\n".join(path.read_text() for path in HERE.rglob("*.py"))
    put_together = tuple(set(re.findall(r'f"([a-z]+_)\{', code)))
    for section in ("exceptions", "issues"):
        for key in EN[section]:
            known = key.removeprefix("refused_") in REFUSALS or key in KINDS or key.startswith(put_together)
            assert known or f'"{key}"' in code, f"{section}.{key} is used nowhere"


def test_the_manifest() -> None:
    manifest = json.loads((HERE / "manifest.json").read_text())
    keys = list(manifest)
    assert keys[:2] == ["domain", "name"]
    assert keys[2:] == sorted(keys[2:])
    assert {"version", "iot_class", "codeowners", "documentation", "issue_tracker"} <= set(keys)
    assert manifest["domain"] == HERE.name
    assert manifest["config_flow"] is True
    assert manifest["documentation"].startswith("https://")
    assert manifest["iot_class"] == "local_push"
