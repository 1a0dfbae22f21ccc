"""Verifying the signatures of blocks, in several threads where there is more than one block's worth.

libsodium runs without the GIL, so that threads verify in parallel while the rules apply the blocks before.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from ledger_core.chain.shares import WAKE_SIGNATURES, Helpers, VerifiedBlock, Window
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.community import Genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import verify
from ledger_core.records.block import Block
from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.prepare import PreparedBlock, failing_checks, prepare_block

AHEAD_SIGNATURES = 512
"""How far verifying runs ahead of applying: what two threads verify in about 15 ms."""


class Verifier:
    """Threads that verify, and the memory of what they verified.

    The calling thread is one of the `workers`: with one, no other thread is ever started.
    """

    def __init__(self, workers: int = 2, cache: SignatureCache | None = None) -> None:
        self._others = max(workers, 1) - 1
        self._pool = ThreadPoolExecutor(max(self._others, 1), thread_name_prefix="verify")
        self._helpers: set[Helpers] = set()
        self.cache = cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads; a pipeline that is still open goes on without them."""
        for helpers in tuple(self._helpers):
            helpers.stop()
        self._pool.shutdown(cancel_futures=True)

    def verify(self, prepared: PreparedBlock) -> None:
        """Verify a block's signatures; raises RuleError `signature_invalid`."""
        todo = self._unknown(prepared)
        if not self._others or len(todo) < WAKE_SIGNATURES:
            self._finish(prepared, todo, failing_checks(todo))
            return
        with self._window() as window:
            window.add(prepared, todo)
            self._finish(*window.pop())

    def verify_signature(self, check: SignatureCheck) -> bool:
        """Verify one signature, or remember that it is valid."""
        if self.cache is not None and check in self.cache:
            return True
        valid = verify(*check)
        if valid and self.cache is not None:
            self.cache.add(check)
        return valid

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

        verified = self._together if self._others else self._alone
        for done in verified(prepared_blocks()):
            yield self._finish(*done)
        if fault is not None:
            raise fault

    def _alone(self, blocks: Iterable[PreparedBlock]) -> Iterator[VerifiedBlock]:
        """Verify many blocks, then give them out: what each step works with stays near to the processor."""
        gathered: list[VerifiedBlock] = []
        signatures = 0
        for prepared in blocks:
            gathered.append((prepared, self._unknown(prepared), []))
            signatures += len(prepared.checks)
            if signatures >= AHEAD_SIGNATURES:
                yield from _verified(gathered)
                gathered, signatures = [], 0
        yield from _verified(gathered)

    def _together(self, blocks: Iterable[PreparedBlock]) -> Iterator[VerifiedBlock]:
        """Give out the first of the blocks ahead and verify a little with the helpers, in turns."""
        with self._window() as window:
            for prepared in blocks:
                window.add(prepared, self._unknown(prepared))
                while window.signatures > AHEAD_SIGNATURES:
                    yield window.pop()
            while window:
                yield window.pop()

    @contextmanager
    def _window(self) -> Iterator[Window]:
        helpers = Helpers(self._pool, self._others)
        self._helpers.add(helpers)
        try:
            yield Window(helpers)
        finally:
            self._helpers.discard(helpers)
            helpers.join()

    def _unknown(self, prepared: PreparedBlock) -> list[SignatureCheck]:
        cache = self.cache
        if cache is None:
            return prepared.checks
        return [check for check in prepared.checks if check not in cache]

    def _finish(
        self, prepared: PreparedBlock, checks: list[SignatureCheck], failing: list[SignatureCheck]
    ) -> PreparedBlock:
        """Mark a block as verified; raises RuleError `signature_invalid`."""
        cache = self.cache
        if cache is not None:
            invalid = set(failing)
            for check in checks:
                if check not in invalid:
                    cache.add(check)
        for check in failing:
            prepared.failed(check)
        prepared.verified = True
        return prepared


def _verified(blocks: Iterable[VerifiedBlock]) -> Iterator[VerifiedBlock]:
    """Make the checks of all blocks, then yield them."""
    for _, checks, failing in blocks:
        failing.extend(failing_checks(checks))
    yield from blocks
