"""Nodes on loopback for the tests of the peer transport: honest ones, and one played by hand."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import AddrInfoType, ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType

from ledger_core.keys import SoftwareSigner
from ledger_core.node.peers import (
    Bearer,
    Ending,
    KindLimit,
    LocalNode,
    PeerManager,
    PeerSettings,
    Refusal,
    RemoteNode,
)
from ledger_core.node.peers.frames import Frame, Lane, close_frame, decode_frame, message_frames
from ledger_core.node.peers.handshake import Initiator, Session
from ledger_core.records.members import Invitation

CHAIN_ID = bytes(range(32))
PATIENCE_S = 20.0
"""A hang's guard for a wait in a test; what is waited for comes far sooner."""

NOTE, BLOCK, RARE = 1, 2, 3
LIMITS = {
    NOTE: KindLimit(
        name="note",
        max_bytes=4096,
        per_second=20_000,
        burst=2000,
        bytes_per_second=8_000_000,
        burst_bytes=2**23,
    ),
    BLOCK: KindLimit(
        name="block",
        max_bytes=2**21,
        per_second=1000,
        burst=100,
        bytes_per_second=10**9,
        burst_bytes=2**28,
        bulk=True,
    ),
    RARE: KindLimit(
        name="rarity",
        max_bytes=100_000,
        per_second=2.0,
        burst=3,
        bytes_per_second=1000,
        burst_bytes=200_000,
        max_seconds=1.0,
    ),
}


def seeded(number: int) -> SoftwareSigner:
    """Give the key of a node by number."""
    return SoftwareSigner(number.to_bytes(32))


def settings(**changes: Any) -> PeerSettings:
    """Give settings that are quick to dial and slow to lose patience."""
    quick: dict[str, Any] = {
        "listen_host": "127.0.0.1",
        "handshake_s": 10.0,
        "keepalive_s": 2.0,
        "silent_s": 15.0,
        "close_s": 0.15,
        "dial_every_s": 0.01,
        "backoff_base_s": 0.02,
        "backoff_cap_s": 0.1,
        "stable_s": 3600.0,
    }
    return PeerSettings(**(quick | changes))


