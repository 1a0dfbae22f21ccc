"""The child process that mines: niced, within a share of one core, gone when its parent is.

It reads one JSON object a line from standard input and writes one a line to standard output:

    in   {"job": 7, "header": "<316 hex digits>", "target": "<hex>", "first": 0, "share": 0.05}
    in   {"pause": true}
    out  {"job": 7, "nonce": 123}           the job is done
    out  {"rate": 51234.0}                  hashes a second, every few seconds while it works; at last 0

Standard input closed means that nobody needs it any more.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from ledger_core.records.block import HEADER_BYTES, NONCE_OFFSET
from ledger_core.rules.work import NONCES, search

PIECE = 1024
"""Nonces between two looks at what the parent says: a millisecond's work, a few on a small computer."""

BURST_S = 0.02
"""Time on the core between two rests: short, so that the share holds from moment to moment."""

LONGEST_WAIT_S = 60.0
"""A wait can't be of any length, as the rest after a burst can with a tiny share; it goes on after a look."""

REPORT_S = 5.0
NICE = 19

type Line = dict[str, Any] | None


@dataclass
class Job:
    """What is searched at the moment."""

    number: int
    prefix: bytes
    """The header without its nonce."""
    target: int
    nonce: int
    share: float


class Pace:
    """Tells how long to rest after a burst, and how many hashes a second are made."""

    def __init__(self) -> None:
        self._took_s = 0.0
        self._ended = 0.0
        self._hashes = 0
        self._since: float | None = None

    def worked(self, hashes: int, took_s: float, now: float) -> None:
        """Note a burst that ends now: the hashes that were made, and the time on the core that it took."""
        self._took_s, self._ended = took_s, now
        if self._since is None:
            # When what was made until now began is not known; from here on the hashes count.
            self._since = now
        else:
            self._hashes += hashes

    def rest_s(self, share: float, now: float) -> float:
        """Return for how many seconds from now on a share allows no search, whatever the job."""
        return max(0.0, self._ended + self._took_s / share - self._took_s - now)

    def report_in(self, now: float) -> float | None:
        """Return in how many seconds a rate is due; None while nothing is searched."""
        return None if self._since is None else max(0.0, self._since + REPORT_S - now)

    def rate(self, now: float) -> float | None:
        """Return hashes a second over the last seconds, when it is time to report; 0 once after the last."""
        if self._since is None or now - self._since < REPORT_S:
            return None
        rate = self._hashes / (now - self._since)
        self._hashes = 0
        self._since = now if rate else None
        return rate


def read_lines(source: TextIO, into: queue.Queue[Line]) -> None:
    """Pass on what the parent says; None at its end."""
    for text in source:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            into.put(line)
    into.put(None)


def parse_job(line: dict[str, Any]) -> Job:
    """Return the job in a line; raises ValueError or KeyError for anything else."""
    share = float(line["share"])
    if not 0 < share <= 1:
        raise ValueError(f"a share lies above 0 and up to 1, not at {share}")
    header = bytes.fromhex(line["header"])
    if len(header) != HEADER_BYTES:
        raise ValueError(f"a header has {HEADER_BYTES} bytes, not {len(header)}")
    first = int(line.get("first", 0))
    if not 0 <= first < NONCES:
        raise ValueError(f"a nonce lies from 0 to 2^64 - 1, not at {first}")
    return Job(int(line["job"]), header[:NONCE_OFFSET], int(line["target"], 16), first, share)


def work(lines: queue.Queue[Line], say: Callable[[dict[str, Any]], None]) -> None:
    """Search until the parent is gone."""
    job: Job | None = None
    pace = Pace()
    while True:
        now = time.perf_counter()
        for line in _heard(lines, pace.report_in(now) if job is None else pace.rest_s(job.share, now)):
            if line is None:
                return
            job = _next_job(line, say)
        if job is not None:
            if pace.rest_s(job.share, time.perf_counter()) > 0:
                continue
            nonce = _search_burst(job, lines, pace)
            if nonce is not None:
                say({"job": job.number, "nonce": nonce})
            if nonce is not None or job.nonce >= NONCES:
                job = None
        rate = pace.rate(time.perf_counter())
        if rate is not None:
            say({"rate": round(rate, 1)})


def _heard(lines: queue.Queue[Line], wait_s: float | None) -> Iterator[Line]:
    """Give all that the parent has said, after waiting so long for a first line; None waits for it."""
    try:
        if wait_s == 0:
            yield lines.get_nowait()
        else:
            yield lines.get(timeout=None if wait_s is None else min(wait_s, LONGEST_WAIT_S))
        while True:
            yield lines.get_nowait()
    except queue.Empty:
        return


def _search_burst(job: Job, lines: queue.Queue[Line], pace: Pace) -> int | None:
    """Search for `BURST_S`, or until there is a nonce or a line; return the nonce that meets the target."""
    first, started, took_s = job.nonce, time.thread_time(), 0.0
    nonce: int | None = None
    while nonce is None and took_s < BURST_S and job.nonce < NONCES and lines.empty():
        nonce = search(job.prefix, job.target, job.nonce, PIECE)
        # What was found early took fewer hashes than were asked for.
        job.nonce = min(job.nonce + PIECE, NONCES) if nonce is None else nonce + 1
        took_s = time.thread_time() - started
    pace.worked(job.nonce - first, took_s, time.perf_counter())
    return nonce


def _next_job(line: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> Job | None:
    if line.get("pause"):
        return None
    try:
        return parse_job(line)
    except (ValueError, KeyError, TypeError) as error:
        say({"error": f"not a job: {error}"})
        return None


def main() -> None:
    """Mine for the parent process."""
    os.nice(NICE)
    lines: queue.Queue[Line] = queue.Queue()
    threading.Thread(target=read_lines, args=(sys.stdin, lines), daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    try:
        work(lines, say)
    except BrokenPipeError, KeyboardInterrupt:
        # The parent is gone or going; there is nobody left to tell. Standard output may not be flushed again.
        os._exit(0)


if __name__ == "__main__":
    main()
