"""Members' nodes that turn hostile, against real nodes: these stay on the right branch, small and responsive.

The attackers prove keys of members, so nothing but their behaviour tells them apart. What each single lie
leads to is tested at the engine and at the transport; here a whole node meets them on its real port.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from itertools import batched
from pathlib import Path
from random import Random

import aiohttp
from msgspec.structs import replace

from ledger_core.chain.pending import NodeKeys
from ledger_core.cli.history_command import happened
from ledger_core.client.evidence import EVENT, publish_evidence
from ledger_core.community import Founder, Genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner, address
from ledger_core.node.bridge_limits import kind_of
from ledger_core.node.messages import (
    MAX_BODIES,
    BlockRef,
    Bodies,
    Body,
    GetBodies,
    GetCompact,
    GetHeaders,
    Headers,
    Inventory,
    NewBlock,
    Pong,
    Records,
    SealedHeader,
    Votes,
    encode_message,
)
from ledger_core.node.peers import LocalNode
from ledger_core.node.peers.errors import HandshakeError, RefusedByPeer
from ledger_core.node.peers.frames import FrameType, Lane, message_frames
from ledger_core.node.peers.handshake import Initiator
from ledger_core.records.block import Block, decode_header, header_hash, miner_message
from ledger_core.records.codec import (
    Envelope,
    encode_body,
    open_envelope,
    record_message,
    record_prefix,
    sign_record,
)
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.types import Role
from ledger_core.records.votes import VOTE_NONCE, Vote, VoteBundle
from ledger_core.rules.apply import apply_block
from ledger_core.rules.assemble import assemble, seal, search_nonce
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block
from tests.node.attacker import ANSWER_S, Attacker, attacker
from tests.node.processes import HOUSEHOLD, Household, Street, seeded, street, until

HONEST = 3
MALLORY = seeded("mallory node")
"""The node key of the one hostile member that may mine and vote."""
LIAR = address(seeded("mallory home").public_key)
MOST_MIB = 200
"""An honest node's memory at its most. What it keeps for peers is bounded by its settings: 16 MiB of bodies
ahead, 8 MiB each of recent blocks and of waiting records, 8 MiB of what waits to be sent to each."""
AHEAD_S = 100
FUZZED = 150


type Attack = Callable[[Attacker], Awaitable[None]]


# What attackers do: each ends with the link's end


async def sends_garbage(peer: Attacker) -> None:
    await peer.websocket.send_bytes(os.urandom(5000))


async def repeats_a_frame(peer: Attacker) -> None:
    sealed = peer.session.sealer.seal(b"once")
    await peer.websocket.send_bytes(sealed)
    await peer.websocket.send_bytes(sealed)


async def announces_too_much(peer: Attacker) -> None:
    head = bytes((FrameType.START, Lane.BULK, kind_of(Bodies)))
    await peer.send_plain(head + (2**32 - 1).to_bytes(4) + bytes(1000))


async def speaks_before_it_greets(peer: Attacker) -> None:
    await peer.say(Inventory((os.urandom(32),)))


async def greets_twice(peer: Attacker) -> None:
    await peer.greet()
    await peer.greet()


async def hides_a_kind(peer: Attacker) -> None:
    await peer.greet()
    await peer.send_message(kind_of(Pong), encode_message(Inventory((os.urandom(32),))))


async def shows_a_header_without_work(peer: Attacker) -> None:
    """Stands on the newest block, as the next one would, and claims the world."""
    await peer.greet(peer.status(10**6, 10**6))
    async for message in peer.messages():
        if isinstance(message, NewBlock):
            below = decode_header(message.sealed.header)
            above = header_hash(message.sealed.header)
            mine = replace(
                below, height=below.height + 1, previous=above, time=below.time + 1, miner=peer.key, nonce=0
            )
            header = mine.encode()
            seal_of = peer.signer.sign(miner_message(header_hash(header)))
            await peer.say(NewBlock(SealedHeader(header, seal_of), 10**6, 0))


async def gives_unasked_bodies(peer: Attacker) -> None:
    await peer.greet()
    for _ in range(30):
        await peer.say(Bodies((Body(os.urandom(32), os.urandom(60_000)),)))


async def forges_a_record(peer: Attacker) -> None:
    await peer.greet()
    body = Transfer(
        author=peer.street[0].key.public_key,
        created=int(time.time()),
        nonce=bytes(8),
        kind=TransferKind.PAY,
        to=peer.key,
        amount=10**6,
        reference=None,
    )
    own = replace(body, author=peer.key)
    signature = sign_record(own, peer.genesis.chain_id, peer.signer).signature
    forged = Envelope(encode_body(body), signature)
    record = open_envelope(forged, record_prefix(peer.genesis.chain_id)).id
    await peer.say(Inventory((record,)))
    await peer.say(Records((forged,)))


async def floods(peer: Attacker) -> None:
    await peer.greet()
    for _ in range(3000):
        await peer.say(Inventory(tuple(os.urandom(32) for _ in range(20))))


async def asks_without_end(peer: Attacker) -> None:
    await peer.greet()
    locator = (BlockRef(0, peer.genesis.chain_id),)
    for _ in range(3000):
        await peer.say(GetHeaders(locator, 2000))


async def fuzzes(peer: Attacker) -> None:
    """Sends valid messages with a few bytes changed; links anew is what others do."""
    await peer.greet()
    random = Random(5)
    for _ in range(FUZZED):
        message = random.choice(
            [
                Inventory((random.randbytes(32),)),
                GetBodies((BlockRef(random.randrange(99), random.randbytes(32)),)),
                GetHeaders((BlockRef(0, peer.genesis.chain_id),), 1 + random.randrange(2000)),
                Pong(random.getrandbits(32), peer.status(random.randrange(9))),
            ]
        )
        payload = bytearray(encode_message(message))
        for _ in range(random.randrange(3)):
            payload[random.randrange(len(payload))] = random.randrange(256)
        await peer.send_message(kind_of(message), bytes(payload))


async def shows_an_invalid_block_with_work(peer: Attacker) -> None:
    """A miner's block, rightly mined and signed, in which somebody pays who is no member."""
    await peer.greet()
    stranger = SoftwareSigner.generate()
    payment = Transfer(
        author=stranger.public_key,
        created=int(time.time()),
        nonce=bytes(8),
        kind=TransferKind.PAY,
        to=peer.key,
        amount=1,
        reference=None,
    )
    while True:
        block = await peer.block_on_next(MALLORY, sign_record(payment, peer.genesis.chain_id, stranger))
        await peer.announce(block)
        async for message in peer.messages():
            if isinstance(message, GetBodies | GetCompact):
                await peer.say(Bodies((Body(block.hash, block.body),)))
            elif isinstance(message, NewBlock):
                break  # the others were quicker, and nobody looks at this one: once more
        else:
            return


