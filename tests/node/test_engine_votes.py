"""The voter: never two votes that conflict, also not from a copied or restored data directory."""

from pathlib import Path
from random import Random

import pytest

from ledger_core.errors import ChainError
from ledger_core.node.engine.holds import NO_PEER, Hold, watching
from ledger_core.node.engine.logfile import LogFile
from ledger_core.node.engine.outputs import ClockDoubted, ClockTrusted, Voted, VotingStopped
from ledger_core.node.engine.vote_journal import (
    KEPT_VOTES,
    FileVoteJournal,
    Floors,
    MemoryVoteJournal,
    VoteJournal,
)
from ledger_core.records.votes import VOTE_NONCE, Vote
from ledger_core.rules.finality import conflict
from tests.core.world import signer
from tests.node.virtual import HOMES, Net, Node


def make_vote(source: int, target: int, name: str = "anna node") -> Vote:
    return Vote(
        signer(name).public_key, 1000 + target, VOTE_NONCE, source, bytes(32), target, target.to_bytes(32)
    )


def votes_of(node: Node) -> list[Vote]:
    return [event.vote for event in node.told(Voted)]


def held(node: Node) -> str | None:
    """The code of what the node says that keeps it from voting."""
    hold = node.engine.progress(node.net.now).voting_blocked
    return None if hold is None else hold.code


def no_conflicts(votes: list[Vote]) -> bool:
    return not any(conflict(a, b) for place, a in enumerate(votes) for b in votes[:place])


def test_votes_wait_for_three_blocks() -> None:
    net = Net()
    net.mesh()
    net.mine("anna", 6)
    assert votes_of(net["bert"]) == []
    net.mine("anna")
    net.pass_time(5)
    assert [vote.target_height for vote in votes_of(net["bert"])] == [4]


def test_a_restart_lets_one_checkpoint_pass() -> None:
    net = Net()
    net.mesh()
    net.mine("anna", 8)
    node = net["dora"]
    node.journal = node.journal.copy()
    net.part("dora")
    node.start()
    assert held(node) == "no_peer"
    net.mesh()
    net.pass_time(2)
    assert node.engine.progress(net.now).voting_blocked == watching(16)
    net.mine("anna", 10)
    assert held(node) == "watching"
    net.mine("anna", 2)
    assert held(node) is None
    assert [vote.target_height for vote in votes_of(node)] == [4, 16]
    assert node.engine.voter.stopped is None
    assert no_conflicts(votes_of(node))


def test_a_node_that_does_not_vote_says_why() -> None:
    net = Net()
    assert held(net["anna"]) == "no_peer"
    net.mesh()
    net.pass_time(2)
    assert [held(net[name]) for name in net.world.homes] == [None] * 4
    stranger = net.add("eva")
    net.link("eva", "anna")
    net.settle()
    assert held(stranger) == "not_a_node"
    net.part("anna")
    assert held(net["anna"]) == "no_peer"
    assert held(net["bert"]) is None
    alone = Net(["anna"])
    assert held(alone["anna"]) is None


def test_a_restored_backup_stops_voting_and_says_what_to_do() -> None:
    net = Net()
    net.mesh()
    net.mine("anna", 8)
    node = net["dora"]
    old = node.journal.copy()
    backup = node.store.twin()
    net.mine("anna", 8)
    assert len(votes_of(node)) == 3
    net.part("dora")
    node.journal, node.store = old, backup
    node.events.clear()
    node.start()
    net.mesh()
    net.pass_time(2)
    (stopped,) = node.told(VotingStopped)
    assert "--resume-voting" in stopped.reason
    assert node.engine.progress(net.now).voting_blocked == Hold("other_copy", stopped.reason)
    net.mine("anna", 12)
    assert votes_of(node) == []
    # The others go on without it; its owner lets it vote again, for what nobody can have voted on yet.
    node.engine.resume_voting(net.now)
    net.mine("anna", 12)
    targets = [vote.target_height for vote in votes_of(node)]
    assert targets
    assert min(targets) > 28
    assert net["anna"].engine.chain.final_height > 28


def test_a_copied_directory_that_runs_beside_gives_itself_away() -> None:
    net = Net()
    net.mesh()
    net.mine("anna", 8)
    node = net["dora"]
    copy = Node(net, "dora", net.settings, node.store.twin())
    copy.journal = node.journal.copy()
    copy.id = b"the copy".ljust(32, b"\0")
    net.nodes["copy"] = copy
    copy.start()
    net.link("copy", "anna")
    net.link("copy", "bert")
    net.mine("anna", 12)
    assert copy.engine.voter.stopped is not None
    assert votes_of(copy) == []
    assert no_conflicts([*votes_of(node), *votes_of(copy)])
    assert node.engine.voter.stopped is None


