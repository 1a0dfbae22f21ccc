"""Properties of the chain over random block trees, votes and orders of delivery."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger_core.chain.chain import Chain
from ledger_core.chain.fork_choice import hopeful_justified
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import RuleError
from ledger_core.records.block import Block
from ledger_core.records.types import Role
from tests.core.block_tree import CHANGING, TREE_PARAMETERS, BlockTree, TreeNode, tree_random
from tests.core.memory_store import MemoryStore

LATER = 10**10
BOUNDED = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(1, SignatureCache(bytes(16))) as made:
        yield made


def grow_tree(tree: BlockTree, size: int) -> None:
    """Grow mostly at the newest blocks, sometimes anywhere."""
    for _ in range(size):
        recent = tree.nodes[-4:] if tree.random.random() < 0.7 else tree.nodes
        tree.grow(tree.random.choice(recent))


def grow_branches(tree: BlockTree, size: int) -> None:
    """Grow two branches most of the time, and sometimes anywhere."""
    tips = [tree.root, tree.root]
    for _ in range(size):
        side = tree.random.randrange(2)
        if tree.random.random() < 0.9:
            tips[side] = tree.grow(tips[side])
        else:
            tree.grow(tree.random.choice(tree.nodes))


def deliver(tree: BlockTree, verifier: Verifier, order: list[Block], restart_at: int | None = None) -> Chain:
    """Give a chain the blocks in an order; a restart loses those that waited for others: they come again."""
    store = MemoryStore(tree.world.genesis)
    chain = Chain.open(store, verifier)
    if restart_at is not None:
        add_all(chain, order[:restart_at])
        chain = Chain.open(store, verifier)
    add_all(chain, order)
    return chain


def add_all(chain: Chain, blocks: list[Block]) -> None:
    for block in blocks:
        try:
            chain.add_block(block, LATER)
        except RuleError as refusal:
            if refusal.code != "below_final":
                raise


def blocks_of(tree: BlockTree) -> list[Block]:
    return [node.block for node in tree.nodes if node.block is not None]


@BOUNDED
@given(seed=st.integers(0, 2**32), homes=st.integers(3, 5), size=st.integers(5, 30))
def test_any_order_gives_the_same_tip_and_state(verifier: Verifier, seed: int, homes: int, size: int) -> None:
    tree = BlockTree(tree_random(seed), homes)
    grow_tree(tree, size)
    best = tree.best()
    blocks = blocks_of(tree)
    for attempt in range(3):
        if attempt:
            tree.random.shuffle(blocks)
        chain = deliver(tree, verifier, blocks)
        assert chain.tip_hash == best.state.tip.hash
        assert chain.state.hash() == best.state.hash()
        # The best branch need not hold the votes that made its own past final on another one.
        assert chain.final_height >= best.state.tip.final
        assert best.ancestor(chain.final_height).state.tip.hash == chain.index.root.hash


def test_any_order_gives_the_same_tip_where_nodes_join_leave_and_fall_silent(verifier: Verifier) -> None:
    """Only what is final in a node keeps it from the best branch of all."""
    seen: Counter[str] = Counter()

    @settings(BOUNDED, max_examples=150)
    @given(
        seed=st.integers(0, 2**32), homes=st.integers(3, 7), liars=st.integers(0, 2), size=st.integers(10, 35)
    )
    def holds(seed: int, homes: int, liars: int, size: int) -> None:
        tree = BlockTree(tree_random(seed), homes, liars, CHANGING, changing=True)
        grow_branches(tree, size)
        best = tree.best()
        blocks = blocks_of(tree)
        contradicted = not all(best.holds(*final) for final in tree.finals())
        seen.update(what_happened(tree), contradicted=contradicted)
        for attempt in range(4):
            if attempt:
                tree.random.shuffle(blocks)
            chain = deliver(tree, verifier, blocks, restart_at=len(blocks) // 2 if attempt > 1 else None)
            tip = next(node for node in tree.nodes if node.state.tip.hash == chain.tip_hash)
            root = chain.final_height, chain.index.root.hash
            reachable = [node.rank for node in tree.nodes if node.holds(*root)]
            assert tip.rank == max(reachable)
            assert chain.state.hash() == tip.state.hash()
            if not contradicted:
                assert tip is best
            assert_bounded(tree, chain)

    holds()
    assert min(seen[what] for what in ("joined", "revoked", "punished", "silent", "contradicted")) > 5
    assert seen["contradicted"] * 2 < seen["trees"]


def what_happened(tree: BlockTree) -> Counter[str]:
    """In how many trees (each counts once) nodes joined, left, were punished and fell silent."""
    found = Counter(trees=1)
    for node in tree.nodes:
        state = node.state
        homes = len(tree.root.state.nodes)
        found["joined"] |= any(index >= homes and row.counts for index, row in state.nodes.items())
        found["revoked"] |= any(not row.roles for row in state.members.values())
        found["punished"] |= any(row.roles and not row.roles & Role.NODE for row in state.members.values())
        silent = (state.tip.times[-1] - last > 600 for last in state.last_votes.values())
        found["silent"] |= any(silent) and state.tip.justified > 0
    return found


def assert_bounded(tree: BlockTree, chain: Chain) -> None:
    """What a branch might justify is never less than what it does."""
    truth = {node.state.tip.hash: node.state.tip.justified for node in tree.nodes}
    for entry in chain.index:
        assert hopeful_justified(entry) >= truth[entry.hash]


def test_conflicting_finals_need_a_third_of_provable_liars() -> None:
    reached = 0

    @settings(BOUNDED, max_examples=200)
    @given(
        seed=st.integers(0, 2**32), homes=st.integers(3, 7), liars=st.integers(0, 7), size=st.integers(10, 40)
    )
    def holds(seed: int, homes: int, liars: int, size: int) -> None:
        nonlocal reached
        tree = BlockTree(tree_random(seed), homes, min(liars, homes))
        grow_branches(tree, size)
        if tree.conflicting_finals():
            reached += 1
            assert len(tree.offenders()) * 3 >= homes
        assert tree.offenders() <= tree.liars

    holds()
    assert reached > 20


def two_branches(tree: BlockTree) -> tuple[TreeNode, TreeNode]:
    """Two branches on which all liars and one half of the honest nodes each vote for everything."""
    names = list(tree.world.homes)
    honest = [name for name in names if name not in tree.liars]
    ends = []
    for number, part in enumerate((honest[::2], honest[1::2])):
        node = tree.root
        for step in range(7):
            node = grow_with_votes(tree, node, [*sorted(tree.liars), *part], 10 + number if step == 0 else 10)
        ends.append(node)
    return ends[0], ends[1]


def grow_with_votes(tree: BlockTree, parent: TreeNode, names: list[str], step: int) -> TreeNode:
    """Mine a block with these nodes' votes for the newest link of the branch."""
    state = parent.state
    target = max(state.checkpoints)
    source = max((h for h, row in state.checkpoints.items() if row.justified and h < target), default=None)
    votes = []
    if source is not None and target > state.tip.final:
        cast = (tree.cast(name, state, source, target) for name in names)
        votes = [vote for vote in cast if vote is not None]
    return tree.grow(parent, transfer=False, votes=votes, step=step)


