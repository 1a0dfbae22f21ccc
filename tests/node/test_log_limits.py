"""What strangers send does not fill the log: one line, and seldom; by unit and on a real node's ports."""

import asyncio
import errno
import logging
from pathlib import Path

import pytest
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import BadStatusLine

from ledger_core.node.log_limits import EVERY_S, CallersFilter
from ledger_core.node.process import start_log
from tests.node.processes import PATIENCE_S, QUICK, street

MALFORMED = [
    b"\x16\x03\x01\n\n\r\n\r\n",
    b"GET /peer HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
    b"GET /peer HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
]


def record(error: BaseException | None, message: str = "Error handling request from %s") -> logging.LogRecord:
    """What aiohttp logs of a request, with its traceback."""
    args: tuple[str, ...] = ("10.0.0.7",) if "%" in message else ()
    told = logging.LogRecord("aiohttp.server", logging.ERROR, __file__, 1, message, args, None)
    if error is not None:
        with pytest.raises(type(error)):
            raise error
        told.exc_info = type(error), error, error.__traceback__
    return told


class Clock:
    """A clock that stands."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(filter_: CallersFilter, each: logging.LogRecord) -> str | None:
    """The text that comes through a filter, if any does."""
    passed = filter_.filter(each)
    return (
        logging.Formatter("%(levelname)s %(message)s").format(passed)
        if isinstance(passed, logging.LogRecord)
        else None
    )


def test_a_callers_fault_is_one_line_and_tells_how_many_more_there_were() -> None:
    clock = Clock()
    filter_ = CallersFilter(clock)
    line = "WARNING a malformed request was refused: Error handling request from 10.0.0.7 (BadStatusLine)"
    assert told(filter_, record(BadStatusLine("x\n  ^"))) == line
    for number in range(199):
        error: HttpProcessingError = BadStatusLine("x") if number % 2 else HttpProcessingError(message="y")
        assert told(filter_, record(error)) is None
    clock.now = EVERY_S
    assert told(filter_, record(BadStatusLine("x"))) == line + "; 199 like it since the last line"
    clock.now = 2 * EVERY_S
    assert told(filter_, record(BadStatusLine("x"))) == line


def test_a_mistake_of_the_program_keeps_its_traceback_once_in_a_while() -> None:
    clock = Clock()
    filter_ = CallersFilter(clock)
    for error in (KeyError("a"), ValueError("b")):
        text = told(filter_, record(error))
        assert text is not None
        assert text.startswith("ERROR Error handling request from 10.0.0.7\nTraceback")
        assert told(filter_, record(type(error)("again"))) is None
    assert told(filter_, record(BadStatusLine("x"))) is not None
    clock.now = EVERY_S
    text = told(filter_, record(KeyError("a")))
    assert text is not None
    assert text.startswith(
        "ERROR Error handling request from 10.0.0.7; 1 like it since the last line\nTraceback"
    )


def test_too_many_open_files_are_one_line_with_a_remedy() -> None:
    filter_ = CallersFilter(Clock())
    lack = record(OSError(errno.EMFILE, "Too many open files"), "socket.accept() out of system resource")
    text = told(filter_, lack)
    assert text is not None
    assert "\n" not in text
    assert "ulimit -n" in text
    assert told(filter_, lack) is None


def test_what_has_no_error_passes_as_it_is() -> None:
    plain = record(None, "nothing is wrong")
    filter_ = CallersFilter(Clock())
    assert [filter_.filter(plain), filter_.filter(plain)] == [plain, plain]


def test_starting_the_log_twice_filters_once() -> None:
    root, ours = logging.getLogger(), logging.getLogger("ledger_core")
    before = root.handlers[:], root.level, ours.level
    loggers = [logging.getLogger(name) for name in ("aiohttp.server", "asyncio")]
    filters = [each.filters[:] for each in loggers]
    try:
        for _ in range(2):
            start_log("info")
        assert [len(each.filters) for each in loggers] == [len(each) + 1 for each in filters]
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        for each, those in zip(loggers, filters, strict=True):
            each.filters[:] = those


@pytest.mark.parametrize("place", ["peer", "api"])
async def test_malformed_requests_cost_a_nodes_log_one_line(tmp_path: Path, place: str) -> None:
    async with street(tmp_path, 1, QUICK) as homes:
        node = homes[0].node
        port = node.port if place == "peer" else int(node.ready["api"].rsplit(":", 1)[1])
        for number in range(60):
            await send(port, MALFORMED[number % len(MALFORMED)])
        # Asked after them, it has dealt with them.
        await node.status()
        await node.stop()
        assert "Traceback" not in node.log
        assert len([line for line in node.log.splitlines() if "malformed request" in line]) == 1


async def send(port: int, data: bytes) -> None:
    """Send bytes to a port, and wait until it hangs up."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
