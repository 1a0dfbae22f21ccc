"""Engines on a network that a test moves by hand: no sockets, no clock, every message in order."""

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.community import Parameters
from ledger_core.keys import Signer
from ledger_core.node.engine.engine import Engine, NodeData
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outbox import MemoryOutbox
from ledger_core.node.engine.outputs import Drop, NodeEvent, Notify, Send
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.staging import MemoryStaging, Staging
from ledger_core.node.engine.vote_journal import MemoryVoteJournal
from ledger_core.node.messages import (
    BlockRef,
    Hello,
    Message,
    NewBlock,
    SealedHeader,
    Status,
    decode_message,
    encode_message,
)
from ledger_core.records.block import Block, decode_header
from ledger_core.records.codec import Record
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.rules.assemble import search_nonce
from ledger_core.simulation.memory_store import MemoryStore
from tests.core.world import START, World

PARAMETERS = Parameters(
    block_spacing_s=30, checkpoint_interval=4, min_difficulty_bits=1, difficulty_half_life_s=3600
)
HOMES = ("anna", "bert", "cara", "dora")
VERIFIER = Verifier(1, SignatureCache(bytes(16)))


def stranger_hello(chain_id: bytes, now: float, **status: Any) -> Hello:
    """What a scripted peer says first."""
    values: dict[str, Any] = {
        "clock": int(now),
        "tip": BlockRef(0, chain_id),
        "justified": 0,
        "final": BlockRef(0, chain_id),
    }
    return Hello(Status(**{**values, **status}), 1, "scripted")


type Mute = Callable[[bytes, bytes, Message], bool]
"""Told source, target and message; returns whether the message gets lost."""


def nobody_muted(_source: bytes, _target: bytes, _message: Message) -> bool:
    """Lose nothing."""
    return False


