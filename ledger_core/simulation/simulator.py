"""The simulation: nodes, network, mining lottery, homes and mishaps on one virtual clock."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from random import Random

from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import LedgerError
from ledger_core.node.engine.outputs import (
    BlockConnected,
    BlockDisconnected,
    ClockDoubted,
    Drop,
    Equivocation,
    NodeEvent,
    RecordFinal,
    RecordLost,
    Send,
    Voted,
    VotingStopped,
)
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.messages import Hello, Message
from ledger_core.records.codec import encode_body
from ledger_core.records.votes import SignedVote
from ledger_core.rules.assemble import search_nonce
from ledger_core.rules.difficulty import expand_target, next_target, work_of
from ledger_core.rules.events import CheckpointFinal, NodePunished, OfferOpened
from ledger_core.simulation.config import SimulationConfig
from ledger_core.simulation.facts import BlockFact, Facts, RecordFact
from ledger_core.simulation.founding import Home, Street
from ledger_core.simulation.household import Household
from ledger_core.simulation.liars import KINDS, Liar
from ledger_core.simulation.network import Network
from ledger_core.simulation.schedule import Schedule
from ledger_core.simulation.sim_node import Character, SimNode

DIAL_INTERVAL_S = 20.0
WRONG_CLOCK_S = 600.0
REUNION_S = 120.0
"""After this time the parts of a healed street have found each other."""

SIGNATURES_KEPT = 1_000_000
SMALL = 64 * 1024
COLLECTIONS = 10
"""How often in a run garbage is collected."""


def stream(seed: int, name: str) -> Random:
    """Return a source of chance of its own for each purpose: one does not disturb the other."""
    return Random(int.from_bytes(sha256(f"{seed}/{name}".encode()).digest()))  # noqa: S311


@contextmanager
def few_collections() -> Iterator[Callable[[], object]]:
    """Collect garbage only when asked: what many nodes hold is walked through in vain over and over."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield gc.collect
    finally:
        if was_enabled:
            gc.enable()


