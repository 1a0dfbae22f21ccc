"""Every mistake in a profile is answered with file, line, key, what was wrong and what would be right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from custom_components.energy_ledger.devices.errors import ProfileError
from custom_components.energy_ledger.devices.profile.load import load_profile, load_profiles, parse_profile

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
id: thing
title: A thing
kinds: [battery]
link: {tcp: 502, companions: {meter: 2}}
sunspec: {bases: [40000]}
points:
  soc: {addr: 5, type: u16, unit: "%", role: state_of_charge}
  power: {addr: 6, type: s16, unit: W, role: battery_power, positive: charge}
  limit: {addr: 7, type: u16, unit: W}
  both: {sum: [power, -limit], unit: W}
settings:
  mode: {addr: 20, type: u16, write: 6, values: {auto: 0, charge: 1}}
  setpoint: {addr: 21, type: u32, unit: W}
  timer: {sunspec: 124.InOutWRte_RvrtTms}
commands:
  charge:
    power: {max: limit}
    steps:
      - {set: setpoint, to: "{power_w}"}
      - {set: mode, to: charge}
  release:
    - {set: mode, to: auto}
"""

S2 = "commands.charge.steps[2]"
STEP = "      - {set: mode, to: charge}"
SOC = '  soc: {addr: 5, type: u16, unit: "%", role: state_of_charge}'

