"""The votes seen: for the blocks to come, for the peers, and to catch whoever votes twice."""

from collections.abc import Iterator

from ledger_core.node.messages import MAX_LINKS, BlockRef, LinkVoters, voters_of
from ledger_core.records.codec import encode_body
from ledger_core.records.votes import VOTE_NONCE, Vote, VoteBundle
from ledger_core.rules.finality import conflict
from ledger_core.rules.state import State

MAX_SIDE_LINKS = 128
"""Links of other branches that are remembered; they come with blocks, so each has cost work."""

type LinkKey = tuple[bytes, bytes]
"""Hashes of target and source."""


class LinkVotes:
    """A link between two checkpoints, and the signatures for it by node key."""

    __slots__ = ("active", "bits", "created", "justified", "signatures", "source", "target")

    def __init__(self, source: BlockRef, target: BlockRef, created: int) -> None:
        self.source = source
        self.target = target
        self.created = created
        self.signatures: dict[bytes, bytes] = {}
        self.active = False
        """Whether the link lies on the active branch, from a justified source."""
        self.justified = False
        self.bits = 0
        """The voters by member index; only of an active link, and of nodes from before the target."""

    @property
    def key(self) -> LinkKey:
        """What names the link."""
        return self.target.hash, self.source.hash

    def vote(self, node: bytes) -> Vote:
        """Return a node's vote as it signed it."""
        return Vote(
            node,
            self.created,
            VOTE_NONCE,
            self.source.height,
            self.source.hash,
            self.target.height,
            self.target.hash,
        )

    def message(self, node: bytes, prefix: bytes) -> bytes:
        """Return what a node signs for this link."""
        return prefix + encode_body(self.vote(node))

    def voters(self, bits: int | None = None) -> LinkVoters:
        """Return the link with some (all) of its voters, as peers are told."""
        return LinkVoters(self.source, self.target, voters_of(self.bits if bits is None else bits))

    def bundle(self, state: State, bits: int) -> VoteBundle:
        """Return some of the votes as a block carries them."""
        parts = []
        for index in indexes(bits):
            node = state.nodes.get(index)
            signature = None if node is None else self.signatures.get(node.key)
            if signature is not None:
                parts.append(index.to_bytes(2) + signature)
        return VoteBundle(
            self.created,
            self.source.height,
            self.source.hash,
            self.target.height,
            self.target.hash,
            b"".join(parts),
        )


def indexes(bits: int) -> Iterator[int]:
    """Yield the places of the bits that are set, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def eligible_node(state: State, index: int, target_height: int) -> bytes | None:
    """Return the key of a node that stood on the branch before a target, or None.

    On every branch through the target such a node has the same index, so that peers mean the same voter.
    """
    node = state.nodes.get(index)
    return node.key if node is not None and node.joined <= target_height else None


class VoteBook:
    """Links that are not final yet, bounded in number."""

    def __init__(self) -> None:
        self._links: dict[LinkKey, LinkVotes] = {}

    def __len__(self) -> int:
        return len(self._links)

    def active(self) -> list[LinkVotes]:
        """Return the links of the active branch."""
        return [link for link in self._links.values() if link.active]

    def all(self) -> list[LinkVotes]:
        """Return every link, of whatever branch."""
        return list(self._links.values())

    def get(self, target: bytes, source: bytes) -> LinkVotes | None:
        """Return a link by the hashes of its ends."""
        return self._links.get((target, source))

    def open(self, state: State, source: BlockRef, target: BlockRef) -> LinkVotes | None:
        """Return a link of the active branch that votes may be gathered for; None for any other."""
        known = self._links.get((target.hash, source.hash))
        if known is not None and known.active:
            return known
        created = _created_on_branch(state, source, target)
        if created is None or sum(link.active for link in self._links.values()) >= MAX_LINKS:
            return None
        link = known or LinkVotes(source, target, created)
        self._links[link.key] = link
        self._activate(link, state)
        return link

    def open_any(self, bundle: VoteBundle, state: State) -> LinkVotes | None:
        """Return the link of a bundle that stood in a block, on whatever branch."""
        source = BlockRef(bundle.source_height, bundle.source_hash)
        target = BlockRef(bundle.target_height, bundle.target_hash)
        link = self.open(state, source, target) or self._links.get((target.hash, source.hash))
        if link is None and target.height > state.tip.final and len(self._links) < MAX_LINKS + MAX_SIDE_LINKS:
            link = self._links[target.hash, source.hash] = LinkVotes(source, target, bundle.created)
        return link

    def add(
        self, link: LinkVotes, index: int, node: bytes, signature: bytes, state: State
    ) -> LinkVotes | None:
        """Keep a verified vote; returns a link for which the same node signed a conflicting one."""
        if node in link.signatures:
            return None
        link.signatures[node] = signature
        if link.active and eligible_node(state, index, link.target.height) == node:
            link.bits |= 1 << index
        return next((other for other in self._rivals(link, node) if node in other.signatures), None)

    def _rivals(self, link: LinkVotes, node: bytes) -> Iterator[LinkVotes]:
        for other in self._links.values():
            if other is link:
                continue
            same_target = other.target.height == link.target.height
            nested = (other.source.height < link.source.height) is (link.target.height < other.target.height)
            if (same_target or nested) and conflict(other.vote(node), link.vote(node)) is not None:
                yield other

    def refresh(self, state: State) -> None:
        """Follow the tip: forget what is final, see which links lie on the active branch now."""
        for key, link in list(self._links.items()):
            if link.target.height <= state.tip.final:
                del self._links[key]
                continue
            if _created_on_branch(state, link.source, link.target) != link.created:
                link.active = False
                continue
            if not link.active:
                self._activate(link, state)
            link.justified = state.checkpoints[link.target.height].justified

    def pending(self, state: State) -> list[VoteBundle]:
        """Return the votes that a block of the active branch can still use, lowest target first.

        Whoever voted for one target from two sources counts once, where most others voted: a block with both
        would not be valid.
        """
        used: dict[int, int] = {}
        for (target, _), bits in state.tallies.items():
            used[target] = used.get(target, 0) | int.from_bytes(bits)
        bundles = []
        for link in sorted(self.active(), key=lambda link: (link.target.height, -link.bits.bit_count())):
            left = link.bits & ~used.get(link.target.height, 0)
            used[link.target.height] = used.get(link.target.height, 0) | left
            bundle = link.bundle(state, left)
            if bundle.votes:
                bundles.append(bundle)
        return bundles

    def _activate(self, link: LinkVotes, state: State) -> None:
        link.active = True
        link.bits = 0
        for node in link.signatures:
            index = state.node_keys.get(node)
            if index is not None and eligible_node(state, index, link.target.height) == node:
                link.bits |= 1 << index


def _created_on_branch(state: State, source: BlockRef, target: BlockRef) -> int | None:
    """Return the time that votes for a link of this branch carry; None for a link that is not of it."""
    if not source.height < target.height or target.height <= state.tip.final:
        return None
    source_row = state.checkpoints.get(source.height)
    target_row = state.checkpoints.get(target.height)
    if source_row is None or target_row is None or not source_row.justified:
        return None
    if source_row.hash != source.hash or target_row.hash != target.hash:
        return None
    return target_row.time
