"""What a simulation has seen, from outside of every node."""

from dataclasses import dataclass, field

from ledger_core.records.votes import Vote
from ledger_core.rules.finality import conflict


@dataclass
class BlockFact:
    """A block, and who got it when."""

    height: int
    mined: float
    miner: int
    whole: bool
    """Whether an honest node mined it, while the street was in one piece."""
    arrivals: list[float] = field(default_factory=list)
    """Seconds after it was mined at which nodes that were there took it into their branch."""


@dataclass
class RecordFact:
    """A record that a home submitted."""

    home: int
    kind: str
    submitted: float
    final: float | None = None
    lost: str | None = None
    """The code with which its author was told that it became impossible."""


@dataclass
class Facts:
    """Everything that the report is made of; bounded by what happens in the run."""

    blocks: dict[bytes, BlockFact] = field(default_factory=dict)
    records: dict[bytes, RecordFact] = field(default_factory=dict)
    finals: dict[int, set[bytes]] = field(default_factory=dict)
    """Hashes that some honest node holds final, by height: more than one is the end of all trust."""
    final_delay: dict[int, list[float]] = field(default_factory=dict)
    """Seconds from a checkpoint's mining until each node held it final, by height."""
    votes: dict[int, list[Vote]] = field(default_factory=dict)
    """By honest node."""
    reorgs: int = 0
    bans: dict[str, int] = field(default_factory=dict)
    """Of misbehaving nodes, by their way of misbehaving."""
    honest_bans: dict[str, int] = field(default_factory=dict)
    """Of honest nodes, by code."""
    equivocations: set[bytes] = field(default_factory=set)
    punished: set[bytes] = field(default_factory=set)
    doubted_clocks: set[int] = field(default_factory=set)
    stopped_voters: set[int] = field(default_factory=set)
    mined_wrong: int = 0
    """Blocks of nodes whose clock is far off."""

    def conflicting_votes(self) -> int:
        """Return how many pairs of votes of one honest node conflict."""
        return sum(
            conflict(first, second) is not None
            for votes in self.votes.values()
            for place, first in enumerate(votes)
            for second in votes[:place]
        )

    def conflicting_finals(self) -> int:
        """Return at how many heights honest nodes hold different blocks final."""
        return sum(len(hashes) > 1 for hashes in self.finals.values())
