"""Verifying the signatures of whole batches of blocks in worker threads.

libsodium runs without the GIL, so that threads verify in parallel while the rules apply the batch before.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.community import Genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import verify
from ledger_core.records.block import Block
from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.prepare import PreparedBlock, failing_checks, prepare_block

INLINE_LIMIT = 64
"""Fewer signatures than this are verified at once, without a thread."""

BATCH_SIGNATURES = 1024
"""Signatures gathered before they are handed to the workers."""


class Verifier:
    """Worker threads that verify, and the memory of what they verified."""

    def __init__(self, workers: int = 2, cache: SignatureCache | None = None) -> None:
        self._workers = max(workers, 1)
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="verify")
        self.cache = cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def verify(self, prepared: PreparedBlock) -> None:
        """Verify a block's signatures; raises RuleError `signature_invalid`."""
        for _ in self._start([prepared]).finish():
            pass

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
        """Yield blocks in order, prepared; the next batch is verified while the caller applies this one.

        Raises like `prepare_block`, and RuleError `signature_invalid`, once the blocks before the one at
        fault were yielded. `nodes` is looked at again for every batch.
        """
        ahead: _Batch | None = None
        gathered: list[PreparedBlock] = []
        signatures = 0
        fault: LedgerError | None = None
        for block in blocks:
            try:
                prepared = prepare_block(block, genesis, chain_id, nodes)
            except LedgerError as error:
                fault = error
                break
            gathered.append(prepared)
            signatures += len(prepared.checks)
            if signatures >= BATCH_SIGNATURES:
                started = self._start(gathered)
                if ahead is not None:
                    yield from ahead.finish()
                ahead, gathered, signatures = started, [], 0
        last = self._start(gathered)
        if ahead is not None:
            yield from ahead.finish()
        yield from last.finish()
        if fault is not None:
            raise fault

    def _start(self, blocks: list[PreparedBlock]) -> _Batch:
        """Hand the signatures of blocks to the workers, in equal parts."""
        cache = self.cache
        checks = [check for prepared in blocks for check in prepared.checks]
        todo = checks if cache is None else [check for check in checks if check not in cache]
        if len(todo) <= INLINE_LIMIT:
            return _Batch(blocks, todo, failing_checks(todo), [], cache)
        size = -(-len(todo) // self._workers)
        parts = [todo[start : start + size] for start in range(0, len(todo), size)]
        return _Batch(blocks, todo, [], [self._pool.submit(failing_checks, part) for part in parts], cache)


class _Batch:
    """Blocks whose signatures are being verified."""

    __slots__ = ("_blocks", "_cache", "_failing", "_futures", "_todo")

    def __init__(
        self,
        blocks: list[PreparedBlock],
        todo: list[SignatureCheck],
        failing: list[SignatureCheck],
        futures: list[Future[list[SignatureCheck]]],
        cache: SignatureCache | None,
    ) -> None:
        self._blocks = blocks
        self._todo = todo
        self._failing = failing
        self._futures = futures
        self._cache = cache

    def finish(self) -> Iterator[PreparedBlock]:
        """Wait for the workers and yield the blocks; raises at the first block with an invalid signature."""
        failing = set(self._failing)
        for future in self._futures:
            failing.update(future.result())
        if self._cache is not None:
            for check in self._todo:
                if check not in failing:
                    self._cache.add(check)
        for prepared in self._blocks:
            if failing:
                for check in failing.intersection(prepared.checks):
                    prepared.failed(check)
            prepared.verified = True
            yield prepared