def test_a_third_of_liars_can_break_finality_and_is_caught() -> None:
    """The bound is sharp: the property above is not true for want of trying."""
    tree = BlockTree(tree_random(1), 6, byzantine=4)
    two_branches(tree)
    assert tree.conflicting_finals()
    assert tree.offenders() == tree.liars


def test_less_than_a_third_of_liars_can_not() -> None:
    tree = BlockTree(tree_random(1), 7, byzantine=2)
    two_branches(tree)
    assert not tree.conflicting_finals()


def test_a_thousand_times_the_work_never_undoes_a_final_block(verifier: Verifier) -> None:
    fast = replace(TREE_PARAMETERS, difficulty_half_life_s=300)
    tree = BlockTree(tree_random(3), 4, parameters=fast)
    names = list(tree.world.homes)
    node = tree.root
    for _ in range(8):
        node = grow_with_votes(tree, node, names, 30)
    assert node.state.tip.final >= 2
    rival = tree.root
    rivals = []
    while rival.work < 1000 * node.work:
        rival = tree.grow(rival, transfer=False, votes=[], step=1)
        rivals.append(rival)
    chain = deliver(tree, verifier, [entry.block for entry in tree.nodes if entry.block is not None])
    assert chain.is_active(node.state.tip.hash)
    assert chain.tip_hash == node.state.tip.hash
    late = Chain.open(MemoryStore(tree.world.genesis), verifier)
    for entry in rivals:
        assert entry.block is not None
        late.add_block(entry.block, LATER)
    assert late.tip_hash == rival.state.tip.hash
    for below in [node.ancestor(height) for height in range(1, node.height + 1)]:
        assert below.block is not None
        late.add_block(below.block, LATER)
    assert late.tip_hash == node.state.tip.hash
