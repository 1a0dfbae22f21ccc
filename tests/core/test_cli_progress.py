"""Progress on standard error: on a terminal a line drawn again, elsewhere a line now and then."""

import io

import pytest

from ledger_core.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_short_work_shows_nothing(clock: Clock) -> None:
    for stream in (Terminal(), io.StringIO()):
        with Progress("counting", 10, stream=stream, clock=clock) as progress:
            for _ in range(10):
                progress.advance()
        assert stream.getvalue() == ""
        assert progress.done == 10


def test_a_terminal_sees_one_line_that_vanishes_at_the_end(clock: Clock) -> None:
    stream = Terminal()
    with Progress("verifying blocks", 5000, stream=stream, clock=clock) as progress:
        clock.now += 2
        progress.update(1000)
        first = "verifying blocks  1000/5000  20 %  500/s  8 s left"
        assert stream.getvalue() == f"\r{first}"
        clock.now += 0.05
        progress.advance(1)
        assert stream.getvalue() == f"\r{first}"
        clock.now += 7.95
        progress.update(5000)
        second = "verifying blocks  5000/5000  100 %  500/s  0 s left"
        assert stream.getvalue() == f"\r{first}\r{second}"
    assert stream.getvalue().endswith("\r" + " " * len(second) + "\r")


def test_a_shorter_line_covers_the_longer_one_before(clock: Clock) -> None:
    stream = Terminal()
    with Progress("counting", stream=stream, clock=clock) as progress:
        clock.now += 1
        progress.update(1_000_000)
        clock.now += 1_000_000
        progress.update(1_000_000)
        long, short = stream.getvalue().split("\r")[1:]
    assert short.rstrip() == "counting  1000000  1.0/s"
    assert len(short) == len(long)


def test_a_log_gets_a_line_every_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("replaying blocks", 100, stream=stream, clock=clock) as progress:
        for _ in range(50):
            clock.now += 0.5
            progress.advance()
    assert stream.getvalue().splitlines() == [
        "replaying blocks  20/100  20 %  2.0/s  40 s left",
        "replaying blocks  40/100  40 %  2.0/s  30 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "left"), [(3, "1 min 39 s left"), (120, "1 h 6 min left"), (0.3, "10 s left")]
)
def test_the_time_left_is_told_in_fitting_units(clock: Clock, seconds: float, left: str) -> None:
    stream = Terminal()
    with Progress("counting", 34, stream=stream, clock=clock) as progress:
        clock.now += seconds
        progress.update(1)
        assert stream.getvalue().endswith(left)


def test_work_of_unknown_size_and_work_not_begun(clock: Clock) -> None:
    stream = Terminal()
    with Progress("waiting", 0, stream=stream, clock=clock) as progress:
        clock.now += 1
        progress.update(0)
    assert "waiting  0/0  0.0/s" in stream.getvalue()


def test_standard_error_is_the_place(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Progress("counting", clock=clock) as progress:
        clock.now += 11
        progress.advance(22)
    assert capsys.readouterr() == ("", "counting  22  2.0/s\n")
