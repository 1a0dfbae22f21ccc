"""Random block trees with random votes, and the plainest possible fork choice to compare with.

Every block of the tree keeps its own copy of the state, made by applying its branch from the genesis: nothing
here is undone, cached or chosen cleverly.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from random import Random

from msgspec.structs import replace

from ledger_core.community import Parameters
from ledger_core.records.block import Block
from ledger_core.records.codec import Record, encode_body, record_message
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.votes import VOTE_NONCE, Evidence, SignedVote, Vote
from ledger_core.rules.apply import apply_block
from ledger_core.rules.assemble import VoteSignature, assemble, bundle_votes, seal, search_nonce
from ledger_core.rules.difficulty import expand_target, work_of
from ledger_core.rules.finality import conflict
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.state import State
from tests.core.actions import member
from tests.core.world import HOUSEHOLD, Home, World

TREE_PARAMETERS = Parameters(checkpoint_interval=2, min_difficulty_bits=1, difficulty_half_life_s=100_000)
CHANGING = replace(TREE_PARAMETERS, silence_s=600)
"""Nodes fall silent within a branch of some dozen blocks."""


type Link = tuple[int, bytes, int, bytes]
"""Source and target of a vote, each with its hash."""


@dataclass
class TreeNode:
    """A block of the tree with the state after it."""

    block: Block | None
    parent: TreeNode | None
    state: State
    work: int
    children: list[TreeNode] = field(default_factory=list)

    @property
    def height(self) -> int:
        return self.state.tip.height

    @property
    def rank(self) -> tuple[int, int]:
        """The highest justified checkpoint, then the work."""
        return self.state.tip.justified, self.work

    def holds(self, height: int, block_hash: bytes) -> bool:
        """Whether a block lies on this branch."""
        return height <= self.height and self.ancestor(height).state.tip.hash == block_hash

    def ancestor(self, height: int) -> TreeNode:
        node = self
        while node.height > height:
            assert node.parent is not None
            node = node.parent
        return node


class BlockTree:
    """Grows block by block; each node signs honestly or not as the test says."""

    def __init__(
        self,
        random: Random,
        homes: int,
        byzantine: int = 0,
        parameters: Parameters = TREE_PARAMETERS,
        *,
        changing: bool = False,
    ) -> None:
        """`changing`: nodes join, are revoked, are punished, and time jumps."""
        names = tuple(f"home {number}" for number in range(homes))
        self.world = World(names, parameters)
        self.random = random
        self.changing = changing
        self.liars = set(names[:byzantine])
        self.root = TreeNode(None, None, self.world.state.copy(), 0)
        self.nodes = [self.root]
        self.votes: dict[str, dict[tuple[int, bytes, int, bytes], VoteSignature]] = {
            name: {} for name in names
        }

    def grow(
        self,
        parent: TreeNode,
        *,
        transfer: bool = True,
        votes: list[VoteSignature] | None = None,
        step: int | None = None,
    ) -> TreeNode:
        """Mine a block on a parent, with these votes, or some of those that are possible there."""
        state = parent.state.copy()
        now = max(state.tip.times) + (step or self._step())
        miner = self.world.homes[self.random.choice(self.nodes_of(state))].node
        cast = self._some_votes(parent) if votes is None else votes
        bundles = bundle_votes(cast, state.node_keys.get)
        records = [self._transfer(now)] if transfer and self.random.random() < 0.5 else []
        if self.changing and transfer:
            records += self._changes(now)
        template = assemble(state, records, bundles, miner.public_key, now)
        header = search_nonce(template.header)
        assert header is not None
        block = seal(header, template.body, miner)
        nodes = {index: node.key for index, node in state.nodes.items()}
        prepared = prepare_block(block, self.world.genesis, self.world.chain_id, nodes)
        prepared.verified = True
        apply_block(state, prepared, now)
        target = expand_target(header.target)
        assert target is not None
        child = TreeNode(block, parent, state, parent.work + work_of(target))
        parent.children.append(child)
        self.nodes.append(child)
        return child

    def nodes_of(self, state: State) -> list[str]:
        """Homes whose nodes may mine and vote on a branch."""
        homes = self.world.homes.items()
        return [name for name, home in homes if home.node.public_key in state.node_keys]

    def _step(self) -> int:
        jump = self.changing and self.random.random() < 0.1
        return self.random.randint(500, 700) if jump else self.random.randint(1, 60)

    def _changes(self, now: int) -> list[Record]:
        """Records that change who counts; those that the branch's rules refuse are left out of the block."""
        world, found = self.world, []
        authority, *others = world.homes.values()
        dice = self.random.random()
        if dice < 0.15:
            chosen = self.random.sample(others, self.random.randint(1, len(others)))
            found += [self._member(now, authority, home, 0) for home in chosen]
        elif dice < 0.3:
            home = self.random.choice(others)
            if self.random.random() < 0.7 and len(world.homes) < 12:
                home = world.homes.setdefault(f"guest {len(world.homes)}", Home(f"guest {len(world.homes)}"))
                self.votes[home.name] = {}
            found.append(self._member(now, authority, home, HOUSEHOLD))
        elif dice < 0.5:
            found += self._evidence(now, authority)
        return found

    def _member(self, now: int, authority: Home, home: Home, roles: int) -> Record:
        node = home.node.public_key if roles else None
        cosigners = (home.key,) if roles else ()
        return member(self.world, authority.key, home.id, *cosigners, roles=roles, node=node, created=now)

    def _evidence(self, now: int, authority: Home) -> list[Record]:
        for name in sorted(self.offenders()):
            for (first, one), (second, two) in combinations(self.votes[name].values(), 2):
                if conflict(first, second):
                    both = SignedVote(encode_body(first), one), SignedVote(encode_body(second), two)
                    values = {"created": now, "first": both[0], "second": both[1]}
                    return [self.world.make(Evidence, authority.key, **values)]
        return []

    def _transfer(self, now: int) -> Record:
        names = list(self.world.homes)
        source, target = self.random.sample(names, 2)
        world = self.world
        return world.make(
            Transfer,
            world[source].key,
            created=now,
            kind=TransferKind.PAY,
            to=world[target].id,
            amount=self.random.randint(1, 1000),
            reference=None,
        )

    def _some_votes(self, parent: TreeNode) -> list[VoteSignature]:
        """Votes for links of the parent's branch by a random part of the nodes."""
        state = parent.state
        sources = [height for height, row in state.checkpoints.items() if row.justified]
        targets = [height for height in state.checkpoints if height > state.tip.final]
        cast: list[VoteSignature] = []
        for name in self.nodes_of(state):
            if self.random.random() < (0.05 if name in self.liars else 0.25) or not targets:
                continue
            target = max(targets) if self.random.random() < 0.8 else self.random.choice(targets)
            below = [height for height in sources if height < target]
            if not below:
                continue
            astray = name in self.liars and self.random.random() < 0.2
            source = self.random.choice(below) if astray else max(below)
            vote = self.cast(name, state, source, target)
            if vote is not None:
                cast.append(vote)
        return cast

    def cast(self, name: str, state: State, source: int, target: int) -> VoteSignature | None:
        """A vote, unless an honest node must not sign it."""
        checkpoints = state.checkpoints
        node = self.world.homes[name].node
        key = (source, checkpoints[source].hash, target, checkpoints[target].hash)
        known = self.votes[name].get(key)
        if known is not None:
            return known
        vote = Vote(
            node.public_key,
            checkpoints[target].time,
            VOTE_NONCE,
            source,
            checkpoints[source].hash,
            target,
            checkpoints[target].hash,
        )
        if name not in self.liars and any(conflict(vote, other) for other, _ in self.votes[name].values()):
            return None
        signature = node.sign(record_message(self.world.chain_id, self.world.encode(vote)))
        self.votes[name][key] = vote, signature
        return vote, signature

    def offenders(self) -> set[str]:
        """The nodes of whom two conflicting votes exist."""
        found = set()
        for name, cast in self.votes.items():
            votes = [vote for vote, _ in cast.values()]
            if any(conflict(a, b) for a in votes for b in votes):
                found.add(name)
        return found

    def finals(self) -> set[tuple[int, bytes]]:
        """Every checkpoint that is final on some branch."""
        return {
            (node.state.tip.final, node.state.checkpoints[node.state.tip.final].hash) for node in self.nodes
        }

    def conflicting_finals(self) -> bool:
        """Whether two final checkpoints lie on different branches."""
        by_hash = {node.state.tip.hash: node for node in self.nodes}
        finals = sorted(self.finals())
        for height, block_hash in finals:
            for higher, higher_hash in finals:
                if higher >= height and by_hash[higher_hash].ancestor(height).state.tip.hash != block_hash:
                    return True
        return False

    def best(self) -> TreeNode:
        """The block with the highest rank; another one is mined on it on ties."""
        ranked = sorted(self.nodes, key=lambda node: node.rank)
        if len(ranked) > 1 and ranked[-1].rank == ranked[-2].rank:
            return self.grow(ranked[-1], votes=[])
        return ranked[-1]


def tree_random(seed: int) -> Random:
    """A random source that is the same in every run and Python version."""
    return Random(int.from_bytes(sha256(seed.to_bytes(8)).digest()))