class Node:
    """One engine and what it has told."""

    def __init__(
        self, net: Net, name: str, settings: EngineSettings, store: MemoryStore | None = None
    ) -> None:
        self.net = net
        self.name = name
        self.home = net.world.homes.get(name)
        self.signer: Signer | None = self.home.node if self.home else None
        self.id = self.signer.public_key if self.signer else name.encode().ljust(32, b"\0")
        self.settings = settings
        self.store = store or MemoryStore(net.world.genesis)
        self.journal = MemoryVoteJournal()
        self.outbox = MemoryOutbox()
        self.staging: Staging = MemoryStaging()
        self.events: list[NodeEvent] = []
        self.drops: list[Drop] = []
        self.skew = 0.0
        self.engine: Engine
        self.start()

    def start(self) -> None:
        """Start an engine on what is there; also again, as after a crash."""
        chain = FollowedChain.open(self.store, VERIFIER)
        data = NodeData(self.signer, self.journal, self.outbox, self.staging)
        self.engine = Engine(
            chain, self.store, VERIFIER, data, self.settings, Random(self.name), self.net.now + self.skew
        )

    def told[E: NodeEvent](self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def template_block(self, now: float | None = None) -> Block | None:
        """Mine on this node's tip; the block is taken by the engine at once."""
        at = (self.net.now if now is None else now) + self.skew
        template = self.engine.template(at)
        if template is None:
            return None
        header = search_nonce(template.header)
        assert header is not None
        block_hash = self.engine.mined(header, at)
        return self.store.block(block_hash)


class Net:
    """Nodes, links and one clock."""

    def __init__(
        self, names: Iterable[str] = HOMES, parameters: Parameters = PARAMETERS, **settings: Any
    ) -> None:
        self.world = World(tuple(names), parameters)
        self.now = float(START + 60)
        self.world.now = int(self.now)
        self.settings = EngineSettings(
            **{"announce_interval_s": 0.01, "vote_interval_s": 0.01, "start_grace_s": 0, **settings}
        )
        self.nodes = {name: Node(self, name, self.settings) for name in self.world.homes}
        self.queue: deque[tuple[bytes, bytes, Message]] = deque()
        self.links: set[frozenset[bytes]] = set()
        self.heard: dict[bytes, list[Message]] = {}
        """What scripted peers were sent, by their id."""
        self.mute: Mute = nobody_muted
        self.twist: Callable[[bytes, Message], Message] = lambda _source, message: message

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def engines(self) -> list[Engine]:
        return [node.engine for node in self.nodes.values()]

    def by_id(self, peer_id: bytes) -> Node | None:
        return next((node for node in self.nodes.values() if node.id == peer_id), None)

    def add(self, name: str, store: MemoryStore | None = None, **settings: Any) -> Node:
        """A further node, without a home in the genesis."""
        values = {field: getattr(self.settings, field) for field in EngineSettings.__struct_fields__}
        node = self.nodes[name] = Node(self, name, EngineSettings(**{**values, **settings}), store)
        return node

    def link(self, a: str, b: str) -> None:
        """Connect two nodes."""
        one, two = self.nodes[a], self.nodes[b]
        self.links.add(frozenset((one.id, two.id)))
        hellos = one.engine.hello(self.now + one.skew), two.engine.hello(self.now + two.skew)
        one.engine.peer_joined(two.id, hellos[1], self.now + one.skew)
        two.engine.peer_joined(one.id, hellos[0], self.now + two.skew)

    def mesh(self, *names: str) -> None:
        """Connect all of some (all) nodes."""
        chosen = names or tuple(self.nodes)
        for place, a in enumerate(chosen):
            for b in chosen[:place]:
                self.link(a, b)
        self.settle()

    def part(self, *names: str) -> None:
        """Cut the links between some nodes and the others."""
        inside = {self.nodes[name].id for name in names}
        for link in list(self.links):
            a, b = tuple(link)
            if (a in inside) != (b in inside):
                self.cut(a, b)
        self.settle()

    def cut(self, a: bytes, b: bytes) -> None:
        self.links.discard(frozenset((a, b)))
        for one, two in ((a, b), (b, a)):
            node = self.by_id(one)
            if node is not None:
                node.engine.peer_left(two, self.now + node.skew)

    def settle(self) -> None:
        """Carry every message, until nobody has anything to say."""
        for _ in range(20_000):
            self._collect()
            if not self.queue:
                return
            source, target, message = self.queue.popleft()
            if frozenset((source, target)) not in self.links or self.mute(source, target, message):
                continue
            message = self.twist(source, message)
            node = self.by_id(target)
            if node is None:
                self.heard.setdefault(target, []).append(message)
            else:
                node.engine.message(source, decode_message(encode_message(message)), self.now + node.skew)
        raise AssertionError("the nodes never stop talking")

    def _collect(self) -> None:
        for node in self.nodes.values():
            for output in node.engine.take_outputs():
                match output:
                    case Send():
                        self.queue.append((node.id, output.peer, output.message))
                    case Drop():
                        node.drops.append(output)
                        self.cut(node.id, output.peer)
                    case Notify():
                        node.events.append(output.event)

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass; every engine gets its ticks."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            self.world.now = int(self.now)
            for node in self.nodes.values():
                if node.engine.next_tick() <= self.now + node.skew:
                    node.engine.tick(self.now + node.skew)
            self.settle()

    def mine(self, name: str, blocks: int = 1, wait: float = 30.0) -> None:
        """Let a node find blocks, some time apart."""
        for _ in range(blocks):
            self.pass_time(wait, wait / 3)
            block = self.nodes[name].template_block()
            assert block is not None, self.nodes[name].engine.progress(self.now)
            self.settle()

    def pay(self, source: str, target: str, amount: int = 1000, **fields: Any) -> Record:
        """A signed transfer."""
        return self.world.make(
            Transfer,
            self.world[source].key,
            kind=TransferKind.PAY,
            to=self.world[target].id,
            amount=amount,
            reference=None,
            **fields,
        )

    def submit(self, name: str, record: Record) -> bytes:
        """Hand a record to a node, and let it spread."""
        record_id = self.nodes[name].engine.submit(record.envelope, self.now)
        self.pass_time(0.1, 0.02)
        return record_id

    def same_tip(self, *names: str) -> bool:
        chosen = [self.nodes[name].engine for name in names or self.nodes]
        return len({engine.chain.tip_hash for engine in chosen}) == 1

    def heights(self) -> list[int]:
        return [engine.chain.height for engine in self.engines]

    def finals(self) -> list[int]:
        return [engine.chain.final_height for engine in self.engines]

    # Scripted peers

    def join(self, name: str, target: str, **status: Any) -> bytes:
        """Connect a scripted peer to a node; what it is sent is in `heard`."""
        peer_id = name.encode().ljust(32, b"\0")
        self.links.add(frozenset((peer_id, self.nodes[target].id)))
        self.heard[peer_id] = []
        hello = stranger_hello(self.world.chain_id, self.now, **status)
        self.nodes[target].engine.peer_joined(peer_id, hello, self.now)
        self.settle()
        return peer_id

    def say(self, peer_id: bytes, target: str, message: Message) -> None:
        """Let a scripted peer say something."""
        self.nodes[target].engine.message(peer_id, decode_message(encode_message(message)), self.now)
        self.settle()

    def asked[M: Message](self, peer_id: bytes, kind: type[M]) -> list[M]:
        """What a scripted peer was sent, of one kind."""
        return [message for message in self.heard[peer_id] if isinstance(message, kind)]


def listening(heard: list[tuple[bytes, Message]], *kinds: type[Message]) -> Mute:
    """A `mute` that lets everything pass and notes the messages of some kinds, with who sent them."""

    def listen(source: bytes, _target: bytes, message: Message) -> bool:
        if isinstance(message, kinds):
            heard.append((source, message))
        return False

    return listen


def announce(block: Block, justified: int = 0, final: int = 0) -> NewBlock:
    """The announcement of a block."""
    return NewBlock(SealedHeader(block.header, block.signature), justified, final)


def ref(block: Block) -> BlockRef:
    """A block's height and hash."""
    return BlockRef(decode_header(block.header).height, block.hash)


def money(engine: Engine) -> int:
    """All money of a state: balances and fees that nobody has yet."""
    state = engine.chain.state
    balances = sum(row.balance for row in state.accounts.values())
    return balances + sum(fee.amount for fee in state.fees.values())
