"""docs/formats.md: its tables are the source's, and a reader that was written from it reads everything."""

import ast
import hashlib
import io
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from ledger_core import community
from ledger_core.chain.proofs import prove_inclusion
from ledger_core.chain.store.blockfile import write_blocks
from ledger_core.keys import SealingCost, SoftwareSigner, address, save_key, seed_text
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.records import assets, block, codec, invitations, members, offers, readings, types, votes
from ledger_core.records.block import decode_block_body
from ledger_core.rules import assets as assets_rule
from ledger_core.rules import readings as readings_rule
from ledger_core.rules import reputation, rows
from ledger_core.rules.apply import apply_block
from ledger_core.rules.deadlines import CLOSED, FORMER_NODE, INVITATION, OFFER, WAITING
from ledger_core.rules.difficulty import expand_target, next_target, work_of
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.headers import MEDIAN_SPAN
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.registry import FEE_KINDS
from ledger_core.rules.state import State
from ledger_core.synthetic import Config, SyntheticChain
from ledger_core.units import MAX_AMOUNT
from tests.core.golden import FOLDER
from tests.core.golden import read as committed
from tests.docs import independent, independent_chain, shapes
from tests.docs.pages import ROOT, examples, page, table_of

FORMATS = page("formats")
OWN_KINDS: list[type[Any]] = [kind for kind in codec.kinds() if not kind.__module__.startswith("tests.")]
ROWS = [each for each in vars(rows).values() if isinstance(each, type) and issubclass(each, rows.Row)]
KNOWN: tuple[type[Any], ...] = (
    *(community.Genesis, community.Founder, community.Parameters, types.Location),
    *(codec.Envelope, codec.Cosignature, members.Invitation, assets.CurveStep, offers.Auction),
    *(readings.ReadingRow, readings.Stored, votes.SignedVote, votes.VoteBundle),
    *(block.Block, block.BlockBody, invitations.Anchor),
    *(each for each in ROWS if each is not rows.Row),
)
STRUCTS = {each.__name__: each for each in KNOWN}
STRUCTS["InvitationText"] = invitations._Content


def told(title: str, first: int) -> list[shapes.Row]:
    """Return a structure's fields as the page tells them."""
    found = table_of(FORMATS, title)
    assert [int(cells[0]) for cells in found] == list(range(first, first + len(found)))
    return [(cells[1].strip("`"), cells[2]) for cells in found]


@pytest.mark.parametrize("name", STRUCTS)
def test_structures(name: str) -> None:
    assert told(name, 0) == shapes.rows(STRUCTS[name])


@pytest.mark.parametrize("kind", OWN_KINDS, ids=lambda kind: kind.KIND)
def test_record_kinds(kind: type[Any]) -> None:
    assert told(f"`{kind.KIND}`: {kind.__struct_config__.tag}", 1) == shapes.rows(kind)


def test_every_kind_and_structure_stands_on_the_page() -> None:
    listed = table_of(FORMATS, "Record kinds")
    assert [(int(number), name.strip("`"), fee != "no") for number, name, _, fee in listed] == [
        (kind.__struct_config__.tag, kind.KIND, kind in FEE_KINDS) for kind in OWN_KINDS
    ]
    titles = set(re.findall(r"^### (\w+)$", FORMATS, re.MULTILINE))
    assert titles == {"Header", *STRUCTS}


def test_header() -> None:
    listed = table_of(FORMATS, "Header")
    assert [(int(offset), int(size)) for offset, size, *_ in listed] == [
        (0, 2), (2, 4), (6, 32), (38, 32), (70, 4), (74, 32), (106, 8), (114, 4), (118, 32), (150, 8)
    ]  # fmt: skip
    assert [cells[2].strip("`") for cells in listed] == list(block.Header.__struct_fields__)
    assert sum(int(cells[1]) for cells in listed) == block.HEADER_BYTES
    assert block.NONCE_OFFSET == 150
    assert block.HEADER_VERSION == 1


