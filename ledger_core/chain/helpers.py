"""Threads that verify signatures beside the calling one.

libsodium works without the GIL, but Python takes it back after every signature: a thread that verifies while
another one applies blocks would wait and be woken thousands of times a second. So a helper hands a long batch
to a Python interpreter of its own, which has its own GIL.
"""

import threading
from collections.abc import Sequence
from concurrent import interpreters
from concurrent.futures import Future, ThreadPoolExecutor

from ledger_core.keys import CRYPTO_OPEN_ADDRESS
from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.prepare import failing_checks

type Verdict = Future[list[SignatureCheck]]
"""Those of some signatures that are not valid."""


class Helpers:
    """Some threads, and an interpreter for each from its first batch on."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(max(count, 1), thread_name_prefix="verify")
        self._idle: list[interpreters.Interpreter] = []
        self._lock = threading.Lock()
        """Held while an interpreter is taken, given back or closed."""
        self._closed = False

    def close(self) -> None:
        """Stop the threads; what they have not begun is cancelled."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        self.rest()

    def rest(self) -> None:
        """Give back the memory of interpreters that are not at work; the next batch makes one again."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def failing(self, checks: list[SignatureCheck]) -> list[SignatureCheck]:
        """Verify some signatures at once: this thread a part, each of the others another."""
        if self._closed:
            return failing_checks(checks)
        size = -(-len(checks) // (self.count + 1))
        parts = [checks[start : start + size] for start in range(size, len(checks), size)]
        given = [self._pool.submit(failing_checks, part) for part in parts]
        failing = failing_checks(checks[:size])
        for part, verdict in zip(parts, given, strict=True):
            failing += verdict_of(part, verdict)
        return failing

    def failing_apart(self, batch: Sequence[SignatureCheck]) -> list[SignatureCheck]:
        """Verify a batch in the calling thread, in an interpreter of its own where there can be one."""
        if self._closed or CRYPTO_OPEN_ADDRESS is None or not batch:
            return failing_checks(batch)
        try:
            return self._verify_apart(batch, CRYPTO_OPEN_ADDRESS)
        except interpreters.InterpreterError:
            return failing_checks(batch)

    def give(self, batch: Sequence[SignatureCheck]) -> Verdict | None:
        """Have a helper verify a batch in its interpreter; None where none can."""
        if self._closed or CRYPTO_OPEN_ADDRESS is None:
            return None
        return self._pool.submit(self._verify_apart, batch, CRYPTO_OPEN_ADDRESS)

    def _verify_apart(self, batch: Sequence[SignatureCheck], crypto_open: int) -> list[SignatureCheck]:
        with self._lock:
            interpreter = self._idle.pop() if self._idle else interpreters.create()
        try:
            places = interpreter.call(failing_places, crypto_open, tuple(batch))
        finally:
            with self._lock:
                if self._closed:
                    interpreter.close()
                else:
                    self._idle.append(interpreter)
        return [batch[place] for place in places]


def verdict_of(checks: Sequence[SignatureCheck], given: Verdict) -> list[SignatureCheck]:
    """Return what a helper found; verifies here what it has not begun or failed at."""
    if given.cancel() or given.exception() is not None:
        return failing_checks(checks)
    return given.result()


def failing_places(crypto_open: int, checks: Sequence[SignatureCheck]) -> tuple[int, ...]:
    """Return the places of the signatures that are not valid, as `keys.verify` judges them.

    Runs in interpreters that can load neither PyNaCl nor this module. So it is given the address of
    libsodium's function, and uses no global name: its code alone is sent there.
    """
    import ctypes  # noqa: PLC0415

    pointer, octets = ctypes.c_void_p, ctypes.c_char_p
    function = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, octets, ctypes.c_ulonglong, octets)
    opens = function(crypto_open)
    return tuple(
        [
            place
            for place, (key, message, signature) in enumerate(checks)
            if len(key) != 32
            or len(signature) != 64
            or opens(None, None, signature + message, 64 + len(message), key) != 0
        ]
    )
