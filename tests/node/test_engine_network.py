"""Four engines over a virtual network: they mine, vote, finalise, fall apart and come together again."""

from ledger_core.node.engine.outputs import (
    BlockConnected,
    BlockDisconnected,
    BranchParted,
    RecordContested,
    RecordFinal,
    RecordLost,
    RecordPooled,
    Voted,
)
from ledger_core.rules.finality import conflict
from tests.core.branches import coup, grow, lost_homes
from tests.core.chains import twin
from tests.core.world import World
from tests.node.virtual import HOMES, Net, money


def mine_round(net: Net, count: int) -> None:
    """Let the nodes find blocks in turn."""
    for number in range(count):
        net.mine(HOMES[number % len(HOMES)])


def test_four_engines_mine_vote_and_finalise() -> None:
    net = Net()
    net.mesh()
    mine_round(net, 14)
    assert net.same_tip()
    assert net.heights() == [14] * 4
    # A vote for 4 when three blocks lie on it, another for 8: 4 is final then.
    assert net.finals() == [4] * 4
    assert len({engine.chain.state.hash() for engine in net.engines}) == 1
    for node in net.nodes.values():
        votes = [event.vote for event in node.told(Voted)]
        assert [vote.target_height for vote in votes] == [4, 8]
        assert not any(conflict(a, b) for a in votes for b in votes)


def test_a_record_travels_into_a_final_block() -> None:
    net = Net()
    net.mesh()
    record_id = net.submit("anna", net.pay("anna", "bert"))
    for node in net.nodes.values():
        assert record_id in node.engine.pool
        assert [event.own for event in node.told(RecordPooled)] == [node.name == "anna"]
    net.mine("dora")
    for node in net.nodes.values():
        assert record_id not in node.engine.pool
        assert record_id in node.engine.chain.state.seen
    mine_round(net, 13)
    assert [event.record for event in net["anna"].told(RecordFinal)] == [record_id]
    assert net["bert"].told(RecordFinal) == []
    assert len(net["anna"].outbox) == 0
    assert net["cara"].engine.chain.state.accounts[net.world["bert"].id].balance == 1000


def test_a_line_of_nodes_passes_everything_on() -> None:
    net = Net()
    for a, b in (("anna", "bert"), ("bert", "cara"), ("cara", "dora")):
        net.link(a, b)
    net.settle()
    record_id = net.submit("anna", net.pay("anna", "dora"))
    net.pass_time(1, 0.02)
    assert record_id in net["dora"].engine.pool
    mine_round(net, 12)
    net.pass_time(2, 0.05)
    assert net.same_tip()
    assert net.finals() == [4] * 4


def test_a_partition_heals_to_one_branch() -> None:
    net = Net()
    net.mesh()
    mine_round(net, 10)
    net.part("anna", "bert")
    mine = net.submit("anna", net.pay("anna", "bert", 500))
    theirs = net.submit("cara", net.pay("cara", "dora", 700))
    # Both sides go on: the one with more blocks wins.
    for _ in range(4):
        net.mine("anna", wait=15)
        net.mine("cara", wait=15)
    net.mine("cara", 2)
    assert net.same_tip("anna", "bert")
    assert not net.same_tip()
    assert [record in net["anna"].engine.chain.state.seen for record in (mine, theirs)] == [True, False]
    final = net.finals()
    net.mesh()
    net.pass_time(5)
    assert net.same_tip()
    winner = net["cara"].engine.chain
    assert net["anna"].engine.chain.state.hash() == winner.state.hash()
    # The loser's record waits again, everywhere, and comes into a block.
    assert mine not in winner.state.seen
    net.pass_time(70)
    assert all(mine in node.engine.pool for node in net.nodes.values())
    assert net["anna"].told(BlockDisconnected)
    mine_round(net, 14)
    assert net.same_tip()
    for engine in net.engines:
        assert mine in engine.chain.state.seen
        assert theirs in engine.chain.state.seen
        assert money(engine) == 0
    assert min(net.finals()) > max(final)
    assert [event.record for event in net["anna"].told(RecordFinal)] == [mine]


