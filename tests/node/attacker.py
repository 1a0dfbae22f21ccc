"""A member's node in the hands of a test: what it says to a real node is up to the test."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from ledger_core.community import Genesis
from ledger_core.keys import Signer, SoftwareSigner
from ledger_core.node.bridge_limits import kind_of
from ledger_core.node.messages import (
    BlockRef,
    Bodies,
    Headers,
    Hello,
    Message,
    NewBlock,
    SealedHeader,
    Status,
    decode_message,
    encode_message,
)
from ledger_core.node.peers import LocalNode
from ledger_core.node.peers.assembler import Assembler
from ledger_core.node.peers.frames import Close, Lane, More, Start
from ledger_core.node.peers.handshake import Initiator
from ledger_core.records.block import (
    HEADER_VERSION,
    NO_STATE_HASH,
    Block,
    BlockBody,
    Header,
    body_root,
    decode_header,
    encode_block_body,
    header_hash,
)
from ledger_core.records.codec import Envelope, open_envelope, record_prefix
from ledger_core.rules.assemble import seal, search_nonce
from ledger_core.rules.difficulty import next_target
from ledger_core.rules.headers import is_checkpoint
from tests.node.peer_world import RawPeer
from tests.node.processes import Household, Street

ANSWER_S = 30.0
"""A hang's guard for what the node is to say or do."""


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

    async def block_on_next(self, miner: Signer, *records: Envelope) -> Block:
        """Put a block with real work on the node's next one that allows it; what is in it nobody checked."""
        parameters = self.genesis.parameters
        async for message in self.messages():
            if not isinstance(message, NewBlock):
                continue
            below = decode_header(message.sealed.header)
            if is_checkpoint(below.height + 1, parameters.checkpoint_interval):
                # It would have to name the state.
                continue
            prefix = record_prefix(self.genesis.chain_id)
            header = search_nonce(
                Header(
                    HEADER_VERSION,
                    below.height + 1,
                    header_hash(message.sealed.header),
                    body_root([open_envelope(each, prefix) for each in records], ()),
                    len(records),
                    NO_STATE_HASH,
                    below.time + 1,
                    next_target(parameters, self.genesis.created, below.height, below.time),
                    miner.public_key,
                    0,
                )
            )
            assert header is not None
            return seal(header, encode_block_body(BlockBody(records)), miner)
        raise ConnectionError("the node ended the link")

    async def announce(self, block: Block) -> None:
        """Tell of a block, as one of a branch that has justified more than any other."""
        await self.say(NewBlock(SealedHeader(block.header, block.signature), 10**6, 0))


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
