"""What a synthetic chain holds, counted while it is made."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts by what the rules and events are called."""

    blocks: int = 0
    side_blocks: int = 0
    reorganisations: int = 0
    records: Counter[str] = field(default_factory=Counter)
    """Records in the chain by kind."""
    reading_rows: int = 0
    """Slot boundaries of meters in the chain."""
    votes: int = 0
    signatures: int = 0
    """Everything that a verifier of the chain's blocks verifies, side branches left out."""
    events: Counter[str] = field(default_factory=Counter)
    """What happened, by the event's name; ends of waiting acceptances and origins of trades with theirs."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Candidates that a miner left out, by kind and code."""
    meant: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of those, the ones handed in too late on purpose: must equal `refused`."""
    declined: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What homes wanted but their own node told them the rules refuse; never sent to a miner."""

    def as_dict(self) -> dict[str, object]:
        """Return the counts under plain names, in a fixed order."""
        return {
            "blocks": self.blocks,
            "side_blocks": self.side_blocks,
            "reorganisations": self.reorganisations,
            "records": dict(sorted(self.records.items())),
            "reading_rows": self.reading_rows,
            "votes": self.votes,
            "signatures": self.signatures,
            "events": dict(sorted(self.events.items())),
            "refused": _named(self.refused),
            "refused_on_purpose": _named(self.meant),
            "declined": _named(self.declined),
        }


def _named(counts: Counter[tuple[str, str]]) -> dict[str, int]:
    return {f"{kind}: {code}": count for (kind, code), count in sorted(counts.items())}