def test_three_against_one_only_the_three_finalise() -> None:
    net = Net()
    net.mesh()
    mine_round(net, 10)
    net.part("dora")
    for _ in range(3):
        for name in ("anna", "bert", "cara"):
            net.mine(name, wait=10)
        net.mine("dora", wait=5)
        net.mine("dora", wait=5)
    finals = net.finals()
    assert finals[0] == finals[1] == finals[2] > finals[3]
    # The one alone has more blocks and more work, and still gives way: the others' checkpoints are justified.
    net.mine("dora", 6, wait=2)
    assert net["dora"].engine.chain.height > net["anna"].engine.chain.height
    net.mesh()
    net.pass_time(5)
    assert net.same_tip()
    assert net.finals()[3] >= finals[0]
    assert net["anna"].told(BlockDisconnected) == []


def beaten(net: Net) -> bytes:
    """Anna's payment is in a block of bert's branch; her node left it for one where that money is gone."""
    limit = net.world.genesis.parameters.credit_limit
    net.part("anna", "bert")
    payment = net.submit("anna", net.pay("anna", "bert", limit))
    # The same money again, elsewhere: anna's second device is on the other side.
    net.submit("cara", net.pay("anna", "cara", limit - 1))
    net.mine("anna")
    net.part("bert")
    net.mine("cara", 2)
    assert payment in net["anna"].engine.chain.state.seen
    net.mesh("anna", "cara", "dora")
    net.pass_time(5)
    assert payment not in net["anna"].engine.chain.state.seen
    return payment


def test_a_record_that_stays_impossible_is_reported_once_that_is_final() -> None:
    net = Net()
    net.mesh()
    payment = beaten(net)
    node, limit = net["anna"], net.world.genesis.parameters.credit_limit
    (contested,) = node.told(RecordContested)
    assert (contested.record, contested.code) == (payment, "funds_insufficient")
    assert contested.details["needed"] == limit
    net.mesh()
    while node.engine.chain.final_height < 2:
        assert node.told(RecordLost) == []
        assert len(node.outbox) == 1
        net.mine("cara")
    (report,) = node.told(RecordLost)
    assert (report.record, report.code) == (payment, "funds_insufficient")
    assert report.details["needed"] == limit
    net.mine("cara", 8)
    assert len(node.told(RecordLost)) == len(node.told(RecordContested)) == 1
    assert len(node.outbox) == 0
    assert all(len(each.engine.pool) == 0 for each in net.nodes.values())


def test_a_record_whose_branch_wins_in_the_end_is_not_reported_as_lost() -> None:
    net = Net()
    net.mesh()
    payment = beaten(net)
    node = net["anna"]
    net.mine("bert", 3)
    net.mesh()
    net.pass_time(5)
    assert net.same_tip()
    assert payment in node.engine.chain.state.seen
    mine_round(net, 14)
    assert [event.record for event in node.told(RecordContested)] == [payment]
    assert node.told(RecordLost) == []
    assert [event.record for event in node.told(RecordFinal)] == [payment]


def test_a_contested_record_is_tried_again_after_a_reorganisation() -> None:
    net = Net()
    net.mesh()
    limit = net.world.genesis.parameters.credit_limit
    net.part("dora")
    net.part("anna", "bert")
    payment = net.submit("anna", net.pay("anna", "bert", limit))
    net.submit("cara", net.pay("anna", "cara", limit - 1))
    net.mine("cara")
    net.part("cara")
    net.mesh("anna", "bert")
    net.link("anna", "cara")
    net.pass_time(5)
    node = net["anna"]
    assert [event.record for event in node.told(RecordContested)] == [payment]
    # Dora's branch has neither payment but money for both, and wins.
    net.part("cara")
    net.submit("dora", net.pay("bert", "anna", limit))
    net.mine("dora", 3)
    net.link("anna", "dora")
    net.pass_time(5)
    assert node.engine.chain.height == 3
    assert payment in node.engine.pool
    assert payment in net["dora"].engine.pool
    assert node.told(RecordLost) == []


def test_a_contested_record_survives_a_restart() -> None:
    net = Net()
    net.mesh()
    payment = beaten(net)
    node = net["anna"]
    net.part("anna")
    node.start()
    net.mesh("anna", "cara", "dora")
    net.mine("bert", 3)
    net.mesh()
    mine_round(net, 14)
    assert payment in node.engine.chain.state.seen
    assert node.told(RecordLost) == []
    assert [event.record for event in node.told(RecordFinal)] == [payment]


