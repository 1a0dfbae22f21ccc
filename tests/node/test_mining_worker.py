"""The mining process after many jobs: it still hears, keeps its share, and tells what it really did."""

import asyncio
import json
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from ledger_core.node.mining import worker
from ledger_core.node.mining.miner import WORKER
from ledger_core.node.mining.worker import Pace, work
from ledger_core.rules.work import NONCES

LIMIT_S = 30.0
EASY, HARD = 2**252, 1
PIECE_S = 2**-10
"""What a piece of the search takes on the clock of these tests; sums of it are exact."""

type Line = dict[str, Any]


def job(number: int, target: int = HARD, *, share: float = 0.05, first: int = 0) -> Line:
    return {"job": number, "header": "00" * 158, "target": f"{target:x}", "first": first, "share": share}


class Worker:
    """A real worker, spoken to as its parent does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def tell(self, line: Line) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    async def found(self) -> int:
        """Wait for the next job that is done; give its number."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while text := await self.process.stdout.readline():
                line = json.loads(text)
                if "nonce" in line:
                    return int(line["job"])
        raise AssertionError("the mining process ended")


@asynccontextmanager
async def running_worker() -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", WORKER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("jobs", [40, 600])
async def test_after_many_easy_jobs_it_hears_what_comes_and_its_end(jobs: int) -> None:
    async with running_worker() as miner:
        for number in range(jobs):
            miner.tell(job(number, EASY))
            assert await miner.found() == number
        miner.tell(job(jobs))
        miner.tell({"pause": True})
        miner.tell(job(jobs + 1, EASY))
        assert await miner.found() == jobs + 1
        miner.tell(job(jobs + 2))
        assert miner.process.stdin is not None
        miner.process.stdin.close()
        async with asyncio.timeout(LIMIT_S):
            assert await miner.process.wait() == 0


def test_the_rate_counts_the_hashes_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "REPORT_S", 0.05)
    lines: queue.Queue[Line | None] = queue.Queue()
    numbers = count()
    made = 0
    rates: list[float] = []

    def say(line: Line) -> None:
        nonlocal made
        if "nonce" in line:
            made += line["nonce"] + 1
            lines.put(job(next(numbers), EASY, share=1.0))
        elif "rate" in line:
            rates.append(line["rate"])
            # None of a window's time is shorter than this, and no hash is in two of them.
            assert sum(rates) * worker.REPORT_S <= made + len(rates)
            if len(rates) == 3:
                lines.put(None)

    lines.put(job(next(numbers), EASY, share=1.0))
    work(lines, say)
    assert len(rates) == 3
    assert all(rates)


class Clock:
    """Time that passes only in `search`, so much for each piece, and in waiting."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.worked

    def work(self) -> None:
        self.now += PIECE_S
        self.worked += PIECE_S


class Timetable(queue.Queue[Line | None]):
    """Lines that come at their times; at the end of the last one's the parent is gone."""

    def __init__(self, clock: Clock, lines: list[tuple[float, Line | None]]) -> None:
        super().__init__()
        self._clock = clock
        self._lines = lines

    def empty(self) -> bool:
        return self._lines[0][0] > self._clock.now

    def get(self, block: bool = True, timeout: float | None = None) -> Line | None:
        assert timeout is None or 0 <= timeout <= threading.TIMEOUT_MAX
        due = self._lines[0][0]
        wait = (timeout if timeout is not None else float("inf")) if block else 0.0
        if due > self._clock.now + wait:
            self._clock.now += wait
            raise queue.Empty
        self._clock.now = max(self._clock.now, due)
        return self._lines.pop(0)[1]