# what to replace, by what, and the error: line, key, and words of it
MISTAKES = [
    ("id: thing", "id: Thing", 1, "id", "lower-case letters"),
    ("id: thing\n", "", 1, "", '"id" is missing'),
    ("title: A thing", "titel: A thing", 2, "titel", 'did you mean "title"?'),
    ("title: A thing", "title: [a]", 2, "title", "is a list; right would be a text"),
    ("title: A thing", "title: A thing\ntitle: again", 3, "title", "already given in line 2"),
    ("kinds: [battery]", "kinds: [batery]", 3, "kinds[1]", '"batery" is no kind of asset'),
    ("kinds: [battery]", "kinds: []", 3, "kinds", "is empty"),
    ("kinds: [battery]", "kinds: battery", 3, "kinds", 'is "battery"; right would be a list'),
    ("{tcp: 502,", "{", 4, "link", "names no way to the device"),
    ("tcp: 502", "tcp: 70000", 4, "link.tcp", "whole number from 1 to 65535"),
    ("tcp: 502", "serial: 9600", 4, "link.serial", '"9600 8N1"'),
    ("tcp: 502", "tcp: 502, fc: 5", 4, "link.fc", "whole number from 1 to 4"),
    ("tcp: 502", "tcp: 502, write_fc: 7", 4, "link.write_fc", "right would be 6 or 16"),
    ("tcp: 502", "tcp: 502, nan: zero", 4, "link.nan", "right would be usual"),
    ("tcp: 502", "tcp: 502, word_order: middle", 4, "link.word_order", "known are big, little"),
    ("tcp: 502", "tcp: 502, timeout_s: 99", 4, "link.timeout_s", "from 0 to 60 s"),
    ("tcp: 502", "tcp: 502, sleeps_at_night: maybe", 4, "link.sleeps_at_night", "true or false"),
    ("tcp: 502", "tcp: 502, spacing_ms: a", 4, "link.spacing_ms", "right would be a number such as"),
    ("link: {tcp: 502, companions: {meter: 2}}", "link: tcp", 4, "link", "right would be keys with values"),
    ("sunspec: {bases: [40000]}", "", 14, "settings.timer.sunspec", "needs a sunspec section"),
    ("bases: [40000]", "bases: [40000], required: [[0]]", 5, "sunspec.required[1][1]", "from 1 to 65534"),
    ("type: u16, unit: \"%\"", "type: u17, unit: \"%\"", 7, "points.soc.type", 'did you mean "u16"?'),
    ("type: u16, unit: \"%\"", "type: str, unit: \"%\"", 7, "points.soc.type", "unknown type"),
    ("type: u16, unit: \"%\"", "tpye: u16, unit: \"%\"", 7, "points.soc.tpye", 'did you mean "type"?'),
    ("type: u16, unit: \"%\"", "type: bit, unit: \"%\"", 7, "points.soc.type", "functions 1 and 2"),
    ("role: state_of_charge", "role: soc", 7, "points.soc.role", "is not known"),
    ('unit: "%"', "unit: W", 7, "points.soc.unit", 'is ratio, "W" is power'),
    ('unit: "%"', 'unit: "%", valid: [100, 0]', 7, "points.soc.valid", "above the highest"),
    ('unit: "%"', 'unit: "%", valid: [1]', 7, "points.soc.valid", "[lowest, highest]"),
    ('unit: "%"', 'unit: "%", scale: 0', 7, "points.soc.scale", "make every value 0"),
    ('unit: "%"', 'unit: "%", scale: 1e-3', 7, "points.soc.scale", "right would be a number such as"),
    ('unit: "%"', 'unit: "%", high_word: 9', 7, "points.soc.high_word", "type u32 or s32, not u16"),
    ('unit: "%"', 'unit: "%", mask: 0x10000', 7, "points.soc.mask", "does not fit type u16"),
    ('unit: "%"', 'unit: "%", nan: 0x10000', 7, "points.soc.nan", "from 0 to 65535"),
    ('unit: "%"', 'unit: "%", values: {a: 1}, bits: {b: 1}', 7, "points.soc.bits", "not both"),
    ('unit: "%"', 'unit: "%", values: {a: 1, b: 1}', 7, "points.soc.values.b", '1 is already "a"'),
    ('unit: "%"', 'unit: "%", companion: metre', 7, "points.soc.companion", "not among link.companions"),
    ("addr: 5", "addr: 65536", 7, "points.soc.addr", "from 0 to 65535"),
    ("addr: 5, ", "", 7, "points.soc", '"addr" is missing'),
    ("addr: 5", "addr: 6", 8, "points.power.addr", 'address 6 is already "soc" (line 7)'),
    ("addr: 20", "addr: 6", 12, "settings.mode.addr", 'address 6 is already "power" (line 8)'),
    (", positive: charge", "", 8, "points.power", "right would be positive: charge or discharge"),
    ("positive: charge", "positive: import", 8, "points.power.positive", "charge or discharge"),
    ("  soc:", "  SOC:", 7, "points.SOC", "lower-case letters"),
    ("  soc:", "  power_w:", 7, "points.power_w", "name of a placeholder"),
    ("  mode: {addr", "  limit: {addr", 20, S2 + ".set", 'no setting "mode"'),
    ("  timer:", "  soc:", 14, "settings.soc", "a point has the same name"),
    ("[power, -limit]", "[power, -limmit]", 10, "points.both", 'no point "limmit"; did you mean "limit"?'),
    ("[power, -limit]", "[both]", 10, "points.both", "computed from itself"),
    ("[power, -limit]", "[]", 10, "points.both.sum", "is empty"),
    ("sum: [power, -limit]", "sum: power, product: limit", 10, "points.both", "one of sum, product, sign"),
    ("sum: [power, -limit]", "sign: power", 10, "points.both", "sign needs it"),
    ("sum: [power, -limit]", "sign: [power, limit], negative_when: {point: soc, equals: 1}", 10,
     "points.both.sign", "takes the one point"),
    ("sum: [power, -limit]", "sign: power, negative_when: {point: x, equals: 1}", 10,
     "points.both", 'no point "x"'),
    ("write: 6", "write: 7", 12, "settings.mode.write", "6 (one register) or 16"),
    ("type: u32, unit: W", "type: u32, unit: W, write: 6", 13, "settings.setpoint.write", "this has 2"),
    ("124.InOutWRte_RvrtTms", "124.", 14, "settings.timer.sunspec", "such as 124.ChaState"),
    ("124.InOutWRte_RvrtTms", "30x.W", 14, "settings.timer.sunspec", '"30x" is no SunSpec model'),
    ("to: charge}", "to: chrage}", 20, S2 + ".to", 'did you mean "charge"?'),
    ("to: charge}", "to: 1, factor: 2}", 20, S2 + ".factor", "no effect on a fixed value"),
    ("to: charge}", 'to: charge, mask: 0x10000}', 20, S2 + ".mask", "does not fit mode"),
    ("set: mode, to: charge", "set: mod, to: charge", 20, S2 + ".set", 'mean "mode"?'),
    ("set: mode, to: charge", "set: setpoint, to: charge", 20, S2 + ".to", "no values to name"),
    ("set: mode, to: charge", "set: timer, to: now", 20, S2 + ".to", "is no number"),
    ('"{power_w}"', '"{powr_w}"', 19, "commands.charge.steps[1].to", 'did you mean "power_w"?'),
    ('"{power_w}"', '"{power_w}", per: lmit', 19, "commands.charge.steps[1].per", 'did you mean "limit"?'),
    ('"{power_w}"', '"{hold_s}"', 16, "commands.charge", "hold_s is not given"),
    ("    power: {max: limit}\n", "", 16, "commands.charge", "power: {max"),
    ("{max: limit}", "{max: limt}", 17, "commands.charge.power.max", 'did you mean "limit"?'),
    ("{max: limit}", "{max: limit}\n    renew_s: 9\n    hold_s: 10", 18,
     "commands.charge.renew_s", "half of hold_s"),
    ("{max: limit}", "{max: limit}\n    require: [{point: x, equals: 1}]", 18,
     "commands.charge.require", "no point"),
    ("  release:\n    - {set: mode, to: auto}\n", "", 16, "commands.charge", "can't be taken back"),
    ("{set: mode, to: auto}", '{set: mode, to: "{saved}"}', 18, "commands.charge.steps", "no step saves it"),
    ("{set: mode, to: auto}", '{set: setpoint, to: "{power_w}"}', 21,
     "commands.release", "knows no {power_w}"),
    ("    - {set: mode, to: auto}\n", "    []\n", 21, "commands.release", "at least one step"),
    (STEP, "      - {block: 5, fields: []}", 20, S2 + ".fields", "1 to 123"),
    (STEP, "      - {block: 5, fields: [{type: str, to: 1}]}", 20, S2 + ".fields[1].type", "block"),
    (STEP, "      - {block: 5, fields: [{type: u16, to: x}]}", 20, S2 + ".fields[1].to", "neither"),
    (STEP, "      - {block: 5, fields: [{type: u16, to: 1, scale: 0}]}", 20,
     S2 + ".fields[1].scale", "is 0"),
    (SOC, SOC + "\n  x: *none", 8, "", "not valid YAML"),
    (SOC, SOC + "\n  <<: {a: 1}", 8, "points.<<", "merge keys are not supported"),
    (SOC, SOC + "\n  ? [a]\n  : 1", 8, "points", "a key must be a plain text"),
    (SOC, "\tsoc: 1", 7, "", "not valid YAML"),
]  # fmt: skip