def test_a_record_is_final_with_the_block_that_holds_it_on_the_winning_branch() -> None:
    net = Net()
    net.mesh()
    net.part("anna")
    payment = net.pay("anna", "bert")
    net.submit("anna", payment)
    net.mine("anna")
    net.mine("bert", 5)
    net.submit("bert", payment)
    net.mine("bert")
    net.mesh()
    net.pass_time(5)
    node = net["anna"]
    assert node.engine.chain.height == 6
    assert payment.id in node.engine.chain.state.seen
    while node.engine.chain.final_height < 6:
        assert node.told(RecordFinal) == []
        net.mine("dora")
    assert [event.record for event in node.told(RecordFinal)] == [payment.id]


def test_blocks_tell_their_events_once() -> None:
    net = Net()
    net.mesh()
    mine_round(net, 9)
    for node in net.nodes.values():
        heights = [event.height for event in node.told(BlockConnected)]
        assert heights == list(range(1, 10))


def test_an_old_outbox_is_taken_up_again() -> None:
    net = Net()
    net.mesh()
    node = net["anna"]
    net.part("anna")
    record_id = net.submit("anna", net.pay("anna", "bert"))
    for other in ("bert", "cara", "dora"):
        assert record_id not in net[other].engine.pool
    node.start()
    assert record_id in node.engine.pool
    net.mesh()
    net.pass_time(1)
    assert all(record_id in each.engine.pool for each in net.nodes.values())


def test_submitting_again_changes_nothing() -> None:
    net = Net()
    net.mesh()
    record = net.pay("anna", "bert")
    first = net.submit("anna", record)
    assert net.submit("anna", record) == first
    assert len(net["anna"].outbox) == 1
    net.mine("bert")
    assert net.submit("anna", record) == first


def holding(branches: dict[str, World]) -> Net:
    """Nodes that know one branch each, and nobody else yet."""
    some = next(iter(branches.values()))
    net = Net(some.homes, some.genesis.parameters)
    for name, branch in branches.items():
        for block in branch.blocks:
            assert net[name].engine._intake.take([(block, None)], branch.now) is None
    net.now = float(max(branch.now for branch in branches.values()))
    return net


def test_nodes_with_other_final_blocks_keep_theirs_and_say_so() -> None:
    street, private = coup(World(HOMES))
    net = holding({"anna": private, "bert": street, "cara": street})
    net.mesh("anna", "bert", "cara")
    net.pass_time(150)
    for name, count in (("anna", 2), ("bert", 1), ("cara", 1)):
        engine = net[name].engine
        assert engine.progress(net.now).parted == count
        told = net[name].told(BranchParted)
        assert len(told) == count
        assert {event.own_final for event in told} == {engine.chain.final_height}
    assert [event.node for event in net["bert"].told(BranchParted)] == [net["anna"].id]
    assert net["anna"].engine.chain.tip_hash == private.state.tip.hash
    assert net["bert"].engine.chain.final_height >= street.state.tip.final
    net.part("anna")
    assert net["bert"].engine.progress(net.now).parted == 0


def test_a_node_that_is_only_behind_has_not_parted() -> None:
    base = grow(World(HOMES), 3, ())
    street, alone = twin(base), twin(base)
    grow(street, 12, HOMES[1:])
    grow(alone, 4, (), step=31)
    net = holding({"anna": alone, "bert": street})
    net.link("anna", "bert")
    net.pass_time(70)
    assert net.same_tip("anna", "bert")
    assert net["anna"].told(BranchParted) == net["bert"].told(BranchParted) == []


def test_a_node_that_was_cut_off_finds_back_to_a_street_that_revoked_lost_homes() -> None:
    """What the others claim to have justified is true, though less than half of all nodes voted for it."""
    base, street, alone = lost_homes()
    net = holding({"cara": alone, "anna": street, "bert": street})
    assert base.state.tip.final > 0
    assert net["cara"].engine.chain.height > net["anna"].engine.chain.height
    net.link("cara", "anna")
    net.link("cara", "bert")
    net.pass_time(5)
    assert net.same_tip("cara", "anna", "bert")
    assert net["cara"].engine.chain.tip_hash == street.state.tip.hash
    assert net["cara"].drops == []
