"""The mempool and the outbox: by rule, bounded, expiring; own records kept until they are final."""

import errno
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger_core.errors import ChainError, RecordError, RuleError
from ledger_core.node.engine.bounded import RecentMap, RecentSet
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.logfile import LogFile
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.outbox import FileOutbox, MemoryOutbox, Outbox, require_room
from ledger_core.node.engine.outputs import RecordFinal, RecordLost, RecordPooled
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.messages import GetRecords, Inventory, Records
from ledger_core.records.block import header_hash
from ledger_core.records.codec import Record
from ledger_core.simulation.memory_store import MemoryStore
from tests.core.actions import accept, offer, street
from tests.core.world import World
from tests.node.virtual import VERIFIER, Net

SMALL = EngineSettings(pool_bytes=64 * 1024, pool_member_bytes=64 * 1024, pool_member_records=20)


def follow(world: World) -> FollowedChain:
    chain = FollowedChain.open(MemoryStore(world.genesis), VERIFIER)
    for block in world.blocks:
        chain.add_block(block, world.now)
    return chain


def code_of(pool: Mempool, record: Record, now: float, *, own: bool = False) -> str:
    with pytest.raises(RuleError) as refusal:
        pool.add(record, now, own=own)
    return refusal.value.code


@pytest.fixture
def net() -> Net:
    return Net()


def test_records_stand_on_those_before_them() -> None:
    world = street()
    chain = follow(world)
    pool = Mempool(chain, EngineSettings())
    offered = offer(world)
    first = accept(world, "bert", offered, quantity=3_000)
    second = accept(world, "cara", offered, quantity=2_000)
    assert code_of(pool, first, world.now) == "offer_unknown"
    pool.add(offered, world.now)
    pool.add(first, world.now)
    # The offer has 1000 Wh left: the chain does not know that yet, the pool does.
    assert code_of(pool, second, world.now) != "offer_unknown"
    assert [record.id for record in pool] == [offered.id, first.id]
    assert code_of(pool, first, world.now) == "record_pooled"
    block = world.block(*pool.candidates(10**6))
    world.apply(block)
    chain.add_block(block, world.now)
    pool.tip_changed((), (), world.now)
    assert len(pool) == 0
    assert pool.bytes == 0
    assert code_of(pool, first, world.now) == "record_duplicate"


def test_what_stood_on_a_record_goes_with_it() -> None:
    world = street()
    chain = follow(world)
    pool = Mempool(chain, EngineSettings())
    offered = offer(world)
    taken = accept(world, "bert", offered)
    for record in (offered, taken):
        pool.add(record, world.now)
    # Another acceptance came into a block elsewhere.
    other = accept(world, "cara", offered)
    block = world.block(offered, other)
    world.apply(block)
    chain.add_block(block, world.now)
    pool.tip_changed((), (), world.now)
    assert len(pool) == 0
    assert code_of(pool, taken, world.now) == "offer_unknown"


