"""Valid chains of any length for tests and benchmarks: a simulated street, decided by a seed alone.

config      what the chain should be like
generator   SyntheticChain: the blocks, one by one
tally       what the chain holds, counted while it is made
street      genesis, admissions, assets
home        one home: keys, devices, energy
metering, offering, answering, aftermath, voting   what homes do
desk        the block being put together
agenda, chance, weather   plans by time, numbers from a seed, sun and clouds
"""

from ledger_core.synthetic.config import Config
from ledger_core.synthetic.generator import GeneratedBlock, SyntheticChain
from ledger_core.synthetic.tally import Tally

__all__ = ["Config", "GeneratedBlock", "SyntheticChain", "Tally"]
