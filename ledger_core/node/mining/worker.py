"""The child process that mines: niced, within a share of one core, gone when its parent is.

It reads one JSON object a line from standard input and writes one a line to standard output:

    in   {"job": 7, "header": "<316 hex digits>", "target": "<hex>", "first": 0, "share": 0.05}
    in   {"pause": true}
    out  {"job": 7, "nonce": 123}           the job is done
    out  {"rate": 51234.0}                  hashes a second, every few seconds while it works

Standard input closed means that nobody needs it any more.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from ledger_core.records.block import HEADER_BYTES, NONCE_OFFSET
from ledger_core.rules.work import search

BURST_S = 0.02
"""Time at work between two pauses: short, so that a new job is taken up soon."""

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
    """Sizes bursts to `BURST_S` and tells how long to pause after each."""

    def __init__(self) -> None:
        self.tries = 256
        self._hashes = 0
        self._since: float | None = None

    def pause_after(self, tries: int, took_s: float, share: float) -> float:
        """Return the pause in seconds that keeps the share, and size the next burst."""
        if took_s > 0:
            self.tries = max(64, min(int(tries * BURST_S / took_s), 4 * self.tries))
        return took_s * (1 / share - 1)

    def rate(self, tries: int, now: float) -> float | None:
        """Return hashes a second over the last seconds, when it is time to report."""
        if self._since is None:
            self._since = now
        self._hashes += tries
        passed = now - self._since
        if passed < REPORT_S:
            return None
        rate = self._hashes / passed
        self._hashes, self._since = 0, now
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
    return Job(
        int(line["job"]),
        header[:NONCE_OFFSET],
        int(line["target"], 16),
        int(line.get("first", 0)),
        share,
    )


def work(lines: queue.Queue[Line], say: Callable[[dict[str, Any]], None]) -> None:
    """Search until the parent is gone."""
    job: Job | None = None
    pace = Pace()
    pause: float | None = None
    while True:
        try:
            line = lines.get(timeout=pause) if job is None or pause else lines.get_nowait()
        except queue.Empty:
            pass
        else:
            if line is None:
                return
            job = _next_job(line, say)
        if job is None:
            pause = None
            continue
        started = time.perf_counter()
        tries = pace.tries
        nonce = search(job.prefix, job.target, job.nonce, tries)
        ended = time.perf_counter()
        job.nonce += tries
        pause = pace.pause_after(tries, ended - started, job.share)
        rate = pace.rate(tries, ended)
        if rate is not None:
            say({"rate": round(rate, 1)})
        if nonce is not None:
            say({"job": job.number, "nonce": nonce})
            job = None


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