async def votes_twice(peer: Attacker) -> None:
    """A member's own node signs two votes for one checkpoint, from two sources."""
    await peer.greet()
    client = peer.street[0].node.client
    index = genesis_state(peer.genesis).node_keys[MALLORY.public_key]
    async for message in peer.messages():
        if not isinstance(message, NewBlock):
            continue
        target = decode_header(message.sealed.header)
        interval = peer.genesis.parameters.checkpoint_interval
        if target.height % interval or not message.final < message.justified < target.height:
            continue
        for height in (message.final, message.justified):
            source = bytes.fromhex((await client.block(height)).hash)
            link = (height, source, target.height, header_hash(message.sealed.header))
            vote = Vote(MALLORY.public_key, target.time, VOTE_NONCE, *link)
            signature = MALLORY.sign(record_message(peer.genesis.chain_id, encode_body(vote)))
            await peer.say(Votes((VoteBundle(target.time, *link, index.to_bytes(2) + signature),)))
        return


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        sends_garbage,
        repeats_a_frame,
        announces_too_much,
        speaks_before_it_greets,
        greets_twice,
        hides_a_kind,
        shows_a_header_without_work,
        gives_unasked_bodies,
        forges_a_record,
        floods,
        asks_without_end,
        fuzzes,
        shows_an_invalid_block_with_work,
        votes_twice,
    )
}

