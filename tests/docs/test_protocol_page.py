"""docs/protocol.md: its tables are the source's; a peer that was written from it links with a real node."""

import ast
import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from nacl.bindings import crypto_sign_seed_keypair

from ledger_core.community import Founder
from ledger_core.keys import SoftwareSigner
from ledger_core.node import messages
from ledger_core.node.bridge import HELLO_S
from ledger_core.node.bridge_limits import LIMITS
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.peers import (
    BAN_SECONDS,
    PROTOCOL_VERSIONS,
    SERVICE_TYPE,
    Announcement,
    LocalNode,
    PeerSettings,
)
from ledger_core.node.peers.cipher import REKEY_FRAMES
from ledger_core.node.peers.frames import CHUNK_BYTES, MAX_SEALED_FRAME_BYTES, Close, FrameType
from ledger_core.node.peers.handshake import (
    MAX_HANDSHAKE_BYTES,
    Responder,
    _Answer,
    _Opening,
    _Proof,
    _RefusalText,
    _Welcome,
)
from ledger_core.node.peers.key_schedule import Ephemeral
from ledger_core.node.peers.limits import _CLOCK_TOLERANCE, _CONTROL_BURST, _CONTROL_PER_SECOND
from ledger_core.records.types import Role
from tests.docs import independent, independent_chain, independent_state, shapes
from tests.docs.independent_peer import Initiator, linked
from tests.docs.pages import ROOT, examples, page, table_of
from tests.node.processes import FAST, Street, make_street, seeded

PROTOCOL = page("protocol")
HANDSHAKE: dict[str, type[Any]] = {
    "Opening": _Opening,
    "Answer": _Answer,
    "Proof": _Proof,
    "Refusal": _RefusalText,
}
PARTS: dict[str, type[Any]] = {
    each.__name__: each
    for each in vars(messages).values()
    if isinstance(each, type) and issubclass(each, messages.Item) and each is not messages.Item
}
PARTS |= {"Close": Close, "Announcement": Announcement}


def told(title: str, first: int) -> list[shapes.Row]:
    """Return a structure's fields as the page tells them."""
    found = table_of(PROTOCOL, title)
    assert [int(cells[0]) for cells in found] == list(range(first, first + len(found)))
    return [(cells[1].strip("`"), cells[2]) for cells in found]


@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str) -> None:
    assert told(name, 0) == shapes.rows(PARTS[name])


@pytest.mark.parametrize("name", HANDSHAKE)
def test_handshake_messages(name: str) -> None:
    kind = HANDSHAKE[name]
    assert told(f"{name}: `{kind.__struct_config__.tag}`", 1) == shapes.rows(kind)


@pytest.mark.parametrize("kind", messages.KINDS, ids=lambda kind: kind.__name__)
def test_messages(kind: Any) -> None:
    title = f"`{kind.__name__}`: {kind.__struct_config__.tag}"
    if kind.__struct_fields__:
        assert told(title, 1) == shapes.rows(kind)
    else:
        assert f"### {title}\n" in PROTOCOL


def test_nothing_else_stands_on_the_page() -> None:
    titles = re.findall(r"^### `(\w+)`: \d+$", PROTOCOL, re.MULTILINE)
    assert titles == [kind.__name__ for kind in messages.KINDS]
    assert set(re.findall(r"^### (\w+)$", PROTOCOL, re.MULTILINE)) == set(PARTS)
    assert f"### Welcome: `{_Welcome.__struct_config__.tag}`\n" in PROTOCOL


def test_limits() -> None:
    assert table_of(PROTOCOL, "Limits") == [
        [
            *(str(kind), f"`{limit.name}`", str(int(limit.lane)), str(limit.max_bytes)),
            *(f"{limit.per_second:g}", str(limit.burst)),
            *(str(int(limit.bytes_per_second)), str(limit.burst_bytes)),
        ]
        for kind, limit in LIMITS.items()
    ]
    assert {limit.max_seconds for limit in LIMITS.values()} == {60.0}


