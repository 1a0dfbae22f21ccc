"""A new node's short way: all headers, then a state that a buried checkpoint's header proves.

The headers must lead through the anchor that came with the invitation, where there is one. Every other peer
is asked for its branch, too. Where one of them parts from the headers deep below their end, or none knows
them, or none has a fitting snapshot, the node verifies every block.
"""

from collections.abc import Callable
from enum import Enum

from ledger_core.chain.model import SnapshotInfo
from ledger_core.errors import LedgerError
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.engine.intake import Intake
from ledger_core.node.engine.outputs import SnapshotAdopted
from ledger_core.node.engine.snapshot_proof import burying, check_blocks, compare, proven_state
from ledger_core.node.engine.staging import (
    Staging,
    staged_hash,
    staged_headers,
    staged_parent,
    staged_ref,
)
from ledger_core.node.messages import (
    MAX_BODIES,
    MAX_HEADERS,
    SNAPSHOT_PART_BYTES,
    BlockRef,
    Bodies,
    GetBodies,
    GetHeaders,
    GetSnapshotPart,
    GetSnapshots,
    Headers,
    Message,
    SealedHeader,
    SnapshotOffer,
    SnapshotPart,
    Snapshots,
)
from ledger_core.records.block import Block, decode_header, header_hash
from ledger_core.rules.headers import Parent, check_header, check_not_future, is_checkpoint, next_times

AGREED_INTERVALS = 2
"""Checkpoint intervals below the headers' end, as far as honest branches may differ."""

MAX_BURYING = 8
"""Checkpoint intervals above a snapshot in which nodes of its state must have mined enough blocks."""

MAX_FAILURES = 8
SILENT_POINTS = 60.0


class Phase(Enum):
    """What is being fetched."""

    OFF = 0
    HEADERS = 1
    CONFIRM = 2
    OFFERS = 3
    CONTENTS = 4


