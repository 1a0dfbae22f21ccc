"""Generated chains that several benchmarks share."""

from collections.abc import Iterator

from benchmarks.harness import progress
from ledger_core.records.block import Block
from ledger_core.synthetic import Config, SyntheticChain

HOUR = 3600


def main_branch(chain: SyntheticChain, every: int = 2000) -> Iterator[Block]:
    """Yield the blocks of a chain's main branch; tells now and then how far it is."""
    for item in chain.blocks():
        if not item.side:
            if item.height % every == 0:
                progress(f"{item.height} blocks generated")
            yield item.block


def street(homes: int, hours: int, seed: int = 1) -> SyntheticChain:
    """Return a chain to be generated, with slots of 15 minutes and blocks of 30 seconds."""
    progress(f"generating a street of {homes} homes, {hours} hours")
    return SyntheticChain(Config(homes=homes, duration_s=hours * HOUR, seed=seed))