def test_bans() -> None:
    seconds = {cells[0].strip("`"): int(cells[1]) for cells in table_of(PROTOCOL, "Bans and patience")}
    assert seconds == BAN_SECONDS
    named = set(re.findall(r"`(\w+)`", str(table_of(PROTOCOL, "Bans and patience", 1))))
    codes = ban_codes()
    assert len(codes) > 5
    assert codes <= named
    settings = EngineSettings()
    assert f"lasts {settings.ban_s} s" in PROTOCOL
    assert f"ban lasts {settings.flood_ban_s} s" in " ".join(PROTOCOL.split())
    assert f"{settings.patience:g} points, of which {settings.patience_per_s:g} come back" in PROTOCOL


def ban_codes() -> set[str]:
    """Return the codes that the engine's calls of `hub.ban` name."""
    found = set()
    for path in (ROOT / "ledger_core" / "node" / "engine").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and isinstance(called, ast.Attribute) and called.attr == "ban":
                code = node.args[1] if len(node.args) > 2 else None
                if isinstance(code, ast.Constant):
                    found.add(str(code.value))
    return found


def test_points_of_patience() -> None:
    """Every price in the source stands on the page, and no other."""
    points = set()
    for path in (ROOT / "ledger_core" / "node" / "engine").glob("*.py"):
        points |= {
            float(each) for each in re.findall(r"^\w+_POINTS = ([\d.]+)$", path.read_text(), re.MULTILINE)
        }
    assert {float(cells[0]) for cells in table_of(PROTOCOL, "Bans and patience", 2)} == points


REFUSING = ("bridge_policy.py", "peers/admission.py", "peers/handshake.py", "peers/registry.py")


def test_refusals() -> None:
    """Each code with which a node refuses another stands on the page."""
    codes = set()
    for name in REFUSING:
        source = (ROOT / "ledger_core" / "node" / name).read_text()
        codes |= set(re.findall(r'Refusal\(\s*"(\w+)"', source))
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in PROTOCOL} == set()


def test_figures() -> None:
    settings = PeerSettings()
    words = " ".join(PROTOCOL.split())
    for figure in (
        f"at most {MAX_HANDSHAKE_BYTES} bytes, all within {settings.handshake_s:g} s",
        f"speaks {PROTOCOL_VERSIONS[0]} to {PROTOCOL_VERSIONS[1]}",
        f"sealed frame has at most {MAX_SEALED_FRAME_BYTES} bytes",
        f"chunks of {CHUNK_BYTES} bytes",
        f"Each {REKEY_FRAMES} frames",
        f"else was sent for {settings.keepalive_s:g} s",
        f"hears nothing for {settings.silent_s:g} s",
        f"is Hello, within {HELLO_S:g} s",
        f"more than {EngineSettings().synced_within_blocks} blocks behind",
        f"at most {settings.max_guests} at a time",
        f"in parts of {messages.SNAPSHOT_PART_BYTES} bytes",
        f"up to {messages.MAX_BODIES} at a time",
        f"`{SERVICE_TYPE}`",
        f"together: {_CONTROL_PER_SECOND:g} a second, {_CONTROL_BURST} at once",
        f"{round((_CLOCK_TOLERANCE - 1) * 100)} % more, and besides what {settings.silent_s:g} s more",
        f"at the path `{settings.path}`",
    ):
        assert figure in words
    listed = table_of(PROTOCOL, "Frames")
    assert {int(number): name for number, name, _ in listed} == {each.value: each.name for each in FrameType}


# The independent peer


