"""What one poll learns of refusals, and what it leaves alone when a device is out of order as a whole."""

from collections.abc import Sequence

from custom_components.energy_ledger.devices.blockreader import BlockReader, Outcome
from custom_components.energy_ledger.devices.errors import (
    DeviceError,
    ExceptionReply,
    LinkClosed,
    LinkTimeout,
)
from custom_components.energy_ledger.devices.planner import Limits, ReadBook
from custom_components.energy_ledger.devices.profile.model import Function, RegisterPoint, ValueType

ILLEGAL_ADDRESS, ACKNOWLEDGE = 2, 5


def point(address: int, **more: object) -> RegisterPoint:
    fields = {"name": f"p{address}", "function": Function.READ_HOLDING, "address": address}
    return RegisterPoint(**{**fields, "type": ValueType.U16, "length": 1, **more})  # type: ignore[arg-type]


POINTS = [point(address) for address in range(4)]


class Unit:
    """A unit whose registers hold their addresses; `codes`: refused registers, `errors`: other faults."""

    unit_id = 1
    name = "the test's unit"

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.errors: dict[tuple[int, int], DeviceError] = {}
        """By address and count of the request."""
        self.asked: list[tuple[int, int]] = []

    async def read(self, function: int, address: int, count: int) -> list[int]:
        self.asked.append((address, count))
        if (address, count) in self.errors:
            raise self.errors[address, count]
        for register in range(address, address + count):
            if register in self.codes:
                raise ExceptionReply(self.name, function, address, count, self.codes[register])
        return list(range(address, address + count))

    async def write(self, function: int, address: int, values: Sequence[int]) -> None:
        raise AssertionError(f"{values} written at {address}: a reader writes nothing")


class Bench:
    """A reader of one unit."""

    def __init__(self, points: Sequence[RegisterPoint] = POINTS, limits: Limits | None = None) -> None:
        self.unit, self.points = Unit(), points
        self.reader = BlockReader({"": self.unit}, ReadBook(limits or Limits(max_registers=10, max_gap=3)))

    async def poll(self) -> Outcome:
        self.unit.asked.clear()
        return await self.reader.read(self.points)


async def test_a_device_that_refuses_all_that_it_answered_before_is_not_taken_apart() -> None:
    bench = Bench()
    await bench.poll()
    bench.unit.codes = dict.fromkeys(range(4), ILLEGAL_ADDRESS)
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4)]
    assert "illegal data address" in str(outcome.error)
    bench.unit.codes = {}
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4)]
    assert outcome.of(POINTS[0]) == {0: 0, 1: 1, 2: 2, 3: 3}


async def test_a_new_device_that_refuses_all_is_told_once_and_asked_whole_again() -> None:
    bench = Bench()
    bench.unit.codes = dict.fromkeys(range(4), ILLEGAL_ADDRESS)
    outcome = await bench.poll()
    # Every register was tried on its own, in case that one of them were to blame.
    assert {(address, 1) for address in range(4)} <= set(bench.unit.asked)
    assert [(reply.address, reply.count) for reply in outcome.refused] == [(0, 4)]
    bench.unit.codes = {}
    await bench.poll()
    assert bench.unit.asked == [(0, 4)]


async def test_a_device_that_can_not_answer_now_is_not_taken_apart() -> None:
    bench = Bench()
    bench.unit.codes = {2: ACKNOWLEDGE}
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4)]
    assert "still working on it" in str(outcome.error)


async def test_a_link_that_closes_ends_the_search_for_the_register_to_blame() -> None:
    bench = Bench()
    bench.unit.codes = {3: ILLEGAL_ADDRESS}
    bench.unit.errors = {(0, 2): LinkClosed("the link was closed")}
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4), (0, 2)]
    assert str(outcome.error) == "the link was closed"
    bench.unit.errors = {}
    await bench.poll()
    assert bench.unit.asked[:2] == [(0, 4), (0, 2)]


async def test_silence_within_a_refused_half_ends_the_search_too() -> None:
    bench = Bench()
    bench.unit.codes = {1: ILLEGAL_ADDRESS}
    bench.unit.errors = {(0, 1): LinkTimeout("no answer")}
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4), (0, 2), (0, 1)]
    assert str(outcome.error) == "no answer"


async def test_two_refused_blocks_of_a_link_that_closes() -> None:
    bench = Bench([point(0), point(1), point(20), point(21)])
    bench.unit.codes = {1: ILLEGAL_ADDRESS, 21: ILLEGAL_ADDRESS}
    bench.unit.errors = {(0, 1): LinkClosed("the link was closed")}
    await bench.poll()
    assert bench.unit.asked == [(0, 2), (20, 2), (0, 1)]


async def test_silence_while_the_parts_of_a_point_are_tried() -> None:
    """A value and its scale lie apart; what is between them is refused, and then nothing answers."""
    bench = Bench([point(0, scale_register=3)])
    bench.unit.codes = {1: ILLEGAL_ADDRESS}
    bench.unit.errors = {(0, 1): LinkTimeout("no answer")}
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4), (0, 1)]
    assert str(outcome.error) == "no answer"
    bench.unit.errors = {}
    outcome = await bench.poll()
    assert bench.unit.asked == [(0, 4), (0, 1), (3, 1)]
    assert outcome.of(bench.points[0]) == {0: 0, 3: 3}