class SnapshotSync:
    """Runs once, on an empty chain; afterwards the ordinary sync goes on from where it ends."""

    def __init__(self, hub: Hub, intake: Intake, staging: Staging, adopted: Callable[[float], None]) -> None:
        self._hub = hub
        self._intake = intake
        self._staging = staging
        self._adopted = adopted
        self._chain_id = hub.chain.chain_id
        self._interval = hub.chain.genesis.parameters.checkpoint_interval
        self._phase = Phase.OFF
        self._given_up = hub.settings.full_sync or hub.chain.height > 0
        self._source: bytes | None = None
        self._asked: dict[bytes, float] = {}
        """Peers that an answer is expected from, and until when."""
        self._silent: dict[bytes, int] = {}
        """How often each connected peer did not answer."""
        self._heard: dict[bytes, bool] = {}
        """Peers that were asked for their branch, and whether they know the headers."""
        self._began = 0.0
        self._offers: dict[bytes, tuple[SnapshotOffer, ...]] = {}
        self._offer: SnapshotOffer | None = None
        self._parts: dict[int, tuple[bytes, bytes]] = {}
        """Parts of the snapshot, and who sent each."""
        self._bodies: dict[int, Block] = {}
        self._wanted: dict[bytes, int | tuple[int, ...]] = {}
        """What each peer was asked for: a part, or the heights of bodies."""
        self._single: bytes | None = None
        """The only peer to take parts from, after parts of several did not fit together."""
        self._failures = 0

    @property
    def active(self) -> bool:
        """Whether the ordinary sync has to wait."""
        return self._phase is not Phase.OFF

    @property
    def height(self) -> int:
        """Height of the headers that are here."""
        return len(self._staging)

    @property
    def fetched(self) -> str | None:
        """What is being fetched, `headers` or `snapshot`; None: nothing, here."""
        has_headers = self._phase in (Phase.OFFERS, Phase.CONTENTS)
        return ("snapshot" if has_headers else "headers") if self.active else None

    def next_time(self) -> float | None:
        """Return when something is due."""
        if not self.active:
            return None
        waiting = [self._began + self._hub.settings.start_grace_s] if self._phase is Phase.CONFIRM else []
        return min(self._asked.values() or waiting, default=None)

    def consider(self, now: float) -> None:
        """Begin where that saves work, and go on."""
        if self._given_up:
            return
        if self._phase is Phase.OFF:
            highest = max((peer.tip.height for peer in self._hub.peers.values()), default=0)
            if self._hub.chain.height > 0 or highest < self._hub.settings.snapshot_gap_blocks:
                return
            self._phase = Phase.HEADERS
            self._began = now
        self._advance(now)

    def peer_left(self, peer_id: bytes) -> None:
        """Forget a peer."""
        self._asked.pop(peer_id, None)
        self._wanted.pop(peer_id, None)
        self._offers.pop(peer_id, None)
        self._silent.pop(peer_id, None)
        self._heard.pop(peer_id, None)
        if self._source == peer_id:
            self._source = None
        if self._single == peer_id:
            self._single = None

    def tick(self, now: float) -> None:
        """Ask others where an answer is late."""
        if not self.active:
            return
        for peer_id in [key for key, until in self._asked.items() if until <= now]:
            del self._asked[peer_id]
            self._wanted.pop(peer_id, None)
            self._silent[peer_id] = self._silent.get(peer_id, 0) + 1
            if self._source == peer_id:
                self._source = None
            if self._phase in (Phase.OFFERS, Phase.CONTENTS):
                self._offers[peer_id] = ()
            elif self._phase is Phase.CONFIRM:
                self._heard[peer_id] = False
            self._hub.blame(peer_id, SILENT_POINTS, "requests of a new node without an answer", now)
        self._advance(now)

    def handles(self, peer: Peer, message: Message, now: float) -> bool:
        """Take a message that answers this part; returns whether it did."""
        if not self.active or peer.id not in self._asked:
            return False
        match message:
            case Headers() if self._phase in (Phase.HEADERS, Phase.CONFIRM):
                del self._asked[peer.id]
                if self._phase is Phase.HEADERS:
                    self._on_headers(peer, message, now)
                else:
                    self._on_confirmation(peer, message, now)
            case Snapshots() if self._phase is Phase.OFFERS:
                del self._asked[peer.id]
                self._offers[peer.id] = message.offers
            case SnapshotPart() if self._phase is Phase.CONTENTS:
                self._on_part(peer, message)
            case Bodies() if self._phase is Phase.CONTENTS:
                self._on_bodies(peer, message)
            case _:
                return False
        self._advance(now)
        return True

    # Asking

    def _advance(self, now: float) -> None:
        match self._phase:
            case Phase.HEADERS:
                self._ask_headers(now)
            case Phase.CONFIRM:
                self._ask_confirmation(now)
            case Phase.OFFERS:
                self._ask_offers(now)
            case Phase.CONTENTS:
                self._ask_contents(now)
            case Phase.OFF:
                pass

    def _ask(self, peer_id: bytes, message: Message, now: float) -> None:
        self._asked[peer_id] = now + self._hub.settings.request_s
        self._hub.send(peer_id, message)

    def _ask_headers(self, now: float) -> None:
        if self._asked:
            return
        if self._source not in self._hub.peers:
            ahead = [peer for peer in self._hub.peers.values() if peer.tip.height >= self.height]
            if not ahead:
                return
            self._source = max(ahead, key=self._promise).id
        if self._source is not None:
            locator = [staged_ref(self._staging, self.height, self._chain_id)]
            if self.height:
                locator.append(BlockRef(0, self._chain_id))
            self._ask(self._source, GetHeaders(tuple(locator), MAX_HEADERS), now)

    def _promise(self, peer: Peer) -> tuple[int, int, int]:
        return -self._silent.get(peer.id, 0), peer.final, peer.tip.height

    def _ask_confirmation(self, now: float) -> None:
        others = self._others()
        for peer_id in others:
            if peer_id not in self._heard and peer_id not in self._asked:
                self._ask(peer_id, GetHeaders(self._locator(), MAX_HEADERS), now)
        if self._asked or (not others and now < self._began + self._hub.settings.start_grace_s):
            return
        if others and not any(self._heard[peer_id] for peer_id in others):
            self._give_up(now)
            return
        self._phase = Phase.OFFERS
        self._offers.clear()
        self._ask_offers(now)

    def _others(self) -> list[bytes]:
        """Return the peers that can say something about the headers, besides the one that gave them."""
        return [key for key, peer in self._hub.peers.items() if key != self._source and peer.tip.height > 0]

    @property
    def _agreed_height(self) -> int:
        """Up to where honest branches agree."""
        return self.height - AGREED_INTERVALS * self._interval

    def _locator(self) -> tuple[BlockRef, ...]:
        """Return headers up to which peers should agree: whoever knows them answers with those above."""
        heights, height, step = [], self._agreed_height, self._interval
        while height > 0:
            heights.append(height)
            height, step = height - step, step * 2
        refs = [staged_ref(self._staging, at, self._chain_id) for at in heights]
        return (*refs, BlockRef(0, self._chain_id))

    def _ask_offers(self, now: float) -> None:
        for peer_id in self._hub.peers:
            if peer_id not in self._offers and peer_id not in self._asked:
                self._ask(peer_id, GetSnapshots(), now)
        if self._asked or not self._hub.peers:
            return
        fitting = [
            offer for peer_id in self._hub.peers for offer in self._offers[peer_id] if self._fits(offer)
        ]
        if not fitting:
            self._give_up(now)
            return
        best = max(fitting, key=lambda offer: offer.block.height)
        if best != self._offer:
            self._parts.clear()
            self._bodies.clear()
        self._offer = best
        self._phase = Phase.CONTENTS
        self._ask_contents(now)

    def _fits(self, offer: SnapshotOffer) -> bool:
        """Return whether a checkpoint that is buried, and final as far as peers tell, proves the state."""
        height = offer.block.height
        knowing = [key for key in self._others() if self._heard.get(key)]
        if height >= max(self._hub.peers[key].final for key in knowing or self._hub.peers):
            return False
        anchor = self._hub.settings.anchor
        if self.height < height + 1 + self._interval or (anchor is not None and self.height < anchor.height):
            return False
        if not is_checkpoint(height + 1, self._interval):
            return False
        if staged_hash(self._staging, height, self._chain_id) != offer.block.hash:
            return False
        above = decode_header(self._staging.read(height + 1, 1)[0].header)
        return above.state_hash == offer.state_hash

    def _givers(self) -> list[bytes]:
        if self._single is not None:
            return [self._single] if self._single in self._hub.peers else []
        return [
            key for key, offers in self._offers.items() if self._offer in offers and key in self._hub.peers
        ]

    def _ask_contents(self, now: float) -> None:
        offer = self._offer
        if offer is None:
            return
        if self._complete(offer):
            if all(key in self._heard for key in self._others()):
                self._adopt(offer, now)
            else:
                # Whoever came meanwhile is asked, too.
                self._phase = Phase.CONFIRM
                self._ask_confirmation(now)
            return
        givers = self._givers()
        if not givers:
            if not self._asked:
                # Peers that came later may have what is missing; without any the node gives up there.
                self._phase = Phase.OFFERS
                self._single = None
                self._ask_offers(now)
            return
        for peer_id in givers:
            if peer_id in self._asked:
                continue
            part = self._next_part(offer)
            heights = self._next_bodies(offer) if part is None else ()
            if part is not None:
                self._wanted[peer_id] = part
                self._ask(peer_id, GetSnapshotPart(offer.block, part), now)
            elif heights:
                self._wanted[peer_id] = heights
                refs = tuple(staged_ref(self._staging, height, self._chain_id) for height in heights)
                self._ask(peer_id, GetBodies(refs), now)

    def _next_part(self, offer: SnapshotOffer) -> int | None:
        under_way = {part for part in self._wanted.values() if isinstance(part, int)}
        return next(
            (part for part in range(_count(offer)) if part not in self._parts and part not in under_way), None
        )

    def _next_bodies(self, offer: SnapshotOffer) -> tuple[int, ...]:
        under_way = {
            at for heights in self._wanted.values() if not isinstance(heights, int) for at in heights
        }
        missing = [at for at in self._heights(offer) if at not in self._bodies and at not in under_way]
        return tuple(missing[: min(MAX_BODIES, self._hub.settings.body_batch)])

    def _heights(self, offer: SnapshotOffer) -> range:
        checkpoint = offer.block.height + 1
        return range(checkpoint - self._interval + 1, checkpoint + 1)

    def _complete(self, offer: SnapshotOffer) -> bool:
        return len(self._parts) == _count(offer) and len(self._bodies) == len(self._heights(offer))

    # Answers

    def _on_headers(self, peer: Peer, message: Headers, now: float) -> None:
        parent = staged_parent(self._staging, self.height, self._hub.chain.genesis)
        good: list[SealedHeader] = []
        for sealed in message.headers:
            header, block_hash = decode_header(sealed.header), header_hash(sealed.header)
            anchor = self._hub.settings.anchor
            try:
                check_header(header, block_hash, parent, self._hub.chain.genesis)
                check_not_future(header, int(now))
            except LedgerError as refusal:
                if refusal.code == "time_too_new":
                    break
                if refusal.code == "header_previous" and self.height and not good:
                    # Its branch parts from what is here: another peer's word stands against it.
                    self._staging.clear()
                    self._give_up(now)
                    return
                self._hub.ban(
                    peer.id, refusal.code, f"it shows a header that is not valid: {refusal.message}"
                )
                break
            if anchor is not None and header.height == anchor.height and block_hash != anchor.hash:
                self._hub.ban(peer.id, "anchor_missed", "its branch is not the one that the invitation names")
                self._staging.clear()
                self._source = None
                return
            parent = Parent(header.height, block_hash, next_times(parent.times, header.time))
            good.append(sealed)
        if good:
            self._staging.append(good)
        # Fewer than asked for: it has no more, or none that is not from the future by this node's clock.
        if len(good) < MAX_HEADERS and peer.id in self._hub.peers:
            self._phase = Phase.CONFIRM
            self._heard.clear()

    def _on_confirmation(self, peer: Peer, message: Headers, now: float) -> None:
        """See from where on another peer's branch differs from the headers, whichever of them is longer."""
        try:
            shared, differs = compare(message.headers, self._staging, self._hub.chain.genesis)
        except LedgerError as refusal:
            self._hub.ban(peer.id, refusal.code, f"it shows a header that is not valid: {refusal.message}")
            return
        agrees = shared >= self._agreed_height
        if differs and not agrees:
            # Only verifying everything tells who is right.
            self._give_up(now)
        elif not agrees and len(message.headers) == MAX_HEADERS:
            refs = (staged_ref(self._staging, shared, self._chain_id), BlockRef(0, self._chain_id))
            self._ask(peer.id, GetHeaders(refs, MAX_HEADERS), now)
        else:
            self._heard[peer.id] = agrees

    def _on_part(self, peer: Peer, message: SnapshotPart) -> None:
        del self._asked[peer.id]
        part, offer = self._wanted.pop(peer.id, None), self._offer
        if offer is None or part != message.part or message.hash != offer.block.hash or message.data is None:
            self._offers[peer.id] = ()
            return
        last = part == _count(offer) - 1
        size = offer.size - SNAPSHOT_PART_BYTES * part if last else SNAPSHOT_PART_BYTES
        if len(message.data) != size:
            self._hub.ban(peer.id, "snapshot_size", "a part of its snapshot has another size than it said")
            return
        self._parts[part] = (message.data, peer.id)

    def _on_bodies(self, peer: Peer, message: Bodies) -> None:
        del self._asked[peer.id]
        wanted = self._wanted.pop(peer.id, None)
        if not isinstance(wanted, tuple):
            self._offers[peer.id] = ()
            return
        for height, given in zip(wanted, message.bodies, strict=False):
            sealed = self._staging.read(height, 1)[0]
            if given.body is None or given.hash != header_hash(sealed.header):
                self._offers[peer.id] = ()
                return
            block = Block(sealed.header, sealed.signature, given.body)
            if not self._intake.matches(block):
                self._hub.ban(peer.id, "merkle_root_wrong", "it gave a body that is not the block's")
                return
            self._bodies[height] = block

    # Adopting

    def _adopt(self, offer: SnapshotOffer, now: float) -> None:
        data = b"".join(self._parts[part][0] for part in range(_count(offer)))
        state = proven_state(data, offer.state_hash)
        if state is None:
            self._mismatch(offer)
            self._advance(now)
            return
        heights = self._heights(offer)
        blocks = [self._bodies[height] for height in heights]
        above = self._staging.read(offer.block.height + 2, MAX_BURYING * self._interval)
        try:
            buried = burying(state, above, self._hub.verifier) >= self._interval
            check_blocks(state, blocks, self._hub.verifier, int(now))
        except LedgerError:
            # The checkpoint is buried, and its state proven: the headers are a forgery.
            self._give_up(now)
            return
        if not buried:
            self._pass_over(offer)
            self._phase = Phase.OFFERS
            self._ask_offers(now)
            return
        info = SnapshotInfo(offer.block.height, offer.block.hash, offer.state_hash)
        headers = staged_headers(self._staging, heights[0] - 1)
        self._hub.store.install(headers, blocks, (info, data))
        self._hub.chain = FollowedChain.open(self._hub.store, self._hub.verifier)
        self._finish()
        self._hub.notify(SnapshotAdopted(self._hub.chain.height, self._hub.chain.tip_hash))
        self._adopted(now)

    def _mismatch(self, offer: SnapshotOffer) -> None:
        """The parts are not the proven state: find out whose fault it is, one peer at a time."""
        senders = {sender for _, sender in self._parts.values()}
        self._parts.clear()
        self._failures += 1
        if len(senders) == 1:
            liar = senders.pop()
            self._offers.pop(liar, None)
            self._single = None
            self._hub.ban(liar, "snapshot_forged", "its snapshot is not the state that the checkpoint proves")
        givers = self._givers()
        self._single = givers[self._failures % len(givers)] if givers else None
        if self._failures > MAX_FAILURES:
            self._pass_over(offer)

    def _pass_over(self, offer: SnapshotOffer) -> None:
        self._offers = {
            key: tuple(each for each in offers if each != offer) for key, offers in self._offers.items()
        }

    def _give_up(self, now: float) -> None:
        """Verify every block instead."""
        self._finish()
        self._adopted(now)

    def _finish(self) -> None:
        self._given_up = True
        self._phase = Phase.OFF
        self._staging.clear()
        self._asked.clear()
        self._wanted.clear()
        self._offers.clear()
        self._parts.clear()
        self._bodies.clear()


def _count(offer: SnapshotOffer) -> int:
    return -(-offer.size // SNAPSHOT_PART_BYTES)
