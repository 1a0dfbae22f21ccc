"""The quality scale's rules, as far as a test can hold them; and every example of docs/automations.md."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import homeassistant
import pytest
import yaml
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import condition, script
from homeassistant.helpers import config_validation as cv
from homeassistant.setup import async_setup_component
from PIL import Image

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.platforms import PLATFORMS
from custom_components.energy_ledger.services import ACTIONS

ROOT = Path(__file__).parents[3]
HERE = ROOT / "custom_components" / "energy_ledger"
DOC = (ROOT / "docs" / "automations.md").read_text()
RULES: dict[str, Any] = yaml.safe_load((HERE / "quality_scale.yaml").read_text())["rules"]
SAMPLE = Path(homeassistant.__file__).parent / "components" / "sofar" / "quality_scale.yaml"


def state_of(rule: str) -> str:
    found = RULES[rule]
    return str(found if isinstance(found, str) else found["status"])


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in HERE.rglob("*.py"):
        yield path, ast.parse(path.read_text())


def test_every_rule_has_a_state() -> None:
    """The rules are those that Home Assistant's own integrations answer."""
    assert set(RULES) == set(yaml.safe_load(SAMPLE.read_text())["rules"])
    for rule, found in RULES.items():
        assert state_of(rule) in ("done", "todo", "exempt"), rule
        if state_of(rule) != "done":
            assert len(found["comment"]) > 10, rule


def test_only_documents_are_missing() -> None:
    assert {rule for rule in RULES if state_of(rule) == "todo"} <= {r for r in RULES if r.startswith("docs-")}


def test_the_page_explains_every_field_of_adding_and_of_options() -> None:
    """Under the name that the form shows."""
    page = (ROOT / "docs" / "home-assistant.md").read_text()
    texts = json.loads((HERE / "translations" / "en.json").read_text())
    create = texts["config"]["step"]["create"]
    steps = [create, create["sections"]["advanced"], texts["options"]["step"]["settings"]]
    steps += [texts["config"]["step"][name] for name in ("join", "remote", "reconfigure_own")]
    steps += [texts["options"]["step"]["invite"], texts["config_subentries"]["device"]["step"]["network"]]
    figures = texts["config_subentries"]["device"]["step"]["figures"]["data"]
    labels = {label for step in steps for label in step["data"].values()}
    labels |= {figures[name] for name in ("rating_w", "capacity_wh", "meter", "poll_s")}
    assert {label for label in labels if label not in page} == set()


def test_parallel_updates() -> None:
    for platform in PLATFORMS:
        assert isinstance(platform, Platform)
        text = (HERE / f"{platform.value}.py").read_text()
        assert re.search(r"^PARALLEL_UPDATES = \d", text, re.MULTILINE), platform


RAISED = {
    "ConfigEntryAuthFailed",
    "ConfigEntryError",
    "ConfigEntryNotReady",
    "HomeAssistantError",
    "ServiceValidationError",
    "UpdateFailed",
}


def test_every_error_to_the_user_is_translated() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in RAISED:
                given = {each.arg for each in node.keywords}
                # None stands for what is unpacked: how an error of one kind is made into another.
                whole = {"translation_domain", "translation_key"} <= given or None in given
                assert whole, f"{path}:{node.lineno}"


def test_no_entity_has_a_name_of_its_own() -> None:
    """Names come from translations or from the device class."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "_attr_name":
                pytest.fail(f"{path}:{node.lineno} sets _attr_name")


def test_the_coordinator_is_bound_to_its_entry() -> None:
    text = (HERE / "ledger.py").read_text()
    assert "config_entry=entry" in text


@pytest.mark.parametrize("dark", ["", "dark_"])
@pytest.mark.parametrize(("suffix", "factor"), [("", 1), ("@2x", 2)])
def test_brand(dark: str, suffix: str, factor: int) -> None:
    with Image.open(HERE / "brand" / f"{dark}icon{suffix}.png") as icon:
        assert icon.size == (256 * factor, 256 * factor)
        assert icon.mode == "RGBA"
    with Image.open(HERE / "brand" / f"{dark}logo{suffix}.png") as logo:
        assert logo.height == 128 * factor
        assert logo.width > logo.height


async def test_actions_are_there_without_an_entry(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    assert set(hass.services.async_services_for_domain(DOMAIN)) == set(ACTIONS)


def section(name: str) -> str:
    found = re.search(rf"^### `{name}`$(.*?)(?=^##|\Z)", DOC, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/automations.md has no section of {name}"
    return found[1]


@pytest.mark.parametrize("kind", ["services", "triggers", "conditions"])
def test_every_field_is_documented(kind: str) -> None:
    for name, description in yaml.safe_load((HERE / f"{kind}.yaml").read_text()).items():
        text = section(name)
        for field in description["fields"]:
            assert field == "config_entry_id" or f"| `{field}`" in text, f"{name}.{field}"


EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOC, re.DOTALL)]


def test_every_action_has_an_example() -> None:
    shown = {example["action"] for example in EXAMPLES if "action" in example}
    assert shown == {f"{DOMAIN}.{name}" for name in ACTIONS}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: str(next(iter(each.values()))))
async def test_the_examples_are_valid(hass: HomeAssistant, example: dict[str, Any]) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    if "triggers" in example:
        assert await async_setup_component(hass, "automation", {"automation": example})
        await hass.async_block_till_done()
        assert [state.state for state in hass.states.async_all("automation")] == ["on"]
        await hass.services.async_call("automation", "turn_off", {"entity_id": "all"}, blocking=True)
    elif "condition" in example:
        checked = cv.CONDITION_SCHEMA(example)
        assert await async_setup_component(hass, "automation", {})
        await condition.async_validate_condition_config(hass, checked)
    else:
        await script.async_validate_actions_config(hass, cv.SCRIPT_SCHEMA([example]))
        name = example["action"].removeprefix(f"{DOMAIN}.")
        templates = {key for key, value in example["data"].items() if "{{" in str(value)}
        given = {key: value for key, value in example["data"].items() if key not in templates}
        ids = dict.fromkeys(templates, "ab" * 32) | ({"price": 0.1} if "price" in templates else {})
        ACTIONS[name].schema({**given, **ids})
