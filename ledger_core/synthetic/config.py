"""What a synthetic chain should be like."""

from typing import Any

from msgspec import Struct

from ledger_core.community import Parameters, parse_parameters
from ledger_core.errors import LedgerError
from ledger_core.synthetic.weather import DAY

DEFAULT_START = 1_743_465_600
"""2025-04-01 00:00 UTC: in the past, so that every program takes the blocks as they are."""

MAX_HOMES = 2_000


class Config(Struct, frozen=True, kw_only=True):
    """The same values give the same chain, byte by byte."""

    homes: int
    duration_s: int
    seed: int
    start: int = DEFAULT_START
    """UTC seconds of the genesis; a midnight suits the weather."""
    slot_s: int = 900
    block_spacing_s: int | None = None
    """None: a thirtieth of a slot, at least a second."""
    checkpoint_interval: int = 30
    min_difficulty_bits: int = 1
    reading_batch: int = 8
    """Slots in one reading where no trade waits for it."""
    reorg_blocks: int = 240
    """Blocks between reorganisations, on average; 0: none."""

    @property
    def spacing_s(self) -> int:
        """Mean time between blocks, seconds."""
        return max(self.slot_s // 30, 1) if self.block_spacing_s is None else self.block_spacing_s

    def eager(self, permille: int) -> int:
        """Return a probability of a home's acts, higher where few homes make the whole mix."""
        return min(permille * min(max(24 // self.homes, 1), 4), 900)

    @property
    def end(self) -> int:
        """Time up to which there are blocks, UTC seconds."""
        return self.start + self.duration_s

    def parameters(self) -> Parameters:
        """Return the community's parameters; raises RecordError `parameter_invalid`."""
        values: dict[str, Any] = {
            "slot_s": self.slot_s,
            "block_spacing_s": self.spacing_s,
            "checkpoint_interval": self.checkpoint_interval,
            "min_difficulty_bits": self.min_difficulty_bits,
            "difficulty_half_life_s": 120 * self.spacing_s,
            "grace_s": 2 * self.slot_s,
            "window_max_slots": min(672, 31 * DAY // max(self.slot_s, 1)),
            "fee": 1000,
        }
        return parse_parameters(values)


def check_config(config: Config) -> None:
    """Raise LedgerError `synthetic_config` or RecordError `parameter_invalid` for what no street can be."""
    config.parameters()
    limits = {
        "homes": (2, MAX_HOMES),
        "duration_s": (config.spacing_s, 3660 * DAY),
        "seed": (0, 2**64 - 1),
        "reading_batch": (1, 96),
        "reorg_blocks": (0, 1_000_000),
    }
    for name, (least, most) in limits.items():
        value = getattr(config, name)
        if not least <= value <= most:
            raise LedgerError(
                "synthetic_config", f"{name} must lie between {least} and {most}, not at {value}", field=name
            )
    if DAY % config.slot_s == 0 and config.start % config.slot_s:
        raise LedgerError(
            "synthetic_config", f"start must be a multiple of the slot of {config.slot_s} s", field="start"
        )
