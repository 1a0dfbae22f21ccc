"""Between links and engine: what counts as misbehaviour, what is the node's own trouble, who gets in."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import ChainError, LedgerError, RecordError
from ledger_core.keys import SoftwareSigner
from ledger_core.node import bridge as module
from ledger_core.node.bridge import Bridge
from ledger_core.node.bridge_limits import LIMITS, kind_of
from ledger_core.node.bridge_policy import MemberPolicy, Membership
from ledger_core.node.engine.outputs import Drop, Send
from ledger_core.node.engine.seals import verify_seals
from ledger_core.node.messages import (
    KINDS,
    MAX_MESSAGE_BYTES,
    BlockRef,
    Bodies,
    Body,
    GetHeaders,
    GetSnapshots,
    Headers,
    Hello,
    Inventory,
    Message,
    Pong,
    SealedHeader,
    Status,
    encode_message,
)
from ledger_core.node.peers import BAN_SECONDS, Ending, Misbehaviour, Refusal, RemoteNode
from ledger_core.records.codec import invite
from ledger_core.records.members import Invitation
from ledger_core.records.types import Role
from tests.node.peer_world import eventually, seeded
from tests.node.virtual import Net

KEY = bytes(32)
STATUS = Status(1, BlockRef(0, bytes(32)), 0, BlockRef(0, bytes(32)))
HELLO = Hello(STATUS, 1, "test")
BODIES = Bodies((Body(bytes(32), None),))
NOW = 1_800_000_000.0


class Engine:
    """Takes what the bridge brings, or fails as it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.failure: Exception | None = None

    def hello(self, now: float) -> Hello:
        return HELLO

    def peer_joined(self, key: bytes, hello: Hello, now: float) -> None:
        self._hear("joined", key)

    def peer_left(self, key: bytes, now: float) -> None:
        self._hear("left", key)

    def message(self, key: bytes, message: Message, now: float) -> None:
        self._hear(type(message).__name__, key)

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        if self.failure is not None:
            raise self.failure


class Thread:
    """Runs work at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.free = asyncio.Event()
        """Cleared: the engine is busy."""
        self.free.set()

    async def run[T](self, work: Callable[[Any, float], T]) -> T:
        await self.free.wait()
        return work(self.engine, NOW)

    look = run


class Links:
    """Writes down what is sent and dropped."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int, bytes]] = []
        self.dropped: list[tuple[bytes, str, str, int]] = []

    def send(self, key: bytes, kind: int, payload: bytes) -> bool:
        if len(payload) > LIMITS[kind].max_bytes:
            raise ValueError("beyond the limits")
        self.sent.append((key, kind, payload))
        return True

    def drop(self, key: bytes, code: str, reason: str, ban_s: int = 0) -> None:
        self.dropped.append((key, code, reason, ban_s))


class World:
    def __init__(self) -> None:
        self.engine, self.links = Engine(), Links()
        self.thread = Thread(self.engine)
        self.troubles: list[Exception] = []
        self.verified: list[tuple[Headers, bool]] = []
        """Headers that were verified, and whether that was in another thread."""
        self.verifying = threading.Event()
        """Verifying ends once it is set."""
        self.verifying.set()
        self.met = 0
        self.bridge = Bridge(self.troubles.append, self._meet, self._verify)
        self.bridge.connect(self.thread, self.links)  # type: ignore[arg-type]

    def _verify(self, headers: Headers) -> None:
        assert ("Headers", KEY) not in self.engine.heard
        self.verified.append((headers, threading.current_thread() is not threading.main_thread()))
        assert self.verifying.wait(10)

    def _meet(self) -> None:
        self.met += 1

    async def join(self) -> None:
        await self.bridge.joined(RemoteNode(KEY, 1, "test"), inbound=True)

    async def say(self, message: Message) -> None:
        await self.bridge.message(KEY, kind_of(message), encode_message(message))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.engine.failure = None
    await made.bridge.left(KEY, Ending("done", "the test is over"))


async def test_a_link_begins_with_a_hello_from_both_sides(world: World) -> None:
    await world.join()
    assert world.links.sent == [(KEY, kind_of(HELLO), encode_message(HELLO))]
    assert world.engine.heard == []
    await world.say(HELLO)
    await world.say(GetSnapshots())
    await world.bridge.left(KEY, Ending("done", "done"))
    assert world.engine.heard == [("joined", KEY), ("GetSnapshots", KEY), ("left", KEY)]
    assert (world.met, world.troubles) == (1, [])


async def test_whoever_never_says_hello_is_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELLO_S", 0.0)
    await world.join()
    await eventually(lambda: world.links.dropped)
    assert world.links.dropped[0][:2] == (KEY, "silent")
    await world.bridge.left(KEY, Ending("silent", ""))
    assert world.engine.heard == []


async def test_a_link_that_ends_before_its_hello_leaves_no_timer(world: World) -> None:
    await world.join()
    await world.bridge.left(KEY, Ending("link_lost", ""))
    assert world.bridge._waiting == {}
    assert world.engine.heard == []


