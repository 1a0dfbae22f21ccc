"""Verifying the signatures of blocks, in several threads where there is more than one block's worth."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from types import TracebackType
from typing import Self

from ledger_core.chain.helpers import Helpers, Verdict, verdict_of
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.community import Genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import verify
from ledger_core.records.block import Block
from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.prepare import PreparedBlock, failing_checks, prepare_block

AHEAD_SIGNATURES = 1024
"""How far verifying runs ahead of applying: what each of them works with stays near to the processor for a
while, and handing a quarter of it to another thread costs next to nothing beside verifying it."""

THREAD_SIGNATURES = 64
"""Fewer signatures than this, of one block or of headers, are not worth another thread or interpreter."""


class Batch:
    """Blocks in a row whose signatures are verified together."""

    __slots__ = ("blocks", "checks", "entries", "failing", "given")

    def __init__(self) -> None:
        self.blocks: list[PreparedBlock] = []
        self.checks: list[SignatureCheck] = []
        """The blocks' signatures that are not known to be valid."""
        self.entries: list[bytes] = []
        """What they are remembered by once they are."""
        self.failing: frozenset[SignatureCheck] | None = None
        """Those that are not valid, once all were verified."""
        self.given: Verdict | None = None
        """What a helper tells, when it was given the batch."""

    @property
    def open(self) -> bool:
        """Whether there is something to verify that nobody is at yet."""
        return self.given is None and self.failing is None and bool(self.checks)

    @property
    def awaited(self) -> bool:
        """Whether a helper has the batch and is not done with it."""
        return self.given is not None and not self.given.done()

    def verdict(self) -> frozenset[SignatureCheck]:
        """Return the signatures that are not valid: a helper's answer, or verified here."""
        if self.failing is None:
            self.failing = frozenset(
                failing_checks(self.checks) if self.given is None else verdict_of(self.checks, self.given)
            )
        return self.failing


class Verifier:
    """Threads that verify, and the memory of what they verified.

    The calling thread is one of the `workers`: with one, no other thread is ever started.
    """

    def __init__(self, workers: int = 2, cache: SignatureCache | None = None) -> None:
        self._helpers = Helpers(max(workers, 1) - 1)
        self._apart = Helpers(0)
        # For each helper one batch to be at, the next, and one for this thread; the first is to be applied.
        self._batches_ahead = 1 + 3 * self._helpers.count
        self.cache = cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads; a pipeline that is still open goes on without them."""
        self._helpers.close()
        self._apart.close()

    def rest(self) -> None:
        """Give back the memory that long runs took; the next one takes it again."""
        self._helpers.rest()
        self._apart.rest()

    def verify(self, prepared: PreparedBlock) -> None:
        """Verify a block's signatures; raises RuleError `signature_invalid`."""
        todo, entries = self._unknown(prepared.checks)
        verify_all = self._helpers.failing if len(todo) >= THREAD_SIGNATURES else failing_checks
        failing = frozenset(verify_all(todo))
        self._remember(todo, entries, failing)
        _refuse(prepared, failing)
        prepared.verified = True

    def verify_signature(self, check: SignatureCheck) -> bool:
        """Verify one signature, or remember that it is valid."""
        if self.cache is not None and check in self.cache:
            return True
        valid = verify(*check)
        if valid and self.cache is not None:
            self.cache.add(check)
        return valid

    def verify_ahead(self, checks: Sequence[SignatureCheck]) -> None:
        """Verify signatures in the calling thread, and remember those before the first that is not valid.

        The thread verifies many in an interpreter of its own: whoever applies blocks meanwhile goes on.
        """
        if self.cache is None:
            return
        for start in range(0, len(checks), AHEAD_SIGNATURES):
            todo, entries = self.cache.unknown(checks[start : start + AHEAD_SIGNATURES])
            verify_all = self._apart.failing_apart if len(todo) >= THREAD_SIGNATURES else failing_checks
            failing = verify_all(todo)
            valid = todo.index(failing[0]) if failing else len(todo)
            self.cache.add_entries(entries[:valid])
            if failing:
                return

    def pipeline(
        self, blocks: Iterable[Block], genesis: Genesis, chain_id: bytes, nodes: Mapping[int, bytes]
    ) -> Iterator[PreparedBlock]:
        """Yield blocks in order, prepared; those to come are verified while the caller applies one.

        Raises like `prepare_block`, and RuleError `signature_invalid`, once the blocks before the one at
        fault were yielded. `nodes` is looked at again for every block.
        """
        fault: LedgerError | None = None

        def prepared_blocks() -> Iterator[PreparedBlock]:
            nonlocal fault
            for block in blocks:
                try:
                    yield prepare_block(block, genesis, chain_id, nodes)
                except LedgerError as error:
                    fault = error
                    return

        for batch in self._verified(self._batches(prepared_blocks())):
            failing = batch.verdict()
            self._remember(batch.checks, batch.entries, failing)
            for prepared in batch.blocks:
                if failing:
                    _refuse(prepared, failing)
                prepared.verified = True
                yield prepared
        if fault is not None:
            raise fault

    def _batches(self, blocks: Iterable[PreparedBlock]) -> Iterator[Batch]:
        enough, cache = AHEAD_SIGNATURES // self._batches_ahead, self.cache
        batch, signatures = Batch(), 0
        for prepared in blocks:
            batch.blocks.append(prepared)
            if cache is None:
                batch.checks += prepared.checks
            else:
                todo, entries = cache.unknown(prepared.checks)
                batch.checks += todo
                batch.entries += entries
            signatures += len(prepared.checks)
            if signatures >= enough:
                yield batch
                batch, signatures = Batch(), 0
        if batch.blocks:
            yield batch

    def _verified(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches in order, verified by the helpers and by this thread, which does not wait for them
        as long as there is a batch that nobody is at.

        Helpers come in once there is enough to do for all.
        """
        window = deque(islice(batches, self._batches_ahead))
        helped = len(window) == self._batches_ahead
        try:
            while window:
                if helped:
                    self._give(window)
                if window[0].awaited:
                    next((batch for batch in window if batch.open), window[0]).verdict()
                else:
                    yield window.popleft()
                    window.extend(islice(batches, 1))
        finally:
            for batch in window:
                if batch.given is not None:
                    batch.given.cancel()

    def _give(self, window: Iterable[Batch]) -> None:
        """Give the helpers the first batches that nobody is at: each one to be at, and the next."""
        places = 2 * self._helpers.count - sum(batch.awaited for batch in window)
        for batch in islice((batch for batch in window if batch.open), places):
            batch.given = self._helpers.give(batch.checks)

    def _unknown(self, checks: list[SignatureCheck]) -> tuple[list[SignatureCheck], list[bytes]]:
        """Return the signatures that are to be verified, and what each is remembered by."""
        return (checks, []) if self.cache is None else self.cache.unknown(checks)

    def _remember(
        self, checks: Iterable[SignatureCheck], entries: Sequence[bytes], failing: Set[SignatureCheck]
    ) -> None:
        if self.cache is None:
            return
        if failing:
            entries = [entry for check, entry in zip(checks, entries, strict=True) if check not in failing]
        self.cache.add_entries(entries)


def _refuse(prepared: PreparedBlock, failing: Set[SignatureCheck]) -> None:
    """Raise RuleError `signature_invalid` where the signature of the miner or of a record failed."""
    for check in prepared.checks:
        if check in failing:
            prepared.failed(check)