NOT_DROPPED = (floods, asks_without_end, votes_twice)
"""A busy node reads floods no faster than it may, so that they stand in the attacker's own queue; and whoever
passes on conflicting votes may be honest."""


# What goes on beside everything else


async def withholds_bodies(peer: Attacker, asked: asyncio.Event) -> None:
    """Show a block with real work on a branch that claims to be the best, and give no body."""
    await peer.greet()
    await peer.announce(await peer.block_on_next(MALLORY))
    async for message in peer.messages():
        if isinstance(message, GetBodies | GetCompact):
            asked.set()


async def is_slow(peer: Attacker, chunks: list[int]) -> None:
    """Ask much and read none of the answers; send a large message, one chunk at a time."""
    await peer.greet()
    for _ in range(50):
        await peer.say(GetHeaders((BlockRef(0, peer.genesis.chain_id),), 2000))
    content = encode_message(Bodies((Body(bytes(32), bytes(1024 * 1024)),)))
    with suppress(ConnectionError):
        for frame in message_frames(Lane.BULK, kind_of(Bodies), content):
            await peer.send_plain(frame)
            chunks.append(len(frame))
            await asyncio.sleep(1)


async def keeps_asking(target: Household, answers: list[int]) -> None:
    """Ask the node's API all the time; a question without an answer fails the test."""
    while True:
        answers.append((await target.node.status()).tip.height)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def beside(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Do some work beside the block; where it fails, so does the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(each)) for each in work]
        yield
        for task in tasks:
            task.cancel()


async def _run(work: Awaitable[None]) -> None:
    await work


def private_branch(genesis: Genesis, miner: SoftwareSigner, number: int) -> Iterator[Block]:
    """Blocks from the genesis on, a second apart, with real work by one node alone."""
    state = genesis_state(genesis)
    for _ in range(number):
        template = assemble(state, (), (), miner.public_key, state.tip.times[-1] + 1)
        header = search_nonce(template.header)
        assert header is not None
        block = seal(header, template.body, miner)
        yield block
        prepared = prepare_block(block, genesis, genesis.chain_id, NodeKeys(state.nodes))
        prepared.verified = True
        apply_block(state, prepared, int(time.time()))


async def shows_private_branch(peer: Attacker, blocks: list[Block]) -> int:
    """Claim the branch, show its headers and give every body asked for; returns how many were."""
    by_hash = {block.hash: block for block in blocks}
    tip = BlockRef(len(blocks), blocks[-1].hash)
    await peer.greet(replace(peer.status(), tip=tip, justified=len(blocks) - 4))
    given, shown = 0, False
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(ANSWER_S / 3):
            async for message in peer.messages():
                if isinstance(message, GetHeaders) and not shown:
                    shown = True
                    await peer.say(Headers(tuple(SealedHeader(b.header, b.signature) for b in blocks)))
                asked = (
                    message.blocks
                    if isinstance(message, GetBodies)
                    else (message.block,)
                    if isinstance(message, GetCompact)
                    else ()
                )
                for part in batched(asked, MAX_BODIES, strict=False):
                    await peer.say(Bodies(tuple(Body(ref.hash, by_hash[ref.hash].body) for ref in part)))
                    given += len(part)
    assert shown, "the node never asked for the headers of the better branch"
    return given


def resident_mib(household: Household) -> float:
    assert household.node.process is not None
    text = Path(f"/proc/{household.node.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")) / 1024