@pytest.mark.parametrize("first", [True, False])
async def test_a_message_out_of_place_is_misbehaviour(world: World, *, first: bool) -> None:
    await world.join()
    if not first:
        await world.say(HELLO)
    with pytest.raises(Misbehaviour, match="begins with one Hello"):
        await world.say(GetSnapshots() if first else HELLO)


async def test_a_kind_that_is_not_the_messages_own_is_misbehaviour(world: World) -> None:
    await world.join()
    with pytest.raises(Misbehaviour, match="another kind's number") as refusal:
        await world.bridge.message(KEY, kind_of(Pong), encode_message(HELLO))
    assert refusal.value.code in BAN_SECONDS


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x01", bytes(MAX_MESSAGE_BYTES + 1)])
async def test_what_is_no_message_is_refused(world: World, payload: bytes) -> None:
    await world.join()
    with pytest.raises(RecordError):
        await world.bridge.message(KEY, 1, payload)


@pytest.mark.parametrize(
    "error", [ChainError("disk_full", "no room"), OSError(28, "No space left on device")]
)
async def test_the_nodes_own_failure_is_not_the_peers(world: World, error: Exception) -> None:
    await world.join()
    world.engine.failure = error
    await world.say(HELLO)
    await world.say(GetSnapshots())
    await world.bridge.left(KEY, Ending("done", "done"))
    assert world.troubles == [error] * 3


async def test_a_mistake_in_the_engine_ends_the_link_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.join()
    await world.say(HELLO)
    world.engine.failure = ZeroDivisionError("a mistake")
    await world.say(GetSnapshots())
    await eventually(lambda: world.links.dropped)
    assert world.links.dropped[0][:2] == (KEY, "internal_error")
    assert "a mistake" in caplog.text
    assert world.troubles == []


async def test_one_message_is_made_ready_while_the_engine_is_at_another(world: World) -> None:
    await world.join()
    await world.say(HELLO)
    world.thread.free.clear()
    await world.say(GetSnapshots())
    world.bridge.obey([Send(KEY, GetHeaders((BlockRef(0, bytes(32)),), 1))])
    await world.say(Headers(()))
    second = asyncio.create_task(world.say(GetSnapshots()))
    await eventually(lambda: world.verified)
    assert not second.done()
    assert world.engine.heard == [("joined", KEY)]
    world.thread.free.set()
    await second
    await world.bridge.left(KEY, Ending("done", "done"))
    heard = [what for what, _ in world.engine.heard]
    assert heard == ["joined", "GetSnapshots", "Headers", "GetSnapshots", "left"]


async def test_bodies_overtake_headers_that_are_being_verified(world: World) -> None:
    await world.join()
    await world.say(HELLO)
    world.bridge.obey([Send(KEY, GetHeaders((BlockRef(0, bytes(32)),), 1))])
    world.verifying.clear()
    await world.say(Headers(()))
    await world.say(BODIES)
    await world.say(BODIES)
    other = asyncio.create_task(world.say(GetSnapshots()))
    await eventually(lambda: len(world.engine.heard) == 3)
    assert not other.done()
    world.verifying.set()
    await other
    await world.bridge.left(KEY, Ending("done", "done"))
    heard = [what for what, _ in world.engine.heard]
    assert heard == ["joined", "Bodies", "Bodies", "Headers", "GetSnapshots", "left"]


async def test_headers_that_can_not_be_verified_ahead_reach_the_engine(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_headers: Headers) -> None:
        raise MemoryError("no room for another interpreter")

    monkeypatch.setattr(world.bridge, "_verify", fail)
    await world.join()
    await world.say(HELLO)
    world.bridge.obey([Send(KEY, GetHeaders((BlockRef(0, bytes(32)),), 1))])
    await world.say(Headers(()))
    await eventually(lambda: ("Headers", KEY) in world.engine.heard)
    assert "no room for another interpreter" in caplog.text
    assert world.links.dropped == []


async def test_headers_that_are_being_verified_come_before_the_end_of_a_link(world: World) -> None:
    await world.join()
    await world.say(HELLO)
    world.bridge.obey([Send(KEY, GetHeaders((BlockRef(0, bytes(32)),), 1))])
    world.verifying.clear()
    await world.say(Headers(()))
    left = asyncio.create_task(world.bridge.left(KEY, Ending("link_lost", "")))
    await eventually(lambda: world.verified)
    assert not left.done()
    world.verifying.set()
    await left
    assert [what for what, _ in world.engine.heard] == ["joined", "Headers", "left"]


async def test_headers_are_verified_beside_the_engine_where_they_were_asked_for(world: World) -> None:
    await world.join()
    await world.say(HELLO)
    world.bridge.obey([Send(KEY, GetHeaders((BlockRef(0, bytes(32)),), 1))])
    await world.say(Headers(()))
    await eventually(lambda: ("Headers", KEY) in world.engine.heard)
    assert world.verified == [(Headers(()), True)]
    await world.say(Headers(()))
    await world.bridge.left(KEY, Ending("done", "done"))
    assert len(world.verified) == 1
    assert world.engine.heard.count(("Headers", KEY)) == 2