def test_old_records_expire_with_what_stands_on_them() -> None:
    world = street()
    pool = Mempool(follow(world), EngineSettings())
    age = world.genesis.parameters.record_max_age_s
    old = offer(world, created=world.now - age + 100, start=world.now // 900 * 900 + 900 * 200)
    young = accept(world, "bert", old)
    for record in (old, young):
        pool.add(record, world.now)
    assert not pool.expire(world.now + 50)
    assert len(pool) == 2
    assert pool.expire(world.now + 200)
    assert len(pool) == 0
    codes = [code_of(pool, record, world.now + 200) for record in (old, young)]
    assert codes == ["record_expired", "offer_unknown"]


def test_a_refusal_brings_no_expired_offer_back() -> None:
    world = street()
    offered = offer(world, valid_until=world.now + 600)
    world.mine(offered)
    pool = Mempool(follow(world), EngineSettings())
    taken = accept(world, "bert", offered, created=world.now)
    later = world.now + 700
    assert [code_of(pool, taken, later) for _ in range(2)] == ["offer_unknown"] * 2


def test_a_member_has_its_share_and_no_more(net: Net) -> None:
    pool = Mempool(net["anna"].engine.chain, SMALL)
    for _ in range(20):
        pool.add(net.pay("anna", "bert"), net.now)
    assert code_of(pool, net.pay("anna", "bert"), net.now) == "pool_member_full"
    pool.add(net.pay("bert", "anna"), net.now)
    # What this home itself submits has room, whoever signed it.
    pool.add(net.pay("anna", "bert"), net.now, own=True)
    assert len(pool) == 22


def test_a_meters_readings_count_for_its_owner() -> None:
    world = street()
    pool = Mempool(follow(world), EngineSettings(pool_member_records=1))
    end = world.now // 900 * 900
    pool.add(world.reading("anna", [(end, 1, 1)]), world.now)
    assert code_of(pool, world.reading("anna", [(end - 900, 1, 1)]), world.now) == "pool_member_full"


def test_the_pool_is_bounded_in_bytes(net: Net) -> None:
    names = list(net.world.homes)
    own: set[bytes] = set()
    pool = Mempool(net["anna"].engine.chain, EngineSettings(pool_bytes=64 * 1024), own)
    taken: list[bytes] = []
    size = 0
    while pool.bytes + size <= 64 * 1024:
        number, size = len(taken), pool.bytes
        record = net.pay(names[number % 4], names[(number + 1) % 4], 1)
        pool.add(record, net.now)
        taken.append(record.id)
        size = pool.bytes - size
    assert code_of(pool, net.pay("anna", "bert"), net.now) == "pool_full"
    assert pool.bytes <= 64 * 1024
    # Own records push out the newest of the others, some at once, and never each other.
    mine = [net.pay("anna", "bert", 2) for _ in range(4)]
    for record in mine:
        pool.add(record, net.now, own=True)
    own.update(record.id for record in mine)
    pool.make_room()
    assert all(record.id in pool for record in mine)
    left = [record_id for record_id in taken if record_id in pool]
    assert left == taken[: len(left)]
    assert 60 * 1024 - size < pool.bytes <= 60 * 1024
    assert pool.by_short(mine[0].id[:8]) is not None
    assert pool.by_short(taken[-1][:8]) is None
    # There is room now: nobody has to go for the next ones.
    pool.make_room()
    assert [record.id for record in pool] == [*left, *(record.id for record in mine)]


def test_own_records_alone_fill_the_pool_no_further(net: Net) -> None:
    own: set[bytes] = set()
    pool = Mempool(net["anna"].engine.chain, EngineSettings(pool_bytes=64 * 1024), own)
    size = 0
    while pool.bytes + size <= 64 * 1024:
        record, size = net.pay("anna", "bert", 1), pool.bytes
        pool.add(record, net.now, own=True)
        own.add(record.id)
        size = pool.bytes - size
    assert code_of(pool, net.pay("anna", "bert", 1), net.now, own=True) == "pool_full"
    pool.make_room()
    assert own == {record.id for record in pool}


def test_candidates_fill_a_block_and_no_more(net: Net) -> None:
    pool = Mempool(net["anna"].engine.chain, EngineSettings())
    for _ in range(10):
        pool.add(net.pay("anna", "bert", 1), net.now)
    assert len(pool.candidates(10**6)) == 10
    assert 0 < len(pool.candidates(1000)) < 10


def test_too_large_records_are_refused(net: Net) -> None:
    world = street(record_max_bytes=1024)
    pool = Mempool(follow(world), EngineSettings())
    end = world.now // 900 * 900
    ends = [(end - 900 * number, 10**9, 10**9) for number in range(90, 0, -1)]
    assert code_of(pool, world.reading("anna", ends), world.now) == "record_too_large"
    assert code_of(pool, world.reading("anna", ends), world.now, own=True) == "record_too_large"


# Through the engine


def test_bad_submissions_are_refused_with_their_code(net: Net) -> None:
    engine = net["anna"].engine
    limit = net.world.genesis.parameters.credit_limit
    with pytest.raises(RuleError) as refusal:
        engine.submit(net.pay("anna", "bert", limit + 1).envelope, net.now)
    assert refusal.value.code == "funds_insufficient"
    envelope = replace(net.pay("anna", "bert").envelope, signature=bytes(64))
    with pytest.raises(RuleError) as refusal:
        engine.submit(envelope, net.now)
    assert refusal.value.code == "signature_invalid"
    with pytest.raises(RecordError) as malformed:
        engine.submit(replace(envelope, body=b"\x90"), net.now)
    assert malformed.value.code == "record_malformed"
    assert len(net["anna"].outbox) == 0
    assert len(engine.pool) == 0


def test_a_record_refused_for_its_order_is_tried_again(net: Net) -> None:
    world = street()
    net.world = world
    node = net["anna"]
    node.store = MemoryStore(world.genesis)
    node.start()
    net.now = float(world.now)
    for block in world.blocks:
        node.engine._intake.take([(block, None)], net.now)
    offered = offer(world)
    taken = accept(world, "bert", offered)
    peer = net.join("peer", "anna")
    for record in (taken, offered):
        net.say(peer, "anna", Inventory((record.id,)))
        net.say(peer, "anna", Records((record.envelope,)))
    assert offered.id in node.engine.pool
    assert taken.id not in node.engine.pool
    net.pass_time(1, 0.1)
    assert taken.id in node.engine.pool
    assert node.drops == []


def test_own_records_are_announced_again_until_a_block_has_them(net: Net) -> None:
    net.mesh()
    net.mute = lambda _source, _target, message: isinstance(message, Inventory | Records | GetRecords)
    record_id = net.submit("anna", net.pay("anna", "bert"))
    assert record_id not in net["bert"].engine.pool
    net.mute = lambda _source, _target, _message: False
    net.pass_time(61, 5)
    net.pass_time(1, 0.1)
    assert record_id in net["bert"].engine.pool


def test_the_outbox_has_a_bound() -> None:
    net = Net(own_records=3)
    for _ in range(3):
        net.submit("anna", net.pay("anna", "bert"))
    with pytest.raises(RuleError) as refusal:
        net["anna"].engine.submit(net.pay("anna", "bert").envelope, net.now)
    assert refusal.value.code == "outbox_full"


def test_an_own_record_that_expires_is_reported(net: Net) -> None:
    record_id = net.submit("anna", net.pay("anna", "bert"))
    net.pass_time(86_400 + 200, 3600)
    (report,) = net["anna"].told(RecordLost)
    assert (report.record, report.code) == (record_id, "record_expired")


def test_own_records_that_the_pool_has_no_room_for_come_back() -> None:
    net = Net(["anna", "bert"], pool_bytes=64 * 1024)
    node = net["anna"]
    # More than the pool takes: it had more room before the restart.
    records = [net.pay("anna", "bert", 1) for _ in range(150)]
    node.outbox.add({record.id: record.envelope for record in records})
    node.start()
    assert 0 < len(node.engine.pool) < len(records)
    with pytest.raises(RuleError) as refusal:
        node.engine.submit(net.pay("anna", "bert", 1).envelope, net.now)
    assert refusal.value.code == "pool_full"
    net.mine("anna")
    net.mine("anna")
    net.mine("anna")
    assert all(record.id in node.engine.chain.state.seen for record in records)
    assert node.told(RecordLost) == []


def test_others_records_never_push_an_own_one_out() -> None:
    net = Net(["anna", "bert"], pool_bytes=64 * 1024, pool_member_bytes=64 * 1024)
    pool = net["anna"].engine.pool
    while pool.bytes < 63 * 1024:
        pool.add(net.pay("bert", "anna", 1), net.now)
    records = [net.submit("anna", net.pay("anna", "bert", 1)) for _ in range(20)]
    assert all(record in pool for record in records)
    assert any(record.body.author != net.world["anna"].id for record in pool)


def test_a_record_that_the_disk_does_not_take_is_not_taken(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    net.mesh()
    node = net["anna"]
    record = net.pay("anna", "bert")

    def full(_records: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(node.outbox, "add", full)
        with pytest.raises(OSError, match="no space left"):
            node.engine.submit(record.envelope, net.now)
    net.pass_time(1, 0.1)
    assert record.id not in node.engine.pool
    assert node.told(RecordPooled) == []
    net.mine("bert")
    assert record.id not in node.engine.chain.state.seen
    # The same one again is taken once the disk has room.
    assert net.submit("anna", record) == record.id
    net.mine("bert")
    assert record.id in node.engine.chain.state.seen


def test_the_same_record_again_changes_nothing(net: Net) -> None:
    net.mesh()
    node = net["anna"]
    record = net.pay("anna", "bert")
    assert [net.submit("anna", record) for _ in range(2)] == [record.id] * 2
    net.mine("bert")
    assert net.submit("anna", record) == record.id
    net.mine("bert", 14)
    assert [event.record for event in node.told(RecordFinal)] == [record.id]
    assert net.submit("anna", record) == record.id
    net.mine("bert", 14)
    assert len(node.told(RecordFinal)) == 1
    assert len(node.told(RecordPooled)) == 1


def test_an_own_record_from_the_future_waits(net: Net) -> None:
    net.mesh()
    node = net["anna"]
    record = net.pay("anna", "bert", created=int(net.now) + 500)
    node.outbox.add({record.id: record.envelope})
    node.start()
    net.mesh()
    assert record.id not in node.engine.pool
    net.mine("bert", 14)
    assert record.id in node.engine.chain.state.seen
    net.mine("bert", 10)
    assert [event.record for event in node.told(RecordFinal)] == [record.id]


def test_a_restart_after_inclusion_reports_the_end(net: Net) -> None:
    net.mesh()
    record_id = net.submit("anna", net.pay("anna", "bert"))
    net.mine("bert")
    node = net["anna"]
    node.start()
    net.mesh()
    net.mine("bert", 14)
    assert [event.record for event in node.told(RecordFinal)] == [record_id]


def test_the_end_names_the_block_of_a_record_also_after_a_restart(net: Net) -> None:
    net.mesh()
    node = net["anna"]
    first, second = net.submit("anna", net.pay("anna", "bert")), net.pay("anna", "cara")
    net.mine("bert")
    net.submit("anna", second)
    net.mine("bert", 3)
    node.start()
    net.mesh()
    net.mine("bert", 14)
    assert [(event.record, event.height) for event in node.told(RecordFinal)] == [(first, 1), (second.id, 2)]


def test_the_end_names_the_block_of_a_record_where_many_come_at_once(net: Net) -> None:
    net.mesh()
    record_id = net.submit("anna", net.pay("anna", "bert"))
    net.part("anna")
    net.mine("bert", 3)
    net.mesh()
    net.pass_time(5)
    net.mine("bert", 14)
    assert [(event.record, event.height) for event in net["anna"].told(RecordFinal)] == [(record_id, 1)]


def test_the_end_names_no_block_that_is_not_here(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    net.mesh()
    record_id = net.submit("anna", net.pay("anna", "bert"))
    net.mine("bert", 3)
    node = net["anna"]
    node.start()
    kept = node.store.block_at
    monkeypatch.setattr(node.store, "block_at", lambda height: kept(height) if height > 2 else None)
    net.mesh()
    net.mine("bert", 14)
    assert [(event.record, event.height) for event in node.told(RecordFinal)] == [(record_id, None)]


def test_a_failing_store_leaves_the_engine_as_it_was(net: Net) -> None:
    net.mesh()
    net.mine("anna")
    node = net["anna"]
    net.pass_time(30, 10)
    node.store.fail_next = True
    with pytest.raises(ChainError) as failure:
        node.template_block()
    assert failure.value.code == "disk_full"
    assert node.engine.chain.height == 1
    net.mine("anna")
    assert net.same_tip()


def test_old_templates_are_unknown(net: Net) -> None:
    node = net["anna"]
    template = node.engine.template(net.now)
    assert template is not None
    for _ in range(10):
        net.now += 1
        node.engine.template(net.now)
    with pytest.raises(RuleError) as refusal:
        node.engine.mined(template.header, net.now)
    assert refusal.value.code == "template_unknown"
    fresh = node.engine.template(net.now)
    assert fresh is not None
    lazy = next(
        header
        for nonce in range(100)
        if header_hash((header := replace(fresh.header, nonce=nonce)).encode())[0] & 0x80
    )
    with pytest.raises(RuleError) as refusal:
        node.engine.mined(lazy, net.now)
    assert refusal.value.code == "work_missing"


# The outbox itself


@pytest.fixture(params=["memory", "file"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Outbox:
    return MemoryOutbox() if request.param == "memory" else FileOutbox(tmp_path / "outbox")


def test_an_outbox_keeps_and_forgets(outbox: Outbox, net: Net) -> None:
    records = [net.pay("anna", "bert") for _ in range(3)]
    for record in records:
        outbox.add({record.id: record.envelope})
    outbox.remove([records[1].id])
    outbox.remove([records[1].id])
    assert [record.id in outbox for record in records] == [True, False, True]
    assert [key for key, _ in outbox.items()] == [records[0].id, records[2].id]
    assert len(outbox) == 2
    with pytest.raises(RuleError):
        require_room(len(outbox), 2)


def test_an_outbox_file_survives_and_shrinks(tmp_path: Path, net: Net) -> None:
    path = tmp_path / "outbox"
    outbox = FileOutbox(path, compact_at=10)
    records = [net.pay("anna", "bert") for _ in range(30)]
    largest = 0
    for record in records:
        outbox.add({record.id: record.envelope})
        largest = max(largest, path.stat().st_size)
        if record is not records[-1]:
            outbox.remove([record.id])
    assert largest < 20 * 300
    again = FileOutbox(path)
    assert again.items() == [(records[-1].id, records[-1].envelope)]


def test_a_log_file_that_was_cut_in_its_head(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path, 100)
    log.append(b"one")
    with path.open("ab") as file:
        file.write(b"\0\0")
    assert LogFile(path, 100).read() == [b"one"]
    assert path.stat().st_size == 11


def test_recent_collections_forget_the_oldest() -> None:
    values = RecentSet(2)
    values.update((b"a", b"b", b"c"))
    assert [key in values for key in (b"a", b"b", b"c")] == [False, True, True]
    assert len(values) == 2
    table: RecentMap[int] = RecentMap(10, max_size=10)
    for number in range(5):
        table.put(bytes((number,)), number, size=4)
    assert list(table) == [b"\3", b"\4"]
    table.put(b"big", 1, size=100)
    assert list(table) == [b"big"]
    assert table.pop(b"big") == 1
    assert table.pop(b"big") is None
    assert table.get(b"none") is None
    assert b"none" not in table