WORDS = (
    (r"tuple\[tuple\[int, int, bytes\], \.\.\.\]", "array of ([int, int, bytes])"),
    (r"tuple\[(\w+), \.\.\.\]", r"array of \1"),
    (r"tuple\[", "["),
    (r"\bstr\b", "text"),
    (r"\brows\.", ""),
)
"""Annotations of the source, and how the page writes them."""


def annotated() -> dict[str, str]:
    """Return key and row types of the state's tables, as the page writes them."""
    tree = ast.parse(Path(ROOT / "ledger_core" / "rules" / "state.py").read_text())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            text = ast.unparse(node.annotation)
            if text.startswith("Table["):
                found[node.target.attr] = text.removeprefix("Table[").removesuffix("]")
    return found


def test_state_tables() -> None:
    state = State(SyntheticChain(Config(homes=2, duration_s=900, seed=1)).genesis)
    sources = annotated()
    expected = []
    for table in state.tables:
        if table.hashed:
            words = sources[table.name]
            for source, written in WORDS:
                words = re.sub(source, written, words)
            expected.append((str(table.number), table.name, words, table._buckets is not None))
    listed = table_of(FORMATS, "State and state hash")
    assert [
        (number, name.strip("`"), f"{key}, {row}", bucketed == "yes")
        for number, name, key, row, bucketed in listed
    ] == expected
    assert tuple(int(cells[0]) for cells in listed if cells[4] == "yes") == independent_chain.BUCKETED