def test_a_node_that_meets_its_copy_votes_no_more_until_it_may() -> None:
    net = Net()
    net.mesh()
    net.mine("anna", 8)
    node = net["dora"]
    before = len(votes_of(node))
    assert before
    for _ in range(2):
        node.engine.met_copy()
    net.mine("anna", 8)
    (stopped,) = node.told(VotingStopped)
    assert "another process runs with this node's key" in stopped.reason
    assert len(votes_of(node)) == before
    node.engine.resume_voting(net.now)
    net.mine("anna", 12)
    assert len(votes_of(node)) > before
    assert no_conflicts(votes_of(node))


def test_a_node_without_a_vote_meets_its_copy_in_vain() -> None:
    net = Net()
    net.mesh()
    net.add("watcher")
    net["watcher"].engine.met_copy()
    assert net["watcher"].engine.voter.stopped is None


def test_a_lost_journal_is_noticed_in_the_chain() -> None:
    net = Net()
    net.mesh()
    net.mine("anna", 8)
    node = net["dora"]
    node.journal = MemoryVoteJournal()
    node.start()
    net.settle()
    assert node.told(VotingStopped)


def test_own_votes_from_a_forgotten_checkpoint_are_passed_over() -> None:
    """A link may reach from below the last final checkpoint to above it: its source is forgotten then."""
    net = Net()
    net.mesh()
    net.mine("anna", 16)
    engine = net["dora"].engine
    state = engine.chain.state
    assert 0 not in state.checkpoints
    assert 12 in state.checkpoints
    index = state.node_keys[net["dora"].id]
    link = (12, 0)
    assert link not in state.tallies
    state.tallies[link] = (1 << index).to_bytes(1)
    try:
        engine.voter.tip_changed(net.now)
    finally:
        del state.tallies[link]
    assert engine.voter.stopped is None


def test_own_votes_are_told_again_after_a_restart() -> None:
    net = Net(vote_spread_s=0)
    net.mesh()
    net.mine("anna", 6)
    net.part("dora")
    net.join("listener", "dora")
    dora = net["dora"]
    net.mine("dora")
    assert [vote.target_height for vote in votes_of(dora)] == [4]
    dora.journal = dora.journal.copy()
    dora.start()
    assert dora.engine._book.active()[0].bits.bit_count() == 1


def test_a_node_without_a_link_keeps_its_vote_until_it_has_one_for_a_moment() -> None:
    """Nothing could have told it of a copy of itself meanwhile."""
    net = Net(vote_spread_s=0)
    net.mesh()
    net.mine("anna", 6)
    net.part("dora")
    net.mine("dora", 2)
    assert votes_of(net["dora"]) == []
    net.join("listener", "dora")
    net.pass_time(0.9, 0.1)
    assert votes_of(net["dora"]) == []
    net.pass_time(0.5, 0.1)
    assert [vote.target_height for vote in votes_of(net["dora"])] == [4]


@pytest.mark.parametrize(("offset", "side"), [(-400, "behind"), (400, "ahead")])
def test_a_wrong_clock_stops_mining_and_voting(offset: int, side: str) -> None:
    net = Net()
    node = net["dora"]
    node.skew = float(offset)
    node.start()
    net.mesh()
    net.mine("anna", 8)
    (doubt,) = node.told(ClockDoubted)[:1]
    assert side in doubt.reason
    assert "NTP" in doubt.reason
    assert votes_of(node) == []
    assert node.engine.template(net.now + offset) is None
    assert node.engine.progress(net.now + offset).mining_blocked is not None
    # Right again, it goes on by itself.
    node.skew = 0.0
    net.pass_time(150)
    assert node.told(ClockTrusted)
    net.mine("anna", 4)
    assert votes_of(node)
    assert node.engine.template(net.now) is not None


def test_a_clock_before_the_chain_is_noticed_without_peers() -> None:
    net = Net()
    net.mine("anna", 12)
    node = net["anna"]
    node.skew = -100_000.0
    node.engine.tick(net.now + node.skew)
    assert "behind the chain" in str(node.engine.clock.doubt)


def test_a_node_waits_for_its_first_peer_before_it_mines() -> None:
    net = Net(start_grace_s=30)
    assert net["anna"].engine.template(net.now) is None
    assert net["anna"].engine.progress(net.now).mining_blocked == NO_PEER
    net.pass_time(31, 10)
    assert net["anna"].engine.template(net.now) is not None


def test_a_lone_home_mines_votes_and_finalises() -> None:
    net = Net(("anna",), start_grace_s=30)
    net.mine("anna", 14, wait=20)
    assert net.finals() == [4]


def test_a_node_without_a_key_only_follows() -> None:
    net = Net()
    net.mesh()
    net.add("watcher")
    net.link("watcher", "anna")
    net.mine("anna", 12)
    watcher = net["watcher"].engine
    assert watcher.chain.tip_hash == net["anna"].engine.chain.tip_hash
    assert watcher.template(net.now) is None
    assert watcher.voter.next_time() is None
    watcher.resume_voting(net.now)
    with pytest.raises(Exception, match="no key to mine with"):
        watcher.mined(None, net.now)  # type: ignore[arg-type]


