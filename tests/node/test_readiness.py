"""What a node says of itself before it knows the chain: it neither is in step nor judges who is a node."""

from tests.node.virtual import Net


def test_a_newcomer_that_is_linked_with_nobody_is_not_in_step() -> None:
    net = Net()
    net.mine("anna", 3)
    engine = net.add("eva").engine
    alone = engine.progress(net.now)
    assert (alone.synced, alone.phase) == (False, "blocks")
    assert alone.mining_blocked is not None
    assert alone.voting_blocked is not None
    assert (alone.mining_blocked.code, alone.voting_blocked.code) == ("no_peer", "no_peer")
    net.link("eva", "anna")
    net.pass_time(5)
    there = engine.progress(net.now)
    assert (there.height, there.synced, there.phase) == (3, True, None)
    assert there.mining_blocked is not None
    assert there.mining_blocked.code == "not_a_node"
    # What it has it keeps when it loses sight of the others.
    net.cut(net["eva"].id, net["anna"].id)
    assert engine.progress(net.now).synced


def test_who_founds_a_community_is_in_step_from_the_start() -> None:
    net = Net(("anna",))
    begun = net["anna"].engine.progress(net.now)
    assert (begun.height, begun.synced) == (0, True)
