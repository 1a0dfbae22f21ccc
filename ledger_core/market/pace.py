"""How much time before a window offers and answers need: so many blocks as it takes to bind a trade."""

from typing import Final

from msgspec import Struct

_BLOCKS: Final = 2
"""In which a record stands nearly always: the next one, and one to spare."""
_LEAST_S: Final = 10
"""However fast the blocks are: for the ways between the homes, and for looking at what came."""


class Pace(Struct, frozen=True):
    """How fast a community is; with `block_spacing_s` between its blocks."""

    block_spacing_s: int = 30

    @property
    def answer_s(self) -> int:
        """An answer must be given so long before its offer closes, to get into a block in time."""
        return max(_BLOCKS * self.block_spacing_s, _LEAST_S)

    @property
    def offer_s(self) -> int:
        """An offer must be made so long before its window: it needs blocks, and an answer after it."""
        return 2 * self.answer_s