def test_examples_of_the_page() -> None:
    """The handshake with fixed keys, by the peer of the page and by the node's own responder."""
    shown = examples(PROTOCOL)
    chain_id, ephemeral = (
        bytes.fromhex(shown["chain id"]),
        bytes.fromhex(shown["initiator's ephemeral secret"]),
    )
    initiator = Initiator(bytes.fromhex(shown["initiator's seed"]), chain_id, ephemeral)
    responder = Responder(
        LocalNode(SoftwareSigner(bytes.fromhex(shown["responder's seed"])), chain_id, "example"),
        Ephemeral(bytes.fromhex(shown["responder's ephemeral secret"])),
    )
    opening = initiator.opening()
    assert (opening.hex(), initiator.said.hex()) == (shown["opening"], shown["T1"])
    answer = responder.opening(opening)
    assert answer.hex() == shown["answer"]
    proof = initiator.proof(answer)
    assert (proof.hex(), initiator.said.hex()) == (shown["proof"], shown["T4"])
    assert responder.proof(proof).key == initiator.key
    verdict, session = responder.welcome()
    sending, receiving = initiator.keys(verdict)
    assert (verdict.hex(), initiator.said.hex()) == (shown["verdict"], shown["T5"])
    assert (sending.key.hex(), receiving.key.hex()) == (shown["key to responder"], shown["key to initiator"])
    frame = sending.seal(b"\3" + bytes(8))
    assert frame.hex() == shown["first frame"]
    assert session.opener.open(frame) == b"\3" + bytes(8)


PEER = hashlib.sha256(b"the node of the page").digest()
"""Seed of the independent peer's node key, which the genesis names."""


def founder_of_the_page(roles: int) -> Founder:
    """The home whose node the independent peer plays."""
    return Founder(seeded("page").public_key, roles, crypto_sign_seed_keypair(PEER)[0], bytes(32))


@asynccontextmanager
async def one_node(directory: Path, roles: int, **settings: Any) -> AsyncIterator[tuple[Street, str]]:
    """Run a node in whose community the independent peer is another home's; give its URL too."""
    parameters = replace(FAST, min_difficulty_bits=8, checkpoint_interval=settings.pop("interval", 4))
    others = [founder_of_the_page(roles)]
    homes = await make_street(directory, 1, parameters, others=others, **settings)
    try:
        await homes.start()
        yield homes, f"ws://127.0.0.1:{homes[0].node.port}/peer"
    finally:
        await homes.close()


async def test_the_independent_peer_reads_a_real_nodes_chain(tmp_path: Path) -> None:
    """Handshake, headers, bodies, and everything in them, by what the pages say."""
    async with one_node(tmp_path, Role.HOME) as (homes, url):
        await homes[0].register()
        await homes[0].home.transfer(founder_of_the_page(0).member, 1_000_000)
        await homes.until(lambda: homes.all_final(4))
        genesis = (homes[0].node.directory / "genesis").read_bytes()
        reader = independent_chain.Chain(genesis)
        chain_id = reader.community.chain_id
        async with linked(url, PEER, chain_id) as peer:
            assert peer.handshake.responder == homes[0].node_key
            clock, tip, _, _ = peer.hello[0]
            assert abs(clock - time.time()) < 120
            sealed = await peer.headers([[0, chain_id]], tip[0])
            assert len(sealed) == tip[0]
            wanted = [[at, independent.H(header)] for at, (header, _) in enumerate(sealed, start=1)]
            for (header, signature), place in zip(sealed, wanted, strict=True):
                ((told, body),) = await peer.bodies([place])
                assert told == place[1]
                reader.add(independent.encode([header, signature, body]))
            assert (await peer.headers([wanted[-2], [0, chain_id]], 1)) == sealed[-1:]
        assert reader.hash == tip[1]
        assert reader.kinds == {"asset": 2, "transfer": 1}
        assert reader.votes
        assert "Traceback" not in homes[0].node.log


