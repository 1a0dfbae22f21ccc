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
from ledger_core.community import Founder, Genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner
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
    Hello,
    Inventory,
    Message,
    NewBlock,
    Pong,
    Records,
    SealedHeader,
    Status,
    decode_message,
    encode_message,
)
from ledger_core.node.peers import LocalNode
from ledger_core.node.peers.assembler import Assembler
from ledger_core.node.peers.errors import HandshakeError, RefusedByPeer
from ledger_core.node.peers.frames import Close, FrameType, Lane, More, Start
from ledger_core.node.peers.handshake import Initiator
from ledger_core.records.block import Block, decode_header, header_hash, miner_message
from ledger_core.records.codec import Envelope, encode_body, open_envelope, record_prefix, sign_record
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.types import Role
from ledger_core.rules.apply import apply_block
from ledger_core.rules.assemble import assemble, seal, search_nonce
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block
from tests.node.peer_world import RawPeer
from tests.node.processes import HOUSEHOLD, Household, Street, seeded, street

HONEST = 3
ANSWER_S = 30.0
MOST_MIB = 200
AHEAD_S = 100
FUZZED = 150


class Attacker(RawPeer):
    """A member's node in the hands of a test."""

    def __init__(
        self, websocket: aiohttp.ClientWebSocketResponse, signer: SoftwareSigner, home: Street
    ) -> None:
        self.websocket = websocket
        self.signer = signer
        self.key = signer.public_key
        self.street = home

    @property
    def genesis(self) -> Genesis:
        return self.street.genesis

    def status(self, height: int = 0, justified: int = 0) -> Status:
        """A claim about this attacker's chain."""
        chain_id = self.genesis.chain_id
        tip = BlockRef(height, os.urandom(32) if height else chain_id)
        return Status(int(time.time()), tip, justified, BlockRef(0, chain_id))

    async def greet(self, status: Status | None = None) -> None:
        await self.say(Hello(status or self.status(), 1, "hostile"))

    async def say(self, message: Message) -> None:
        payload = encode_message(message)
        lane = Lane.BULK if isinstance(message, Headers | Bodies) else Lane.URGENT
        await self.send_message(kind_of(message), payload, lane)

    async def messages(self) -> AsyncIterator[Message]:
        """Give what the node says, until it ends the link."""
        assembler = Assembler()
        async for frame in self.frames():
            if isinstance(frame, Close):
                return
            done = None
            if isinstance(frame, Start):
                done = assembler.start(frame, float("inf"))
            elif isinstance(frame, More):
                done = assembler.more(frame)
            if done is not None:
                yield decode_message(bytes(done.payload))

    async def was_dropped(self) -> bool:
        """Read on until the node ends the link; False where it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                async for _ in self.frames():
                    pass
                return True
        return False


type Attack = Callable[[Attacker], Awaitable[None]]


@asynccontextmanager
async def attacker(homes: Street, target: Household, signer: SoftwareSigner) -> AsyncIterator[Attacker]:
    """Link a hostile member with a node."""
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"ws://127.0.0.1:{target.node.port}/peer", autoping=False, max_msg_size=2**23
        ) as socket,
    ):
        initiator = Initiator(LocalNode(signer, homes.genesis.chain_id, "hostile"), target.node_key)
        await socket.send_bytes(initiator.opening())
        initiator.answer(await socket.receive_bytes(timeout=ANSWER_S))
        await socket.send_bytes(initiator.proof())
        made = Attacker(socket, signer, homes)
        made.session = initiator.verdict(await socket.receive_bytes(timeout=ANSWER_S))
        yield made


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
    )
}

HELD_BACK = (floods, asks_without_end)
"""A busy node reads these no faster than it may, so that the flood stands in the attacker's own queue."""


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
    evil = {name: seeded(name) for name in (*ATTACKS, "replayer")}
    mallory = seeded("mallory node")
    others = [
        *(_founder(name, int(Role.HOME), signer) for name, signer in evil.items()),
        _founder("mallory", HOUSEHOLD, mallory),
    ]
    async with street(tmp_path, HONEST, others=others) as homes:
        target = homes[0]
        await homes.until(lambda: homes.all_final(8), "the honest nodes have final blocks")
        for name, attack in ATTACKS.items():
            async with attacker(homes, target, evil[name]) as peer:
                with suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(ANSWER_S):
                        await attack(peer)
                if attack not in HELD_BACK:
                    assert await peer.was_dropped(), f"{name}\n{target.node.log[-2000:]}"
            assert (await target.node.status()).synced, name
        await replays_a_handshake(homes, target, evil["replayer"])

        final = (await target.node.status()).final
        kept = (await target.node.client.block(final)).hash
        # As many blocks as their times allow: more than the honest nodes have, and made by one alone.
        number = int(time.time()) - homes.genesis.created + AHEAD_S
        private = list(private_branch(homes.genesis, mallory, number))
        assert number > (await target.node.status()).tip.height
        async with attacker(homes, target, mallory) as peer:
            await shows_private_branch(peer, private)
        await homes.until(lambda: homes.all_final(final + 8), "the honest nodes went on")
        for each in homes:
            assert (await each.node.client.block(final)).hash == kept
            assert resident_mib(each) < MOST_MIB
            assert " ERROR " not in each.node.log
            assert "Traceback" not in each.node.log
        await homes.same_state((await target.node.status()).final)
        banned = target.node.log
        for code in ("frame_forged", "oversized", "message_malformed", "signature_invalid"):
            assert code in banned


def _founder(name: str, roles: int, node: SoftwareSigner) -> Founder:
    return Founder(seeded(f"{name} home").public_key, roles, node.public_key, sha256(name.encode()).digest())