@pytest.mark.parametrize("wrong", [None, 0, 2])
def test_the_seals_of_headers_are_verified_up_to_one_that_is_wrong(wrong: int | None) -> None:
    net = Net()
    net.mesh()
    for _ in range(4):
        net.mine("anna")
    sealed = [SealedHeader(*each) for each in net["anna"].store.sealed_headers(1, 4)]
    if wrong is not None:
        sealed[wrong] = SealedHeader(sealed[wrong].header, bytes(64))
    verifier = Verifier(1, SignatureCache(bytes(16)))
    verify_seals(verifier, Headers(tuple(sealed)))
    assert verifier.cache is not None
    assert len(verifier.cache) == (4 if wrong is None else wrong)


async def test_the_engine_is_obeyed_in_order(world: World) -> None:
    world.bridge.obey([Send(KEY, Pong(1, STATUS)), Drop(KEY, "silent", "too long", 5)])
    assert [kind for _, kind, _ in world.links.sent] == [kind_of(Pong)]
    assert world.links.dropped == [(KEY, "silent", "too long", 5)]


async def test_a_message_beyond_its_limit_is_logged_and_ends_nothing(
    world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world.bridge.obey([Send(KEY, Hello(STATUS, 1, "x" * 256))] * 2)

    huge = Inventory(tuple(bytes(32) for _ in range(2000)))
    world.bridge.obey([Send(KEY, huge)])
    assert "can't be sent" in caplog.text


def test_every_kind_that_the_engine_knows_has_its_limit() -> None:
    assert set(LIMITS) == set(map(kind_of, KINDS))
    for limit in LIMITS.values():
        assert limit.burst_bytes >= 2 * limit.max_bytes
    with pytest.raises(TypeError, match="no kind"):
        kind_of(Message)


# Who gets in

MEMBER, REVOKED, REPLACED, STRANGER, OWN = (seeded(number).public_key for number in range(1, 6))
AUTHORITY, SECRET = SoftwareSigner(bytes([9]) * 32), SoftwareSigner(bytes([8]) * 32)


def membership(**changes: Any) -> Membership:
    values: dict[str, Any] = {
        "nodes": frozenset({MEMBER, OWN}),
        "revoked": frozenset({REVOKED}),
        "replaced": frozenset({REPLACED}),
        "authorities": frozenset({AUTHORITY.public_key}),
        "used": frozenset(),
        "height": 10,
        "final": 8,
        "current": True,
    }
    return Membership(**(values | changes))


def policy(**changes: Any) -> MemberPolicy:
    return MemberPolicy(OWN, membership(**changes), lambda: NOW)


def invitation(**changes: Any) -> Invitation:
    values: dict[str, Any] = {"roles": int(Role.HOME), "expires": int(NOW) + 60, "by": AUTHORITY} | changes
    return invite(bytes(32), values["by"], SECRET.public_key, values["roles"], values["expires"])


@pytest.mark.parametrize(
    ("key", "shown", "changes", "code"),
    [
        (MEMBER, None, {}, None),
        (MEMBER, invitation(), {}, None),
        (STRANGER, invitation(), {}, None),
        (STRANGER, None, {}, "not_a_member"),
        (REVOKED, None, {}, "revoked"),
        (REVOKED, invitation(), {}, "revoked"),
        (REPLACED, None, {}, "key_replaced"),
        (STRANGER, invitation(by=SECRET), {}, "invitation_unauthorised"),
        (STRANGER, invitation(roles=0), {}, "invitation_roles"),
        (STRANGER, invitation(expires=int(NOW) - 1), {}, "invitation_expired"),
        (STRANGER, invitation(), {"used": frozenset({SECRET.public_key})}, "invitation_used"),
    ],
)
def test_members_and_good_invitations_get_in(
    key: bytes, shown: Invitation | None, changes: dict[str, Any], code: str | None
) -> None:
    asked = policy(**changes)
    if code is None:
        asked.admit(key, shown)
        return
    with pytest.raises(Refusal) as refusal:
        asked.admit(key, shown)
    assert refusal.value.code == code


def test_a_newcomer_trusts_whom_it_dialled_until_the_chain_tells() -> None:
    asked = policy(nodes=frozenset({MEMBER}), current=False)
    with pytest.raises(Refusal):
        asked.admit(STRANGER, None)
    asked.answered(STRANGER)
    asked.admit(STRANGER, None)
    asked.answered(REVOKED)
    with pytest.raises(Refusal, match="was revoked"):
        asked.admit(REVOKED, None)
    asked.update(membership())
    with pytest.raises(Refusal):
        asked.admit(STRANGER, None)
    # Falling behind for a while does not bring the trust back.
    asked.update(membership(current=False))
    with pytest.raises(Refusal):
        asked.admit(STRANGER, None)


def test_the_answers_remembered_are_few() -> None:
    asked = policy(nodes=frozenset({MEMBER}), current=False)
    asked.answered(STRANGER)
    for number in range(100, 200):
        asked.answered(seeded(number).public_key)
    with pytest.raises(LedgerError):
        asked.admit(STRANGER, None)