def test_random_partitions_and_restarts_never_make_an_honest_node_vote_twice() -> None:
    chance = Random(7)
    net = Net()
    net.mesh()
    journals: dict[str, list[MemoryVoteJournal]] = {name: [] for name in HOMES}
    for _ in range(60):
        act = chance.random()
        name = chance.choice(HOMES)
        node = net[name]
        if act < 0.15:
            net.part(name)
        elif act < 0.3:
            net.mesh()
        elif act < 0.4:
            journals[name].append(node.journal.copy())
        elif act < 0.5 and journals[name]:
            # Restored from some backup, with the chain as it is.
            node.journal = chance.choice(journals[name]).copy()
            net.part(name)
            node.start()
            net.mesh()
            net.pass_time(3)
        net.mine(name, wait=chance.choice((5, 30))) if node.engine.template(net.now) else net.pass_time(30)
    for node in net.nodes.values():
        assert no_conflicts(votes_of(node)), node.name
    assert sum(len(votes_of(node)) for node in net.nodes.values()) > 10


# The journal


@pytest.fixture(params=["memory", "file"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> VoteJournal:
    if request.param == "memory":
        return MemoryVoteJournal()
    return FileVoteJournal(tmp_path / "votes", key_is_new=True)


def test_a_journal_remembers(journal: VoteJournal) -> None:
    assert journal.is_new
    assert journal.floors == Floors()
    vote = make_vote(4, 8)
    assert not journal.knows(vote)
    journal.record(vote, bytes(64))
    assert journal.knows(vote)
    assert not journal.knows(make_vote(0, 8))
    assert journal.floors == Floors(4, 8)
    assert list(journal.votes()) == [(vote, bytes(64))]
    journal.raise_floors(Floors(2, 100))
    assert journal.floors == Floors(4, 100)
    assert journal.knows(make_vote(0, 60))


def test_a_journal_is_bounded(journal: VoteJournal) -> None:
    for number in range(1, KEPT_VOTES + 10):
        journal.record(make_vote(number - 1, number), bytes(64))
    assert len(journal.votes()) == KEPT_VOTES
    assert journal.knows(make_vote(0, 5))
    assert journal.floors.target == KEPT_VOTES + 9


def test_a_journal_file_survives(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    first = FileVoteJournal(path, key_is_new=True)
    first.record(make_vote(0, 4), b"\1" * 64)
    first.raise_floors(Floors(0, 12))
    first.record(make_vote(4, 16), b"\2" * 64)
    again = FileVoteJournal(path, key_is_new=True)
    assert not again.is_new
    assert again.floors == Floors(4, 16)
    assert [signature for _, signature in again.votes()] == [b"\1" * 64, b"\2" * 64]
    # A torn last entry is that of a vote that never left.
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    torn = FileVoteJournal(path, key_is_new=False)
    assert torn.floors == Floors(0, 12)
    assert path.stat().st_size < len(data) - 5


def test_a_journal_for_an_old_key_is_not_new(tmp_path: Path) -> None:
    assert not FileVoteJournal(tmp_path / "votes", key_is_new=False).is_new


def test_a_journal_file_is_written_anew_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    journal = FileVoteJournal(path, key_is_new=True)
    for number in range(1, 30):
        journal.record(make_vote(number - 1, number), bytes(64))
        journal.raise_floors(Floors(0, number))
    size = path.stat().st_size
    again = FileVoteJournal(path, key_is_new=False, compact_at=20)
    assert path.stat().st_size < size
    assert FileVoteJournal(path, key_is_new=False).floors == again.floors == Floors(28, 29)
    assert len(FileVoteJournal(path, key_is_new=False).votes()) == 29


def test_a_damaged_journal_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    journal = FileVoteJournal(path, key_is_new=True)
    for number in range(1, 4):
        journal.record(make_vote(number - 1, number), bytes(64))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ChainError) as refusal:
        FileVoteJournal(path, key_is_new=False)
    assert refusal.value.code == "log_damaged"
    assert str(path) in refusal.value.message


@pytest.mark.parametrize("entry", [b"x", b"v\xc0", b"vjunk", b"f\x93"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "votes"
    LogFile(path, 100).append(entry)
    with pytest.raises(ChainError) as refusal:
        FileVoteJournal(path, key_is_new=False)
    assert refusal.value.code == "journal_foreign"


def test_zeros_at_the_end_are_what_a_crash_leaves(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    journal = FileVoteJournal(path, key_is_new=True)
    journal.record(make_vote(0, 4), bytes(64))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(40))
    assert FileVoteJournal(path, key_is_new=False).floors == Floors(0, 4)
    assert path.stat().st_size == size