def test_the_template_itself_is_right() -> None:
    assert parse_profile(GOOD, "thing.yaml").id == "thing"


@pytest.mark.parametrize(("old", "new", "line", "key", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistake(old: str, new: str, line: int, key: str, words: str) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(ProfileError) as caught:
        parse_profile(GOOD.replace(old, new, 1), "thing.yaml")
    message = str(caught.value)
    assert message.startswith(f"thing.yaml:{line}: {key}{':' if key else ''}"), message
    assert words in message


DETECT = [
    ("{addr: 1, type: u16}", "detect[1]", "tests nothing"),
    ('{addr: 1, type: u16, matches: "("}', "detect[1].matches", "no regular expression"),
    ("{point: nothing, equals: 1}", "detect[1].point", 'no point "nothing"'),
    ("{addr: 1, type: u16, equal: 1}", "detect[1].equal", 'did you mean "equals"?'),
    ("5", "detect[1]", "right would be keys with values"),
]


@pytest.mark.parametrize(("check", "key", "words"), DETECT)
def test_mistake_in_detection(check: str, key: str, words: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(key)) as caught:
        parse_profile(f"{GOOD}detect:\n  - {check}\n", "thing.yaml")
    assert words in str(caught.value)


VARIANTS = [
    ("{points: {soc: {addr: 9}}}", "variants.a", '"title" is missing'),
    ("{title: x, id: y}", "variants.a.id", "unknown key"),
    ("{title: x, points: {nothing: }}", "variants.a.points.nothing", "the base has no such key"),
    ("{title: x, points: {soc: {addr: 6}}}", "points.power.addr", 'already "soc"'),
]


@pytest.mark.parametrize(("variant", "key", "words"), VARIANTS)
def test_mistake_in_a_variant(variant: str, key: str, words: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(key)) as caught:
        parse_profile(f"{GOOD}variants:\n  a: {variant}\n", "thing.yaml")
    assert words in str(caught.value)


def test_holes() -> None:
    with pytest.raises(ProfileError, match=r"points.power.addr: address 6 lies in the hole 6 to 7"):
        parse_profile(f"{GOOD}holes: [{{first: 6, last: 7}}]\n", "thing.yaml")
    with pytest.raises(ProfileError, match=r"holes\[1\].last: is 5; right would be a whole number from 6"):
        parse_profile(f"{GOOD}holes: [{{first: 6, last: 5}}]\n", "thing.yaml")


def test_a_profile_can_not_grow_without_bound() -> None:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for previous, name in zip("abcd", "bcde", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{previous}'] * 10)}]\n"
    with pytest.raises(ProfileError, match="too large"):
        parse_profile(bomb, "bomb.yaml")
    with pytest.raises(ProfileError, match="nested too deeply"):
        parse_profile("a: &a [*a]", "circle.yaml")


def test_empty_and_binary_text() -> None:
    with pytest.raises(ProfileError, match="the file is empty"):
        parse_profile("# nothing\n", "empty.yaml")
    with pytest.raises(ProfileError, match=r"odd.yaml:1: not valid YAML"):
        parse_profile("id: \x00", "odd.yaml")


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="can't be read: No such file"):
        load_profile(tmp_path / "absent.yaml")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("title: für".encode("latin-1"))
    with pytest.raises(ProfileError, match="is not UTF-8 text"):
        load_profile(latin)
    huge = tmp_path / "huge.yaml"
    huge.write_text("#" * 300_000)
    with pytest.raises(ProfileError, match="larger than 256 KiB"):
        load_profile(huge)
    with pytest.raises(ProfileError, match="no such folder"):
        load_profiles(tmp_path / "absent")


def test_users_profiles_override_ours(tmp_path: Path) -> None:
    text = GOOD.replace("id: thing", "id: goodwe_et")
    (tmp_path / "mine.yaml").write_text(text)
    profiles = load_profiles(tmp_path)
    assert profiles["goodwe_et"].title == "A thing"
    assert profiles["goodwe_et"].path == tmp_path / "mine.yaml"
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(ProfileError, match=r'other.yaml:1: id "goodwe_et" is already used by .*mine.yaml'):
        load_profiles(tmp_path)
