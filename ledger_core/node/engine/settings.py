"""The engine's limits and intervals."""

from typing import Annotated

from msgspec import Meta, Struct

from ledger_core.node.messages import MAX_BODIES, BlockRef

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=10**7)]
Bytes = Annotated[int, Meta(ge=64 * 1024, le=2**30)]


class EngineSettings(Struct, frozen=True, kw_only=True):
    """Every bound and interval; the defaults suit a small computer beside Home Assistant."""

    software: str = "energy-ledger"
    """What the node calls itself to its peers."""

    # Records waiting for a block
    pool_bytes: Bytes = 8 * 1024 * 1024
    pool_member_bytes: Bytes = 1024 * 1024
    """Of one member, with its meters."""
    pool_member_records: Count = 4000
    announce_interval_s: Seconds = 0.05
    """Records that come within this time are announced together."""
    record_request_s: Seconds = 10.0
    """After this time a record is asked for elsewhere."""
    retry_interval_s: Seconds = 0.5
    """Records refused a moment ago (their offer is still under way) are tried again so often."""
    retry_records: Count = 512
    retry_age_s: Seconds = 60.0
    own_repeat_s: Seconds = 60.0
    """Own records that no block holds yet are announced again so often."""
    own_records: Count = 10_000

    # Blocks
    request_s: Seconds = 20.0
    """After this time headers, bodies and snapshot parts are asked for elsewhere."""
    header_window: Annotated[int, Meta(ge=16, le=1_000_000)] = 8192
    """Headers kept ahead of the bodies."""
    body_batch: Annotated[int, Meta(ge=1, le=MAX_BODIES)] = 256
    bodies_ahead_bytes: Bytes = 16 * 1024 * 1024
    requests_per_peer: Annotated[int, Meta(ge=1, le=16)] = 4
    """Two are on their way while the bodies of the other two are applied."""
    requests_at_once: Annotated[int, Meta(ge=1, le=256)] = 16
    """Of all peers together: answers of two megabytes each at the most."""
    recent_block_bytes: Bytes = 8 * 1024 * 1024
    synced_within_blocks: Count = 8
    """Nearer to the best known header than this, the node counts as synced: it mines and votes."""
    unavailable_s: Seconds = 60.0
    """A branch whose bodies nobody gives is left alone for so long."""
    full_sync: bool = False
    """Fetch every body since the genesis, never a snapshot."""
    anchor: BlockRef | None = None
    """A final checkpoint that the branch must hold, from the invitation."""
    snapshot_gap_blocks: Count = 1000
    """A new node nearer to the tip than this fetches bodies only."""

    # Peers
    ping_interval_s: Seconds = 60.0
    patience: Annotated[float, Meta(gt=0, le=1e6)] = 200.0
    """Points of useless messages a peer may send at once; real misbehaviour takes all of it."""
    patience_per_s: Annotated[float, Meta(gt=0, le=1e6)] = 5.0
    ban_s: Annotated[int, Meta(ge=1, le=30 * 86_400)] = 3600
    flood_ban_s: Annotated[int, Meta(ge=1, le=30 * 86_400)] = 600

    # Mining and voting
    clock_tolerance_s: Seconds = 60.0
    start_grace_s: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    """So long after the start a node without any peer waits for one before it mines alone."""
    voting: bool = True
    """Off: this node only watches the votes."""
    vote_depth: Annotated[int, Meta(ge=1, le=100)] = 3
    """Blocks on a checkpoint before the node votes for it."""
    vote_spread_s: Annotated[float, Meta(ge=0, le=600)] = 5.0
    """Votes leave at random within this time, so that a second copy of the node sees the first one's."""
    vote_link_s: Annotated[float, Meta(ge=0, le=600)] = 1.0
    """Votes need a link that is so old: by then its other side has told of a copy of this node."""
    vote_interval_s: Seconds = 1.0
    """Votes that come within this time are told of together."""