type Search = Callable[[bytes, int, int, int], int | None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    return clock


def searching(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, find: int | None = None
) -> list[tuple[int, int]]:
    """Search without hashing; gives the list of first nonces and tries that grows with every piece."""
    pieces: list[tuple[int, int]] = []

    def search(_header: bytes, target: int, first: int, tries: int) -> int | None:
        pieces.append((first, tries))
        clock.work()
        return find if target == EASY else None

    monkeypatch.setattr(worker, "search", search)
    return pieces


def test_it_looks_at_what_its_parent_says_after_every_piece(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    pieces = searching(monkeypatch, clock)
    start = clock.now
    work(
        Timetable(clock, [(start, job(1, share=1.0)), (start + 3.5, {"pause": True}), (start + 9, None)]),
        print,
    )
    assert len(pieces) == 3.5 / PIECE_S
    assert {tries for _first, tries in pieces} == {worker.PIECE}
    assert [first for first, _tries in pieces] == [worker.PIECE * place for place in range(len(pieces))]


def test_the_newest_of_many_lines_counts(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    pieces = searching(monkeypatch, clock, find=7)
    said: list[Line] = []
    lines: list[tuple[float, Line | None]] = [(clock.now, job(number, EASY)) for number in range(50)]
    work(Timetable(clock, [*lines, (clock.now + 1, None)]), said.append)
    assert [line for line in said if "nonce" in line] == [{"job": 49, "nonce": 7}]
    assert len(pieces) == 1


@pytest.mark.parametrize("target", [HARD, EASY])
def test_new_jobs_do_not_cut_the_rest_short(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, target: int
) -> None:
    searching(monkeypatch, clock, find=7)
    lines: list[tuple[float, Line | None]] = [
        (clock.now + 0.007 * number, job(number, target)) for number in range(2000)
    ]
    work(Timetable(clock, [*lines, (clock.now + 14, None)]), lambda _line: None)
    assert 0.04 * 14 < clock.worked <= 0.05 * 14 + worker.BURST_S + 0.002


def test_a_greater_share_holds_at_once(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    searching(monkeypatch, clock)
    start = clock.now
    work(
        Timetable(clock, [(start, job(1, share=1e-4)), (start + 1, job(1, share=1.0)), (start + 2, None)]),
        lambda _line: None,
    )
    assert clock.worked == pytest.approx(1.0, abs=0.05)


def test_the_smallest_share_can_be_waited_for(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    searching(monkeypatch, clock)
    day = 86_400.0
    work(Timetable(clock, [(clock.now, job(1, share=5e-324)), (clock.now + day, None)]), lambda _line: None)
    assert clock.worked <= worker.BURST_S + 0.002


def test_the_rate_falls_to_nothing_when_there_is_nothing_to_search(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    searching(monkeypatch, clock)
    said: list[Line] = []
    start = clock.now
    work(
        Timetable(clock, [(start, job(1, share=1.0)), (start + 12, {"pause": True}), (start + 99, None)]),
        said.append,
    )
    full = worker.PIECE / PIECE_S
    assert [line["rate"] for line in said] == [full, full, pytest.approx(0.4 * full, rel=0.05), 0]


def test_nonces_end(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    pieces = searching(monkeypatch, clock)
    said: list[Line] = []
    start = clock.now
    lines: list[tuple[float, Line | None]] = [
        (start, job(1, first=NONCES)),
        (start, job(2, first=-1)),
        (start + 1, job(3, first=NONCES - worker.PIECE - 5)),
        (start + 9, None),
    ]
    work(Timetable(clock, lines), said.append)
    assert ["nonce" in line["error"] for line in said if "error" in line] == [True, True]
    assert len(pieces) == 2


def test_the_pace_keeps_the_share_and_reports_the_rate() -> None:
    pace = Pace()
    assert pace.rest_s(0.05, 1.0) == 0
    assert pace.report_in(1.0) is None
    pace.worked(256, 0.01, 10.0)
    assert pace.rest_s(0.05, 10.0) == pytest.approx(0.19)
    assert pace.rest_s(0.05, 10.1) == pytest.approx(0.09)
    assert pace.rest_s(0.5, 10.1) == 0
    # What came before is of no known time; from here on the hashes count.
    assert pace.rate(14.9) is None
    assert pace.report_in(14.9) == pytest.approx(0.1)
    pace.worked(1000, 0.04, 15.0)
    assert pace.rate(15.0) == pytest.approx(200)
    pace.worked(500, 0.04, 25.0)
    assert pace.rate(25.0) == pytest.approx(50)
    assert pace.rate(30.0) == 0
    assert pace.rate(35.0) is None
