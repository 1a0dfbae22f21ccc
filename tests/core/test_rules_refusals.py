"""Every error code: a record or block with one thing changed gives exactly that code, the state untouched."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest
from msgspec.structs import asdict

from ledger_core.errors import LedgerError
from ledger_core.records.block import Block, decode_block_body, decode_header
from ledger_core.records.codec import Record
from ledger_core.rules.apply import refusal_of
from tests.core import refusals_blocks, refusals_market, refusals_members
from tests.core.attempts import attempt
from tests.core.forge import CASES, Attempt, Make, forge
from tests.core.world import World

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "error-codes.md"
SOURCES = [
    *sorted((ROOT / "ledger_core" / "records").glob("*.py")),
    *sorted((ROOT / "ledger_core" / "rules").glob("*.py")),
    ROOT / "ledger_core" / "community.py",
    *sorted((ROOT / "ledger_core" / "chain").glob("*.py")),
]
ERRORS = {"RuleError", "RecordError", "ChainError", "InvitationError"}
MODULES = (refusals_blocks, refusals_market, refusals_members)

ELSEWHERE = {
    "invitation_text_character": "test_invitations.py",
    "invitation_text_checksum": "test_invitations.py",
    "invitation_text_length": "test_invitations.py",
    "invitation_text_malformed": "test_invitations.py",
    "invitation_text_prefix": "test_invitations.py",
    "invitation_text_version": "test_invitations.py",
    "genesis_invalid": "test_records_genesis.py",
    "genesis_malformed": "test_records_genesis.py",
    "genesis_not_canonical": "test_records_genesis.py",
    "parameter_invalid": "test_records_genesis.py",
    "below_final": "test_chain.py",
    "parent_invalid": "test_chain.py",
    "proof_invalid": "test_chain.py",
    "record_not_in_block": "test_chain.py",
    "wrong_signer": "test_codec_records.py",
    "snapshot_damaged": "test_rules_state.py",
    "snapshot_version": "test_rules_state.py",
    "undo_damaged": "test_rules_state.py",
}
"""Codes that no record or block in a chain can give, and the test that shows each."""


def raised() -> Iterator[tuple[Path, ast.Call]]:
    """Yield every making of a ledger error in the sources."""
    for path in SOURCES:
        # In `chain` a ChainError is no refusal: it tells of the store.
        names = ERRORS - {"ChainError"} if path.parent.name == "chain" else ERRORS
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield path, node


@cache
def codes_in_source() -> dict[str, set[str]]:
    """Return each code with the figures that its errors carry."""
    codes: dict[str, set[str]] = {}
    for path, call in raised():
        first = call.args[0]
        assert isinstance(first, ast.Constant), f"{path.name}:{call.lineno}: a code must be written out"
        assert isinstance(first.value, str)
        figures = codes.setdefault(first.value, set())
        figures.update(keyword.arg for keyword in call.keywords if keyword.arg is not None)
    return codes


def documented() -> dict[str, set[str]]:
    """Return the codes of the document with their figures."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return {code: set(re.findall(r"`(\w+)`", figures)) for code, figures in rows}


def test_every_code_in_the_source_has_a_case() -> None:
    assert sorted(codes_in_source()) == sorted({*CASES, *ELSEWHERE})


def test_codes_shown_elsewhere_are_named_there() -> None:
    for code, name in ELSEWHERE.items():
        assert f'"{code}"' in (Path(__file__).parent / name).read_text(), f"{code} is not in {name}"


def test_the_document_lists_every_code_with_its_figures() -> None:
    assert documented() == codes_in_source()


def all_cases() -> list[object]:
    return [
        pytest.param(code, make, id=f"{code}-{number}")
        for code in sorted(CASES)
        for number, make in enumerate(CASES[code])
    ]


@pytest.mark.parametrize(("code", "make"), all_cases())
def test_refusal(code: str, make: Make) -> None:
    made = make()
    world = made.world
    before, snapshot = world.state.hash(), world.state.snapshot()
    error = refused(made)
    assert error.code == code
    assert error.message
    assert set(error.details) <= codes_in_source()[code]
    assert world.state.hash() == before
    assert world.state.snapshot() == snapshot
    assert one_change(made)
    assert attempt(apply, world, made.good) is None


def refused(made: Attempt) -> LedgerError:
    """The error that refuses the bad one: alone, and as part of a block where it can be in one."""
    world, bad = made.world, made.bad
    if isinstance(bad, Record):
        alone = refusal_of(world.state, bad, world.now + 30 + made.later)
        assert alone is not None
        if made.later:
            return alone
        inside = attempt(apply, world, bad)
        assert isinstance(inside, LedgerError)
        assert inside.code == alone.code
        return inside
    error = attempt(apply, world, bad)
    assert isinstance(error, LedgerError)
    return error


def apply(world: World, item: Record | Block) -> None:
    """Apply a block, or a record alone in one; the world's clock stands still."""
    block = item if isinstance(item, Block) else forge(world, [item])
    now, world.now = world.now, world.now + 30
    try:
        world.apply(block)
    finally:
        world.now = now


def one_change(made: Attempt) -> bool:
    """Tell whether at most one thing differs: a field of the record, or what `block_changes` names."""
    good, bad = made.good, made.bad
    if isinstance(good, Block) and isinstance(bad, Block):
        return good != bad and len(block_changes(good, bad)) <= 1
    if isinstance(good, Block) or isinstance(bad, Block):
        return False
    if type(good.body) is not type(bad.body):
        return bad.body.KIND == "vote"
    mine, other = asdict(good.body), asdict(bad.body)
    return len([name for name in mine if name != "nonce" and mine[name] != other[name]]) <= 1


def block_changes(good: Block, bad: Block) -> list[str]:
    """Name what differs between two blocks: fields of the header, and items of the body.

    Nonce and signature follow from the header, root and count from the body.
    """
    changes = []
    if good.body != bad.body:
        mine, other = attempt(decode_block_body, good.body), attempt(decode_block_body, bad.body)
        if isinstance(mine, LedgerError) or isinstance(other, LedgerError):
            changes.append("body")
        else:
            pairs = [*zip_longest(mine.records, other.records), *zip_longest(mine.votes, other.votes)]
            changes += ["item" for one, two in pairs if one != two]
    below, above = attempt(decode_header, good.header), attempt(decode_header, bad.header)
    if isinstance(below, LedgerError) or isinstance(above, LedgerError):
        return [*changes, "header"]
    follows = {"nonce", "merkle_root", "count"} if changes else {"nonce"}
    mine_fields, other_fields = asdict(below), asdict(above)
    return changes + [
        name for name, value in mine_fields.items() if name not in follows and other_fields[name] != value
    ]


def test_tables_are_loaded() -> None:
    assert all(module.__doc__ for module in MODULES)