class Members:
    """A policy by list."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = set(keys)
        self.revoked: set[bytes] = set()
        self.invitations: set[bytes] = set()
        """One-time keys of invitations that hold."""

    def admit(self, node_key: bytes, invitation: Invitation | None) -> None:
        if node_key in self.revoked:
            raise Refusal("revoked", "this member's roles were revoked")
        if node_key in self.keys:
            return
        if invitation is None:
            raise Refusal("stranger", "this node belongs to no member and bears no invitation")
        if invitation.key not in self.invitations:
            raise Refusal("invitation_used", "this invitation was used before")


class Everybody:
    """A policy that lets all in."""

    def admit(self, node_key: bytes, invitation: Invitation | None) -> None:
        """Let in."""


@dataclass
class Owner:
    """Writes down what a manager tells."""

    joined_keys: list[bytes] = field(default_factory=list)
    remotes: dict[bytes, RemoteNode] = field(default_factory=dict)
    messages: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    endings: list[tuple[bytes, Ending]] = field(default_factory=list)
    handler: Callable[[bytes, int, bytes], Any] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def joined(self, remote: RemoteNode, *, inbound: bool) -> None:
        self.joined_keys.append(remote.key)
        self.remotes[remote.key] = remote
        self._changed.set()

    async def message(self, key: bytes, kind: int, payload: bytes) -> None:
        if self.handler is not None:
            await self.handler(key, kind, payload)
        self.messages.append((key, kind, payload))
        self._changed.set()

    async def left(self, key: bytes, ending: Ending) -> None:
        self.endings.append((key, ending))
        self.remotes.pop(key, None)
        self._changed.set()

    def knows(self, key: bytes) -> bool:
        """Tell whether a link with a node is up."""
        return key in self.remotes

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds; it is looked at whenever the manager tells something."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def last_ending(self) -> Ending:
        return self.endings[-1][1]

    def codes(self) -> list[str]:
        """Give the codes of all endings."""
        return [ending.code for _, ending in self.endings]


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds that nobody tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Node:
    """A manager and its owner."""

    manager: PeerManager
    owner: Owner
    signer: SoftwareSigner

    @property
    def key(self) -> bytes:
        return self.signer.public_key

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.manager.port}/peer"

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.manager.port}"


def local_node(signer: SoftwareSigner, chain_id: bytes = CHAIN_ID, bearer: Bearer | None = None) -> LocalNode:
    return LocalNode(signer, chain_id, "energy-ledger/test", bearer)


@asynccontextmanager
async def running(
    directory: Path,
    number: int,
    policy: Any = None,
    *,
    chain_id: bytes = CHAIN_ID,
    bearer: Bearer | None = None,
    clock: Callable[[], float] | None = None,
    local: LocalNode | None = None,
    met_copy: Callable[[], None] = lambda: None,
    **changes: Any,
) -> AsyncIterator[Node]:
    """Run a node; its key is `seeded(number)`, its files are in a folder of that number."""
    home = directory / str(number)
    home.mkdir(parents=True, exist_ok=True)
    signer = seeded(number)
    owner = Owner()
    more: dict[str, Any] = {} if clock is None else {"clock": clock}
    manager = PeerManager(
        local or local_node(signer, chain_id, bearer),
        policy=policy or Everybody(),
        limits=LIMITS,
        events=owner,
        settings=settings(**changes),
        directory=home,
        random=Random(number),
        met_copy=met_copy,
        **more,
    )
    await manager.start()
    try:
        yield Node(manager, owner, signer)
    finally:
        await manager.close()


async def linked(one: Node, *others: Node) -> None:
    """Wait until a node is linked with others, as both sides see it."""
    for other in others:
        await one.owner.until(partial(one.owner.knows, other.key))
        await other.owner.until(partial(other.owner.knows, one.key))


class RawPeer:
    """A peer by hand: it proves a key, and then sends what a test likes."""

    def __init__(self, websocket: ClientWebSocketResponse, session: Session, signer: SoftwareSigner) -> None:
        self.websocket = websocket
        self.session = session
        self.key = signer.public_key

    async def send_plain(self, plaintext: bytes) -> None:
        """Seal and send a frame."""
        await self.websocket.send_bytes(self.session.sealer.seal(plaintext))

    async def send_message(self, kind: int, payload: bytes, lane: Lane = Lane.URGENT) -> None:
        for frame in message_frames(lane, kind, payload):
            await self.send_plain(frame)

    async def frames(self) -> AsyncIterator[Frame]:
        """Give the frames that come, until the other side ends the link."""
        while True:
            message = await self.websocket.receive(PATIENCE_S)
            if message.type is not WSMsgType.BINARY:
                return
            yield decode_frame(self.session.opener.open(message.data))

    async def close(self) -> None:
        await self.send_plain(close_frame("done", "the test is over"))


@asynccontextmanager
async def raw_peer(node: Node, number: int, *, receive_buffer: int | None = None) -> AsyncIterator[RawPeer]:
    """Link a peer by hand with a node; its socket's buffer may be small."""
    signer = seeded(number)

    def make_socket(info: AddrInfoType) -> socket.socket:
        made = socket.socket(info[0], info[1], info[2])
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return made

    async with (
        ClientSession(connector=TCPConnector(socket_factory=make_socket)) as client,
        client.ws_connect(node.url, autoping=False) as websocket,
    ):
        initiator = Initiator(local_node(signer), node.key)
        await websocket.send_bytes(initiator.opening())
        initiator.answer(await websocket.receive_bytes(timeout=PATIENCE_S))
        await websocket.send_bytes(initiator.proof())
        session = initiator.verdict(await websocket.receive_bytes(timeout=PATIENCE_S))
        await node.owner.until(lambda: signer.public_key in node.owner.remotes)
        yield RawPeer(websocket, session, signer)


def free_ports(number: int) -> list[int]:
    """Give ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