async def replays_a_handshake(homes: Street, target: Household, signer: SoftwareSigner) -> None:
    """What a member said on one link is worth nothing on another."""
    url = f"ws://127.0.0.1:{target.node.port}/peer"
    initiator = Initiator(LocalNode(signer, homes.genesis.chain_id, "honest"), target.node_key)
    async with aiohttp.ClientSession() as client:
        async with client.ws_connect(url) as socket:
            opening = initiator.opening()
            await socket.send_bytes(opening)
            initiator.answer(await socket.receive_bytes(timeout=ANSWER_S))
            proof = initiator.proof()
            await socket.send_bytes(proof)
            initiator.verdict(await socket.receive_bytes(timeout=ANSWER_S))
        async with client.ws_connect(url) as socket:
            await socket.send_bytes(opening)
            await socket.receive_bytes(timeout=ANSWER_S)
            await socket.send_bytes(proof)
            message = await socket.receive(timeout=ANSWER_S)
            if message.type is aiohttp.WSMsgType.BINARY:
                try:
                    initiator.verdict(message.data)
                except HandshakeError, RefusedByPeer, LedgerError:
                    return
                raise AssertionError("a replayed handshake was welcomed")


async def test_honest_nodes_outlive_hostile_members(tmp_path: Path) -> None:
    evil = {name: seeded(name) for name in (*ATTACKS, "replayer", "withholder", "slow")}
    others = [
        *(_founder(name, int(Role.HOME), signer) for name, signer in evil.items()),
        _founder("mallory", HOUSEHOLD, MALLORY),
    ]
    withheld = asyncio.Event()
    chunks: list[int] = []
    answers: list[int] = []
    async with street(tmp_path, HONEST, others=others) as homes:
        target = homes[0]
        await homes.until(lambda: homes.all_final(8), "the honest nodes have final blocks")
        async with (
            attacker(homes, target, evil["withholder"]) as withholder,
            attacker(homes, target, evil["slow"]) as slow,
            beside(
                withholds_bodies(withholder, withheld), is_slow(slow, chunks), keeps_asking(target, answers)
            ),
        ):
            await until(withheld.is_set, "the bodies were asked for")
            await homes.until(lambda: homes.all_final(12), "blocks become final while bodies are withheld")
            for name, attack in ATTACKS.items():
                await _suffers(homes, attack, evil[name], answers)
            assert len(chunks) > 1
        await replays_a_handshake(homes, target, evil["replayer"])

        final = (await target.node.status()).final
        kept = (await target.node.client.block(final)).hash
        # As many blocks as their times allow: more than the honest nodes have, and made by one alone.
        number = int(time.time()) - homes.genesis.created + AHEAD_S
        private = list(private_branch(homes.genesis, MALLORY, number))
        assert number > (await target.node.status()).tip.height
        async with attacker(homes, target, MALLORY) as peer:
            await shows_private_branch(peer, private)
        (told,) = [event for event in await happened(target.node.client, None) if event.event == EVENT]
        evidence = await publish_evidence(target.home, told.data)
        await homes.until(lambda: homes.all_final(final + 8), "the honest nodes went on")
        await homes.final_height_of(evidence)
        assert "node" not in (await homes[1].node.client.member(LIAR)).roles
        for each in homes:
            assert (await each.node.client.block(final)).hash == kept
            assert resident_mib(each) < MOST_MIB
            assert " ERROR " not in each.node.log
            assert "Traceback" not in each.node.log
        await homes.same_state((await target.node.status()).final)
        banned = target.node.log
        for code in (
            "frame_forged",
            "oversized",
            "message_malformed",
            "signature_invalid",
            "it shows a block that the rules refuse",
        ):
            assert code in banned


async def _suffers(homes: Street, attack: Attack, signer: SoftwareSigner, answers: list[int]) -> None:
    """Let a member attack the first home's node, which goes on answering."""
    node, asked, name = homes[0].node, len(answers), attack.__name__
    async with attacker(homes, homes[0], signer) as peer:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await attack(peer)
        if attack not in NOT_DROPPED:
            assert await peer.was_dropped(), f"{name}\n{node.log[-2000:]}"
        # One question may have been under way before.
        await until(lambda: len(answers) > asked + 1, f"the API answers during {name}")
    assert (await node.status()).synced, name


def _founder(name: str, roles: int, node: SoftwareSigner) -> Founder:
    return Founder(seeded(f"{name} home").public_key, roles, node.public_key, sha256(name.encode()).digest())
