"""Signatures in small shares, each verified by whichever thread takes it first.

libsodium runs without the GIL, Python does not. A thread that applies many blocks in a row would keep the
others waiting for milliseconds, so the caller's thread applies a block, verifies a share, and so on: while it
is in libsodium, the other threads get on.
"""

from _thread import allocate_lock
from collections import deque
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import SimpleQueue

from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.prepare import PreparedBlock, failing_checks

type VerifiedBlock = tuple[PreparedBlock, list[SignatureCheck], list[SignatureCheck]]
"""A block, the checks that were made for it, and those of them that failed."""

SHARE_SIGNATURES = 16
"""A share of a large block: a thread is busy with it for about a millisecond."""

WAKE_SIGNATURES = 64
"""Fewer signatures than this are not worth waking another thread."""


class Share:
    """Some signatures of a block. A thread takes it, verifies it, and tells that it is done."""

    __slots__ = ("_done", "_taken", "checks", "failing")

    def __init__(self, checks: list[SignatureCheck]) -> None:
        self.checks = checks
        self.failing: list[SignatureCheck] | None = None
        """Those that are not valid, once all were verified."""
        self._taken = allocate_lock()
        self._done = allocate_lock()
        self._done.acquire()

    def run(self) -> bool:
        """Verify the signatures, unless a thread took them already; returns whether this one did."""
        if not self._taken.acquire(blocking=False):
            return False
        try:
            self.failing = failing_checks(self.checks)
        finally:
            self._done.release()
        return True

    @property
    def done(self) -> bool:
        """Whether the signatures were verified."""
        return not self._done.locked()

    def wait(self) -> None:
        """Wait until the thread that took the share is done."""
        with self._done:
            pass

    def verdict(self) -> list[SignatureCheck]:
        """Return the signatures that are not valid; verifies them here if the other thread failed."""
        if self.failing is None:
            self.failing = failing_checks(self.checks)
        return self.failing


def shares_of(checks: list[SignatureCheck]) -> list[Share]:
    """Part signatures into shares."""
    if len(checks) <= SHARE_SIGNATURES:
        return [Share(checks)] if checks else []
    return [
        Share(checks[start : start + SHARE_SIGNATURES]) for start in range(0, len(checks), SHARE_SIGNATURES)
    ]


def _help(queue: SimpleQueue[Share | None]) -> None:
    """Take shares until there is a None; one that can't be verified here is left to the caller."""
    for share in iter(queue.get, None):
        with suppress(Exception):
            share.run()


class Helpers:
    """Other threads that take shares from a queue, from the moment there is enough to do."""

    def __init__(self, pool: Executor, count: int) -> None:
        self._pool = pool
        self._count = count
        self._queue: SimpleQueue[Share | None] = SimpleQueue()
        self._running: list[Future[None]] = []
        self._waiting = 0
        self._stopped = False

    def put(self, share: Share) -> None:
        """Offer a share to the threads."""
        self._queue.put(share)
        if self._running or self._stopped:
            return
        self._waiting += len(share.checks)
        if self._waiting >= WAKE_SIGNATURES:
            self._running = [self._pool.submit(_help, self._queue) for _ in range(self._count)]

    def stop(self) -> None:
        """Let the threads go once they have done what was put; what is put later is left to the caller."""
        if not self._stopped:
            self._stopped = True
            for _ in self._running:
                self._queue.put(None)

    def join(self) -> None:
        """Stop, and wait until no thread is at a share any more."""
        self.stop()
        for helper in self._running:
            if not helper.cancel():
                helper.result()


class Window:
    """Blocks in order, whose shares are verified by this thread and by helpers."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers
        self._blocks: deque[tuple[PreparedBlock, list[Share]]] = deque()
        self._open: deque[Share] = deque()
        """Shares that this thread has not looked at, in order."""
        self.signatures = 0
        """Of all blocks in the window, also those that need no verifying."""

    def add(self, prepared: PreparedBlock, todo: list[SignatureCheck]) -> None:
        """Put a block at the end, with those of its checks that are to be verified."""
        shares = shares_of(todo)
        self._blocks.append((prepared, shares))
        self.signatures += len(prepared.checks)
        for share in shares:
            self._open.append(share)
            self._helpers.put(share)

    def pop(self) -> VerifiedBlock:
        """Take the first block out once its shares are done; raises IndexError from an empty window."""
        prepared, shares = self._blocks.popleft()
        self.signatures -= len(prepared.checks)
        for share in shares:
            if not share.run():
                self._await(share)
        if len(shares) == 1:
            return prepared, shares[0].checks, shares[0].verdict()
        return (
            prepared,
            [check for share in shares for check in share.checks],
            [check for share in shares for check in share.verdict()],
        )

    def __len__(self) -> int:
        return len(self._blocks)

    def _await(self, share: Share) -> None:
        """Verify what comes later while another thread is at a share."""
        waiting = self._open
        while not share.done:
            while waiting:
                if waiting.popleft().run():
                    break
            else:
                share.wait()
