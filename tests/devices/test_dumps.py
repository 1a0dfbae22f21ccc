"""Every register dump decodes to exactly its expected values through the profile of its device.

Tried are the files in `dumps/` and, where the environment variable ENERGY_LEDGER_DUMPS names a folder, all of
that folder as well.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.profile.load import load_profiles
from custom_components.energy_ledger.devices.profile.model import RegisterPoint
from tests.devices.dumpfile import Dump, choose_profile, same, type_in, unit_in

FOLDER = Path(__file__).parent / "dumps"


def _files() -> list[Path]:
    elsewhere = os.environ.get("ENERGY_LEDGER_DUMPS")
    folders = [FOLDER, *([Path(elsewhere)] if elsewhere else [])]
    for folder in folders:
        assert any(folder.glob("*.json")), f"no dumps (*.json) in {folder}"
    return [path for folder in folders for path in sorted(folder.glob("*.json"))]


PROFILES = load_profiles()


@pytest.mark.parametrize("path", _files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_dump_decodes_to_its_expected_values(path: Path) -> None:
    dump = Dump(path)
    decoder = choose_profile(dump, PROFILES)
    wrong: list[str] = []
    longer: list[RegisterPoint] = []
    checked = 0
    for key, expected in dump.expected.items():
        if key == "word_order":
            continue
        points = decoder.candidates(key)
        if not points:
            wrong.append(f"{key}: {decoder.profile.id} has no such point")
            continue
        values = [decoder.value(point) for point in points]
        right = [p for p, v in zip(points, values, strict=True) if same(p, key, v, expected)]
        if not right:
            wrong.append(
                f"{key}: decoded {values} by {[point.name for point in points]}, expected {expected}"
            )
            continue
        checked += 1
        longer += [p for p in right if isinstance(p, RegisterPoint) and p.length > 1 and p.unit]
        wrong += _contradictions(key, right[0])
    if "word_order" in dump.expected:
        wrong += [
            f"{point.name}: word order {point.word_order}, expected {dump.expected['word_order']}"
            for point in longer
            if point.word_order != dump.expected["word_order"]
        ]
    assert not wrong, "\n".join(wrong)
    assert checked, "the dump expects nothing"


def _contradictions(key: str, point: object) -> list[str]:
    """What the key says about sign, type and word order must be what the profile says."""
    wrong: list[str] = []
    direction = re.search(r"\+\s*(charge|discharge|import|export)", key)
    positive = getattr(point, "positive", None)
    if direction and positive != direction[1]:
        wrong.append(f"{key}: the profile counts {positive} positive")
    kind = type_in(key)
    if isinstance(point, RegisterPoint) and kind is not None and point.type is not kind:
        wrong.append(f"{key}: the profile says type {point.type}")
    order = re.search(r"\b(little|big)\b", key)
    if isinstance(point, RegisterPoint) and point.length > 1 and order and point.word_order != order[1]:
        wrong.append(f"{key}: the profile says word order {point.word_order}")
    return wrong


def test_evidence_names_dumps_that_are_here() -> None:
    here = {path.name for path in FOLDER.glob("*.json")}
    named = {evidence.dump for profile in PROFILES.values() for evidence in profile.proven}
    assert named == here


def test_a_wrong_profile_is_found_out() -> None:
    """The comparison itself must be able to fail: a dump against wrong expectations."""
    dump = Dump(FOLDER / "byd_lvl_0500.json")
    decoder = choose_profile(dump, PROFILES)
    (soc,) = decoder.candidates("0x0500 soc")
    assert same(soc, "0x0500 soc", decoder.value(soc), 94)
    assert not same(soc, "0x0500 soc", decoder.value(soc), 95)
    assert not same(soc, "0x0500 soc", None, 94)
    (current,) = decoder.candidates("0x0504 current_A(+charge)")
    assert _contradictions("0x0504 current_A(+charge)", current)
    (energy,) = decoder.candidates("0x0511")
    assert _contradictions("0x0511 s32 big", energy) == [
        "0x0511 s32 big: the profile says type u32",
        "0x0511 s32 big: the profile says word order little",
    ]


def test_units_and_types_in_keys() -> None:
    assert unit_in("35191 e_total_kWh") == "kWh"
    assert unit_in("0xE182 SoH_%") == "%"
    assert unit_in("0xE174 dc_power_W (+charge)") == "W"
    assert unit_in("30070 model_id") is None
    assert type_in("30081 Q_max_in int32") == "s32"
    assert type_in("L1 voltage float32 big") == "f32"
    assert type_in("0x0500 soc") is None


def test_a_dump_may_begin_at_a_model_header(tmp_path: Path) -> None:
    """Traces of one model, without the map's marker; its points by name, by model and by address."""
    registers = [203, 105, *[0x8000] * 105]
    registers[18], registers[22] = 0xFF85, 1  # W and its power of ten
    registers[46:48], registers[54] = [0x0001, 0x0000], 0  # TotWhImp and the energies' power of ten
    dump = {
        "device": "SolarEdge meter",
        "base": 40188,
        "registers": registers,
        "expected": {
            "W (+export)": -1230,
            "203.TotWhImp": 65536,
            "40206 meter W (+export)": -1230,
            "PhVphA": None,
        },
    }
    path = tmp_path / "meter.json"
    path.write_text(json.dumps(dump))
    test_dump_decodes_to_its_expected_values(path)
    dump["expected"] = {"W": -1231}
    path.write_text(json.dumps(dump))
    with pytest.raises(AssertionError, match="W: decoded"):
        test_dump_decodes_to_its_expected_values(path)