def test_domain_tags() -> None:
    """Each tag in the source stands on the page, and no other."""
    used = set()
    for path in (ROOT / "ledger_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                text = node.value.decode(errors="replace")
                if text.startswith("energy-ledger/") and "synthetic" not in path.parts:
                    used.add(text.replace("\0", "\\0"))
    assert {cells[0].strip("`") for cells in table_of(FORMATS, "Notation")} == used


def test_deadlines_of_the_rules() -> None:
    listed = table_of(page("rules"), "Deadlines")
    assert [int(cells[0]) for cells in listed] == [OFFER, WAITING, CLOSED, INVITATION, FORMER_NODE]


def test_figures_of_the_rules() -> None:
    words = " ".join(page("rules").split())
    for figure in (
        f"more than {community.FUTURE_LIMIT_S} s ahead of the reader's clock",
        f"last {MEDIAN_SPAN} block times",
        f"at most {community.MAX_MEMBERS}.",
        f"{readings_rule.TOLERANCE_PERMILLE} // 1000 + {readings_rule.TOLERANCE_WH} Wh",
        f"leaves {reputation.DECAY_PERMILLE}/1000",
        f"zero after {reputation.MEMORY_DAYS} days",
        f"at least {EngineSettings().vote_depth} blocks on it",
        f"at most {shapes.number(MAX_AMOUNT)} exist",
    ):
        assert figure in words
    stores = re.findall(r"`(\w+)`", re.findall(r"Stores \(([^)]+)\)", words)[0])
    assert set(stores) == {kind.value for kind in assets_rule.STORES}
    others = re.findall(r"`(\w+)`", re.findall(r"any kind but ([^)]+)\)", words)[0])
    assert {*others, *assets_rule.SUPPLIERS} == set(types.AssetKind)
    assert not {*others} & assets_rule.SUPPLIERS


# The independent reader


def test_the_reader_shares_nothing_with_the_ledger() -> None:
    for name in INDEPENDENT:
        tree = ast.parse((ROOT / "tests" / "docs" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert all(each.name.split(".")[0] in STANDARD for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in STANDARD, node.module
                if (node.module or "").startswith("tests"):
                    assert node.module in {f"tests.docs.{each}" for each in INDEPENDENT}


INDEPENDENT = ("independent", "independent_chain", "independent_peer", "independent_state")
STANDARD = {
    *("ast", "asyncio", "base64", "collections", "contextlib", "dataclasses", "hashlib", "hmac", "os"),
    *("struct", "time", "typing", "nacl", "aiohttp", "tests"),
}
GOLDEN = sorted(path.stem for path in FOLDER.glob("record-*.hex"))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_records_are_read(name: str) -> None:
    parts = committed(name)
    start = len(b"energy-ledger/record/1\0")
    chain_id = parts["signed message"][start : start + 32]
    record = independent.read_record(independent.decode(parts["envelope"]), chain_id)
    assert record.id == parts["id"]
    assert f"record-{record.kind}" == name
    assert independent.encode(independent.decode(parts["body"])) == parts["body"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_records_that_were_tampered_with_are_not_read(name: str) -> None:
    """Each bit of the body matters: the reader can say no."""
    parts = committed(name)
    start = len(b"energy-ledger/record/1\0")
    chain_id = parts["signed message"][start : start + 32]
    body, signature, extra = independent.decode(parts["envelope"])
    for place in range(0, len(body), 7):
        wrong = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        with pytest.raises((independent.WrongError, UnicodeDecodeError)):
            independent.read_record([wrong, signature, extra], chain_id)


def test_golden_genesis_merkle_and_block_are_read() -> None:
    parts = committed("genesis")
    assert independent.read_genesis(parts["genesis"]).chain_id == parts["chain id"]
    merkle = committed("merkle")
    leaves = [independent.H(b"\0", hashlib.sha256(f"leaf {number}".encode()).digest()) for number in range(5)]
    for count in range(6):
        assert independent_chain.merkle_root(leaves[:count]) == merkle[f"root of {count}"]
    proof = merkle["branch of leaf 2 of 5"]
    branch = [proof[at : at + 32] for at in range(0, len(proof), 32)]
    assert independent_chain.climb(leaves[2], 2, 5, branch) == merkle["root of 5"]
    parts = committed("block")
    header, signature, body = independent.decode(parts["block"])
    assert independent.H(header) == parts["block hash"]
    read = independent_chain.read_header(header)
    message = b"energy-ledger/block/1\0" + parts["block hash"]
    assert message == parts["what the miner signs"]
    assert independent.verify(read.miner, message, signature)
    assert int.from_bytes(parts["block hash"]) <= independent_chain.expand(read.target)
    _, _, leaves = independent_chain.read_block_body(body, bytes(32))
    assert read.merkle_root == independent_chain.merkle_root(leaves)


def test_golden_state_hash_is_recomputed() -> None:
    parts = committed("state")
    assert independent_chain.state_hash(parts["snapshot"]) == parts["state hash"]


@pytest.fixture(scope="module")
def street() -> tuple[SyntheticChain, list[block.Block]]:
    chain = SyntheticChain(Config(homes=4, duration_s=2 * 86_400, seed=5, reorg_blocks=0))
    return chain, [item.block for item in chain.blocks()]


def test_a_generated_chain_is_read(street: tuple[SyntheticChain, list[block.Block]]) -> None:
    """Every header's time, target, work and signature, every Merkle root, signature and vote."""
    chain, blocks = street
    file = io.BytesIO()
    write_blocks(file, chain.genesis, blocks)
    genesis, found = independent.read_block_file(file.getvalue())
    reader = independent_chain.Chain(genesis)
    targets = {reader.add(data).target for data in found}
    assert reader.community.chain_id == chain.genesis.chain_id
    assert (reader.height, reader.hash) == (len(blocks), blocks[-1].hash)
    assert len(targets) > 10, "the difficulty never moved"
    headers = [block.decode_header(each.header) for each in blocks]
    assert reader.work == sum(work_of(expand_target(header.target) or 0) for header in headers)
    assert reader.votes > 50
    assert {"member", "asset", "offer", "acceptance", "reading", "transfer"} <= set(reader.kinds)


def test_difficulty_far_from_the_schedule() -> None:
    """ASERT by the page and by the ledger, where no generated chain comes."""
    random = Random(5)
    for _ in range(3000):
        parameters = community.Parameters(
            block_spacing_s=random.randint(1, 3600),
            difficulty_half_life_s=random.choice((10, 3600, 7 * 86_400, random.randint(10, 10**5))),
            min_difficulty_bits=random.randint(1, 64),
        )
        created, height = 10**9, random.randint(0, 10 ** random.randint(1, 6))
        drift = random.randint(-(10 ** random.randint(1, 7)), 10 ** random.randint(1, 7))
        parent_time = created + parameters.block_spacing_s * height + drift
        values = community.parameters_as_dict(parameters)
        read = independent.Community(bytes(32), created, values, [])
        wanted = next_target(parameters, created, height, parent_time)
        assert independent_chain.wanted_target(read, height, parent_time) == wanted
        assert independent_chain.expand(wanted) == expand_target(wanted)


def test_state_hashes_of_a_generated_chain(street: tuple[SyntheticChain, list[block.Block]]) -> None:
    """The snapshot before a checkpoint gives the state hash in the checkpoint's header."""
    chain, blocks = street
    state = genesis_state(chain.genesis)
    checked = 0
    for each in blocks:
        wanted = independent_chain.read_header(each.header).state_hash
        if wanted != bytes(32):
            assert independent_chain.state_hash(state.snapshot()) == wanted
            checked += 1
        prepared = prepare_block(each, chain.genesis, chain.genesis.chain_id, {})
        prepared.verified = True
        apply_block(state, prepared, prepared.header.time)
    assert checked > 3


def test_inclusion_proofs(street: tuple[SyntheticChain, list[block.Block]]) -> None:
    chain, blocks = street
    full = next(each for each in blocks if len(decode_block_body(each.body).records) > 2)
    records, _, _ = independent_chain.read_block_body(full.body, chain.genesis.chain_id)
    for record in records:
        proof = prove_inclusion(full, chain.genesis.chain_id, record.id)
        header = independent_chain.read_header(proof.header)
        root = independent_chain.climb(record.leaf, proof.index, header.count, proof.branch)
        assert root == header.merkle_root


# Text forms and examples


def test_addresses_and_recovery_codes() -> None:
    for number in range(20):
        signer = SoftwareSigner(hashlib.sha256(bytes([number])).digest())
        assert independent.key_text("el", signer.public_key) == address(signer.public_key)
        assert independent.key_text("elsec", signer.export_seed()) == seed_text(signer.export_seed())


def test_key_files(tmp_path: Path) -> None:
    """A sealed key file opens by what the page says of it."""
    signer = SoftwareSigner(bytes(range(32)))
    cost = SealingCost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)
    save_key(tmp_path / "sealed.key", signer, passphrase="correct horse", cost=cost)
    fields = json.loads((tmp_path / "sealed.key").read_text())
    checksum = fields.pop("checksum")
    plain = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(plain).hexdigest() == checksum
    assert fields["format"], fields["version"] == ("energy-ledger-key", 1)
    sealed = fields["sealed"]
    salt, box = bytes.fromhex(sealed["salt"]), bytes.fromhex(sealed["box"])
    key = argon2id.kdf(32, b"correct horse", salt, sealed["opslimit"], sealed["memlimit"])
    assert SecretBox(key).decrypt(box[24:], box[:24]) == bytes(range(32))


def test_examples_of_the_page() -> None:
    """What the page shows is what its own reader makes of it."""
    shown = examples(FORMATS)
    genesis = bytes.fromhex(shown["genesis"])
    read = independent.read_genesis(genesis)
    assert read.chain_id.hex() == shown["chain id"]
    envelope = bytes.fromhex(shown["envelope"])
    record = independent.read_record(independent.decode(envelope), bytes.fromhex(shown["its chain id"]))
    assert (record.kind, record.id.hex()) == ("transfer", shown["record id"])
    header = bytes.fromhex(shown["header"])
    assert independent.H(header).hex() == shown["block hash"]
    assert independent.key_text("el", record.fields[0]) == shown["address of its author"]
    community_, addresses, secret, anchor = independent.read_invitation_text(shown["invitation"])
    assert community_.chain_id == read.chain_id
    assert addresses == ["192.168.1.7:7946"]
    assert anchor is None
    assert independent.key_text("elsec", secret) == shown["recovery code of its one-time key"]
    link = invitations.decode_link(shown["invitation"])
    assert (link.chain_id, link.secret) == (read.chain_id, secret)
