"""Makes a valid chain by simulating a street, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from ledger_core.records.block import Block
from ledger_core.records.codec import Record
from ledger_core.records.readings import Reading
from ledger_core.rules.apply import apply_block
from ledger_core.rules.assemble import assemble, bundle_votes, seal, search_nonce
from ledger_core.rules.events import (
    AcceptanceEnded,
    AcceptanceWaits,
    Event,
    OfferClosed,
    OfferOpened,
    SlotSettled,
    TradeAgreed,
    TradeClosed,
)
from ledger_core.rules.finality import votes_in
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import PreparedBlock, prepare_block
from ledger_core.rules.state import State
from ledger_core.synthetic.aftermath import Aftermath
from ledger_core.synthetic.answering import Answering
from ledger_core.synthetic.config import Config, check_config
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.metering import Metering
from ledger_core.synthetic.offering import Offering
from ledger_core.synthetic.street import Admissions, Street
from ledger_core.synthetic.tally import Tally
from ledger_core.synthetic.voting import Voting

_QUANTILES = 256
_UNIT = 1024
_FORK_DEPTH = 3


class GeneratedBlock(Struct, frozen=True, gc=False):
    """A block, in the order in which a node would get it."""

    block: Block
    height: int
    time: int
    side: bool
    """On a branch that loses: it comes before the blocks that make the chain switch."""


@dataclass
class _Fork:
    """A side branch that is still to be made beside the main branch."""

    state: State
    """Before the first block of both."""
    depth: int
    main: list[tuple[GeneratedBlock, list[Record], bytes]] = field(default_factory=list)
    """Blocks of the main branch, their records and miners."""


class SyntheticChain:
    """A chain that follows from its configuration alone; iterate over `blocks()` once.

    Memory holds the state and a few blocks, whatever the length. Raises as `check_config` does.
    """

    def __init__(self, config: Config) -> None:
        check_config(config)
        self.config = config
        street = self._street = Street(config)
        self.genesis = street.genesis
        self.tally: Tally = street.tally
        self.state = genesis_state(self.genesis)
        """At the tip of the main branch."""
        self._chance = street.chance.child("blocks")
        self._waits = _exponential_quantiles()
        self._offering = Offering(street)
        self._answering = Answering(street)
        self._aftermath = Aftermath(street)
        self._metering = Metering(street, self._offering.consider)
        self._voting = Voting(street)
        self._admissions = Admissions(street, self._go_live)
        self._next_fork = self._fork_distance(first=True)

    def _go_live(self, home: Home, boundary: int) -> None:
        self._metering.start(home, boundary)
        self._aftermath.start(home, boundary)

    def blocks(self) -> Iterator[GeneratedBlock]:
        """Yield every block up to the end of the configured time, side branches included."""
        fork: _Fork | None = None
        time = self._next_time()
        while time <= self.config.end:
            if fork is None and self._fork_due():
                fork = _Fork(self.state.copy(), self._chance.between(1, _FORK_DEPTH))
            made, records, miner = self._make(time)
            if fork is None:
                yield made
            else:
                fork.main.append((made, records, miner))
                if len(fork.main) > fork.depth:
                    yield from self._side_branch(fork)
                    yield from (item[0] for item in fork.main)
                    fork = None
            time = self._next_time()
        if fork is not None:
            yield from (item[0] for item in fork.main)

    def _next_time(self) -> int:
        """Return when the next block is found: at random, yet never far from the schedule."""
        tip, spacing = self.state.tip, self.config.spacing_s
        now = tip.times[-1]
        ahead = now - self.config.start - spacing * tip.height
        mean = min(max(spacing - ahead // 16, spacing // 2), 2 * spacing)
        return now + max(mean * self._chance.pick(self._waits) // _UNIT, 1)

    def _make(self, time: int) -> tuple[GeneratedBlock, list[Record], bytes]:
        """Have the homes act, mine what they handed in, and let them see what happened."""
        street, state = self._street, self.state
        desk = Desk(state, time, self.tally)
        try:
            while not desk.full and (due := street.agenda.due(time)) is not None:
                desk.now, action = due
                action(desk)
        finally:
            desk.close()
        miner = self._miner(state)
        bundles = bundle_votes(desk.votes, state.node_keys.get)
        template = assemble(state, desk.candidates, bundles, miner.node.public_key, time)
        for record, refusal in template.refused:
            self.tally.refused[record.body.KIND, refusal.code] += 1
        header = search_nonce(template.header)
        if header is None:
            raise RuntimeError("no nonce meets the target")
        block = seal(header, template.body, miner.node)
        prepared = self._prepare(block, state)
        applied = apply_block(state, prepared, time)
        self._count(prepared, desk)
        for event in applied.events:
            self._react(event, time)
        self._voting.after_block(state, time)
        made = GeneratedBlock(block, header.height, header.time, False)
        return made, prepared.records, miner.node.public_key

    def _miner(self, state: State, other_than: bytes | None = None) -> Home:
        keys = [key for key in sorted(state.node_keys) if key != other_than] or sorted(state.node_keys)
        return self._street.by_node[self._chance.pick(keys)]

    def _prepare(self, block: Block, state: State) -> PreparedBlock:
        nodes = {index: node.key for index, node in state.nodes.items()}
        prepared = prepare_block(block, self.genesis, self._street.chain_id, nodes)
        # Just signed here: verifying the signatures is left to whoever receives the chain.
        prepared.verified = True
        return prepared

    def _fork_distance(self, *, first: bool = False) -> int:
        mean = self.config.reorg_blocks
        if not mean:
            return 0
        return self.state.tip.height + self._chance.between(mean // 8 if first else mean // 2, mean * 3 // 2)

    def _fork_due(self) -> bool:
        if not self.config.reorg_blocks or self.state.tip.height < self._next_fork:
            return False
        self._next_fork = self._fork_distance()
        return True

    def _side_branch(self, fork: _Fork) -> Iterator[GeneratedBlock]:
        """Yield blocks that another miner found at about the same time, with the same records."""
        state = fork.state
        time = state.tip.times[-1]
        for made, records, miner_key in fork.main[: fork.depth]:
            time = max(made.time, time) + 1 + self._chance.below(self.config.spacing_s)
            miner = self._miner(state, other_than=miner_key)
            template = assemble(state, records, (), miner.node.public_key, time)
            header = search_nonce(template.header)
            if header is None:
                raise RuntimeError("no nonce meets the target")
            block = seal(header, template.body, miner.node)
            apply_block(state, self._prepare(block, state), time)
            self.tally.side_blocks += 1
            yield GeneratedBlock(block, header.height, header.time, True)
        self.tally.reorganisations += 1

    def _react(self, event: Event, time: int) -> None:
        self.tally.events[_name(event, self.state)] += 1
        match event:
            case OfferOpened():
                self._answering.on_offer(event, self.state, time)
            case AcceptanceWaits():
                self._answering.on_waiting(event, time)
            case TradeAgreed():
                self._aftermath.on_agreed(event, time)
            case TradeClosed():
                self._aftermath.on_closed(event, time)

    def _count(self, prepared: PreparedBlock, desk: Desk) -> None:
        tally = self.tally
        tally.blocks += 1
        tally.signatures += len(prepared.checks)
        for record in prepared.records:
            tally.records[record.body.KIND] += 1
            if isinstance(record.body, Reading):
                tally.reading_rows += len(record.body.rows)
        votes = sum(1 for bundle in prepared.bundles for _ in votes_in(bundle))
        tally.votes += votes
        if votes != len(desk.votes):
            tally.refused["vote", "left_out"] += len(desk.votes) - votes


def _name(event: Event, state: State) -> str:
    name = str(event.__struct_config__.tag)
    match event:
        case OfferClosed() | AcceptanceEnded():
            return f"{name}: {event.reason}"
        case TradeAgreed():
            part = ", part" if event.offer in state.offers else ""
            return f"{name}: {event.origin}{part}"
        case SlotSettled() if event.disputed:
            return f"{name}: disputed"
        case SlotSettled() if event.sent_wh is None or event.received_wh is None:
            return f"{name}: reading missing"
    return name


def _exponential_quantiles() -> list[int]:
    """Return the quantiles of an exponential distribution of mean `_UNIT`, by whole numbers alone."""
    quantiles: list[int] = []
    survival, step = 1 << 40, 0
    for place in range(_QUANTILES):
        limit = (1 << 40) * (2 * (_QUANTILES - place) - 1) // (2 * _QUANTILES)
        while survival > limit:
            survival -= survival // _UNIT
            step += 1
        quantiles.append(step)
    return quantiles