class Simulator:
    """One run. `run` does it all; the facts are the report's material."""

    def __init__(self, config: SimulationConfig) -> None:
        self.config = config
        self.facts = Facts()
        seed = config.seed
        salt = sha256(f"{seed}/salt".encode()).digest()
        self._verifier = Verifier(1, SignatureCache(salt, SIGNATURES_KEPT))
        self.street = Street(config, self._verifier)
        self.schedule = Schedule(self.street.now)
        self.begin = self.street.now
        self.busy_until = self.begin + config.hours * 3600
        self.end = self.busy_until + config.settle_minutes * 60
        self._chance = stream(seed, "mishaps")
        self._whole_from = self.begin
        """Since when the street is in one piece."""
        self._mining = stream(seed, "mining")
        self._dialing = stream(seed, "dialing")
        self.network = Network(config, self.schedule, stream(seed, "network"), self._deliver)
        self._by_key = {home.node.public_key: home.number for home in self.street.homes}
        self.nodes = [self._make_node(home) for home in self.street.homes]
        spacing = self.street.genesis.parameters.block_spacing_s
        self._rate = self._work_at(self.nodes[0]) / spacing / config.nodes
        """Hashes a second of a node: at the founding's difficulty all together find a block each spacing."""

    def close(self) -> None:
        """Stop the verifier's thread."""
        self._verifier.close()

    def run(self, progress: Callable[[float], None] | None = None, steps: int = 100) -> None:
        """Let the whole time pass; `progress` is told the part that is done."""
        self._set_up()
        length = self.end - self.begin
        with few_collections() as collect:
            for step in range(1, steps + 1):
                self.schedule.run_until(self.begin + length * step / steps)
                if step % max(steps // COLLECTIONS, 1) == 0:
                    collect()
                if progress is not None:
                    progress(step / steps)

    # Setting up

    def _make_node(self, home: Home) -> SimNode:
        config, number = self.config, home.number
        chance = stream(config.seed, f"node {number}")
        skew = chance.gauss(0, config.skew_s)
        if number < round(config.wrong_clocks * config.nodes):
            skew += WRONG_CLOCK_S
        liar: Liar | None = None
        place = config.nodes - 1 - number
        if place < round(config.liars * config.nodes):
            liar = KINDS[place % len(KINDS)](stream(config.seed, f"liar {number}"))
        settings = EngineSettings(
            announce_interval_s=config.announce_interval_s,
            recent_block_bytes=SMALL,
            pool_bytes=4 * 1024 * 1024,
            start_grace_s=60,
        )
        slot = self.street.genesis.parameters.slot_s
        chain_id = self.street.genesis.chain_id

        def submitted(record_id: bytes, kind: str) -> None:
            self.facts.records[record_id] = RecordFact(number, kind, self.schedule.now)

        household = Household(home, stream(config.seed, f"home {number}"), chain_id, slot, submitted)
        begin = self.street.begin()
        return SimNode(household, begin, self._verifier, settings, chance, Character(skew, liar))

    def _set_up(self) -> None:
        now = self.schedule.now
        for node in self.nodes:
            node.start(now)
            self._draw(node)
            self._settle(node)
            self.schedule.after(self._chance.uniform(0, 5), self._dialer(node))
            self._plan_home(node)
        for number in range(self.config.partitions):
            at = self.begin + (self.busy_until - self.begin) * (number + 1) / (self.config.partitions + 1)
            self.schedule.at(at, self._part)
        if self.config.offline_share:
            for node in self.nodes:
                self._plan_absence(node)

    # Nodes

    def _settle(self, node: SimNode) -> None:
        """Carry out what an engine wants done, and plan its next tick."""
        outputs = node.engine.take_outputs()
        moved = False
        for output in outputs:
            match output:
                case Send():
                    target = self._by_key[output.peer]
                    for message in node.spoken(output.message):
                        self.network.send(node.number, target, message)
                case Drop():
                    self._dropped(node, self._by_key[output.peer], output)
                case _:
                    moved |= isinstance(output.event, BlockConnected)
                    self._noted(node, output.event)
        if moved:
            self._draw(node)
        self._plan_tick(node)

    def _plan_tick(self, node: SimNode) -> None:
        at = node.engine.next_tick() - node.skew
        if self.schedule.now < node.tick_at <= at:
            return
        node.tick_at = max(at, self.schedule.now + 0.001)
        planned, epoch = node.tick_at, node.epoch

        def tick() -> None:
            if node.online and node.epoch == epoch and node.tick_at == planned:
                node.tick_at = 0.0
                node.engine.tick(self.schedule.now + node.skew)
                self._settle(node)

        self.schedule.at(planned, tick)

    def _deliver(self, source: int, target: int, message: Message) -> None:
        node, key = self.nodes[target], self.nodes[source].home.node.public_key
        if not node.online:
            return
        now = self.schedule.now + node.skew
        if isinstance(message, Hello):
            node.engine.peer_joined(key, message, now)
        else:
            node.engine.message(key, message, now)
        self._settle(node)

    # Connections

    def _dialer(self, node: SimNode) -> Callable[[], None]:
        def dial() -> None:
            if node.online:
                self._dial(node)
            self.schedule.after(DIAL_INTERVAL_S, dial)

        return dial

    def _dial(self, node: SimNode) -> None:
        missing = self.config.peers - len(node.linked)
        now = self.schedule.now
        for _ in range(3 * missing):
            if missing <= 0:
                return
            other = self.nodes[self._dialing.randrange(len(self.nodes))]
            banned = node.bans.get(other.number, 0) > now or other.bans.get(node.number, 0) > now
            full = len(other.linked) >= 2 * self.config.peers
            if not other.online or banned or full or not self.network.connect(node.number, other.number):
                continue
            missing -= 1
            for one, two in ((node, other), (other, node)):
                one.linked.add(two.number)
                hello = one.engine.hello(now + one.skew)
                for message in one.spoken(hello):
                    self.network.send(one.number, two.number, message)

    def _dropped(self, node: SimNode, other: int, drop: Drop) -> None:
        if drop.ban_s:
            node.bans[other] = self.schedule.now + drop.ban_s
            offender = self.nodes[other]
            counts = self.facts.honest_bans if offender.honest else self.facts.bans
            name = drop.code if offender.liar is None else offender.liar.kind
            if node.honest:
                counts[name] = counts.get(name, 0) + 1
        self._unlink(node.number, other)

    def _unlink(self, a: int, b: int) -> None:
        if not self.network.disconnect(a, b):
            return
        for one, two in ((a, b), (b, a)):
            node = self.nodes[one]
            node.linked.discard(two)
            if node.online:
                node.engine.peer_left(self.nodes[two].home.node.public_key, self.schedule.now + node.skew)
                self.schedule.after(0, self._settler(node))

    def _settler(self, node: SimNode) -> Callable[[], None]:
        return lambda: self._settle(node) if node.online else None

    # The mining lottery: each node's next block is exponentially distributed, without memory

    def _work_at(self, node: SimNode) -> int:
        """Return the hashes that the next block on a node's tip takes on average."""
        state = node.chain.state
        compact = next_target(state.parameters, state.genesis.created, state.tip.height, state.tip.times[-1])
        target = expand_target(compact)
        return 1 if target is None else work_of(target)

    def _draw(self, node: SimNode) -> None:
        node.lottery += 1
        ticket, epoch = node.lottery, node.epoch
        delay = self._mining.expovariate(self._rate / self._work_at(node))

        def found() -> None:
            if node.online and node.lottery == ticket and node.epoch == epoch:
                self._mine(node)

        self.schedule.after(delay, found)

    def _mine(self, node: SimNode) -> None:
        now = self.schedule.now
        template = node.engine.template(now + node.skew)
        header = None if template is None else search_nonce(template.header)
        if header is None:
            self._draw(node)
            return
        try:
            block_hash = node.engine.mined(header, now + node.skew)
        except LedgerError:
            self._draw(node)
            return
        fact = BlockFact(header.height, now, node.number, node.honest and now >= self._whole_from)
        self.facts.blocks[block_hash] = fact
        self.facts.mined_wrong += abs(node.skew) > WRONG_CLOCK_S / 2
        self._settle(node)

    # Homes

    def _plan_home(self, node: SimNode) -> None:
        chance = stream(self.config.seed, f"plan {node.number}")
        acts = (
            (self.config.readings_per_hour, node.household.read_meter),
            (self.config.trades_per_hour, node.household.offer),
        )
        for per_hour, act in acts:
            if per_hour:
                self._repeat(node, 3600 / per_hour, chance, act)

    def _repeat(self, node: SimNode, interval: float, chance: Random, act: Callable[..., None]) -> None:
        def again() -> None:
            if self.schedule.now >= self.busy_until:
                return
            if node.online and not node.engine.clock.doubt:
                act(node.engine, self.schedule.now + node.skew)
                self._settle(node)
            self.schedule.after(interval * chance.uniform(0.8, 1.2), again)

        self.schedule.after(interval * chance.random(), again)

    def _accept(self, node: SimNode, opened: OfferOpened) -> None:
        """One home, the same in everybody's eyes, accepts each offer."""
        chosen = int.from_bytes(opened.offer[:8]) % len(self.nodes)
        if chosen != node.number or opened.author == node.home.key.public_key:
            return

        def accept() -> None:
            if node.online:
                node.household.accept(node.engine, opened, self.schedule.now + node.skew)
                self._settle(node)

        self.schedule.after(1.0, accept)

    # Mishaps

    def _part(self) -> None:
        """Split the street in two for a while."""
        self._whole_from = math.inf
        apart = self._chance.sample(
            range(len(self.nodes)), round(self.config.partition_share * len(self.nodes))
        )
        for number in apart:
            self.network.group[number] = 1
        length = min(self.config.partition_hours * 3600, self.busy_until - self.schedule.now)

        def heal() -> None:
            self.network.group = [0] * len(self.nodes)
            self._whole_from = self.schedule.now + REUNION_S

        self.schedule.after(length, heal)

    def _plan_absence(self, node: SimNode) -> None:
        away = self.config.offline_hours * 3600
        share = min(self.config.offline_share, 0.9)
        present = away * (1 - share) / share

        def leave() -> None:
            if self.schedule.now >= self.busy_until:
                return
            node.online = False
            for other in list(node.linked):
                self._unlink(node.number, other)
            back = min(self.schedule.now + self._chance.expovariate(1 / away), self.busy_until)
            self.schedule.at(back, come_back)

        def come_back() -> None:
            node.restart(self.schedule.now)
            self._draw(node)
            self._settle(node)
            self._dial(node)
            self.schedule.after(self._chance.expovariate(1 / present), leave)

        self.schedule.after(self._chance.expovariate(1 / present), leave)

    # Taking notes

    def _noted(self, node: SimNode, event: NodeEvent) -> None:
        facts, now = self.facts, self.schedule.now
        match event:
            case BlockConnected():
                self._block_noted(node, event)
            case BlockDisconnected():
                facts.reorgs += 1
            case RecordFinal():
                record = facts.records.get(event.record)
                if record is not None:
                    record.final = now
            case RecordLost():
                record = facts.records.get(event.record)
                if record is not None:
                    record.lost = event.code
            case Voted() if node.honest:
                facts.votes.setdefault(node.number, []).append(event.vote)
            case Voted():
                self._lie(node, event)
            case VotingStopped():
                facts.stopped_voters.add(node.number)
            case ClockDoubted():
                facts.doubted_clocks.add(node.number)
            case Equivocation() if node.honest:
                self._report(node, event)
            case _:
                pass

    def _block_noted(self, node: SimNode, event: BlockConnected) -> None:
        fact = self.facts.blocks.get(event.hash)
        present = fact is not None and node.honest and node.started < fact.mined
        if fact is not None and present and fact.whole and node.number != fact.miner:
            fact.arrivals.append(self.schedule.now - fact.mined)
        for each in event.events:
            if isinstance(each, OfferOpened):
                self._accept(node, each)
            elif isinstance(each, CheckpointFinal) and node.honest:
                self.facts.finals.setdefault(each.height, set()).add(each.hash)
                block = self.facts.blocks.get(each.hash)
                if block is not None:
                    delay = self.schedule.now - block.mined
                    self.facts.final_delay.setdefault(each.height, []).append(delay)
            elif isinstance(each, NodePunished):
                self.facts.punished.add(each.node)

    def _lie(self, node: SimNode, event: Voted) -> None:
        lie = node.lie_about(event)
        if lie is not None:
            for other in sorted(node.linked):
                self.network.send(node.number, other, lie)

    def _report(self, node: SimNode, event: Equivocation) -> None:
        if event.node in self.facts.equivocations:
            return
        self.facts.equivocations.add(event.node)
        votes = (
            SignedVote(encode_body(event.first), event.first_signature),
            SignedVote(encode_body(event.second), event.second_signature),
        )

        def report() -> None:
            if node.online:
                node.household.report(node.engine, votes, self.schedule.now + node.skew)
                self._settle(node)

        self.schedule.after(0, report)