async def test_a_record_and_a_block_of_the_page_are_taken(tmp_path: Path) -> None:
    """The node mines nothing itself: its chain grows by what the independent peer signs and mines."""
    async with one_node(tmp_path, Role.HOME | Role.NODE, mining="no", interval=30) as (homes, url):
        reader = independent_chain.Chain((homes[0].node.directory / "genesis").read_bytes())
        chain_id, payee = homes.genesis.chain_id, homes[0].key.public_key
        async with linked(url, PEER, chain_id) as peer:
            now = int(time.time())
            payer = seeded("page")
            body = [10, payer.public_key, now, bytes(8), "pay", payee, 2_500_000, None]
            envelope, record = independent_chain.sign_record(body, payer.export_seed(), chain_id)
            await peer.give_record(envelope, record)
            for envelopes in ([envelope], [], []):
                now = max(now, reader.times[-1] + 1)
                block = independent_chain.mine(reader, PEER, now, envelopes)
                await peer.give_block(block)
                reader.add(independent.encode(block))
            await homes.until(lambda: homes.all_at(3), "the blocks are taken")
        assert (await homes[0].node.client.block(3)).hash == reader.hash.hex()
        assert (await homes[0].node.client.record(record.hex())).height == 1
        assert (await homes[0].node.client.account(payee.hex())).balance == 2_500_000


async def test_a_real_node_and_the_page_reach_finality_together(tmp_path: Path) -> None:
    """Two nodes count, so both must vote. The peer of the page mines all blocks, knows each checkpoint's
    state hash by rules of its own, and votes; the real node lets one checkpoint pass, votes too, and follows.
    """
    async with one_node(tmp_path, Role.HOME | Role.NODE, mining="no", age_s=600) as (homes, url):
        reader = independent_chain.Chain((homes[0].node.directory / "genesis").read_bytes())
        state = independent_state.State(reader.community)
        async with linked(url, PEER, reader.community.chain_id) as peer:
            while not state.chain[independent_state.FINAL]:
                height = reader.height + 1
                assert height < 100, "the real node never voted"
                bundles = []
                if peer.votes_told and height % 4 == 0:
                    link = state.link(height - 4)
                    theirs = await peer.votes(link)
                    bundles = [[*link, theirs[-1] + state.vote(link, 1, PEER)]]
                block = independent_chain.mine(
                    *(reader, PEER, reader.times[-1] + 1),
                    bundles=bundles,
                    state_hash=state.hash() if height % 4 == 0 else bytes(32),
                )
                await peer.give_block(block)
                state.apply(reader.add(independent.encode(block)), reader.hash, bundles)
                # As quick as votes come, which leave within a second.
                await asyncio.sleep(0 if peer.votes_told else 0.3)
            final = state.chain[independent_state.FINAL]
            await homes.until(lambda: homes.all_final(final), "the real node has final blocks")
        checkpoint = state.tables[independent_state.CHECKPOINTS][final]
        assert (await homes[0].node.client.block(final)).hash == checkpoint[0].hex()


async def test_a_newcomer_of_the_page_is_let_in_and_others_are_not(tmp_path: Path) -> None:
    async with one_node(tmp_path, Role.HOME, mining="no") as (homes, url):
        chain_id = homes.genesis.chain_id
        secret, stranger = hashlib.sha256(b"once").digest(), hashlib.sha256(b"stranger").digest()
        one_time, authority = crypto_sign_seed_keypair(secret)[0], homes[0].key
        expires = int(time.time()) + 600
        message = independent.invitation_message(chain_id, authority.public_key, one_time, 3, expires)
        shown = [authority.public_key, one_time, 3, expires, authority.sign(message)]
        async with linked(url, stranger, chain_id, (shown, secret)) as peer:
            assert await peer.headers([[0, chain_id]], 1) == []
        with pytest.raises(independent.WrongError, match="not_a_member"):
            async with linked(url, stranger, chain_id):
                pass
        for wrong in ([*shown[:3], 1, shown[4]], [*shown[:2], 15, *shown[3:]]):
            with pytest.raises(independent.WrongError, match="invitation_invalid"):
                async with linked(url, stranger, chain_id, (wrong, secret)):
                    pass
        with pytest.raises(independent.WrongError, match="wrong_chain"):
            async with linked(url, PEER, independent.H(b"another chain")):
                pass
