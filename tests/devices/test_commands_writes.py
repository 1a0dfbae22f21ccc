"""Writes of a command that can't be worked out, or whose effect can't be seen."""

import pytest

from custom_components.energy_ledger.devices.commands import CommandState
from custom_components.energy_ledger.devices.errors import CommandRefused, DeviceError
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.writes import StepWriter
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.test_commands import FLAGS, MODE, Bench, bench

__all__ = ["bench"]

RATED, BLOCK = 3, 30
ILLEGAL_ADDRESS, ACKNOWLEDGE = 2, 5


def unreadable(address: int, code: int) -> Fault:
    return Fault(FaultKind.EXCEPTION, code=code, functions=(3,), first=address, last=address)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_block_without_an_answer_is_not_written_once_more(bench: Bench, applied: bool) -> None:
    """Nothing tells whether it took effect, and it may be no setting that can be written twice."""
    fault = Fault(FaultKind.DROP, functions=(16,), first=BLOCK, last=BLOCK, count=1, applied=applied)
    bench.server.inject(fault)
    with pytest.raises(DeviceError):
        await bench.commander.start(bench.order(CommandName.LIMIT_EXPORT, 1000))
    assert [words[0] for words in bench.written(BLOCK)].count(1) == applied
    assert bench.state is not CommandState.IN_FORCE


async def test_bits_of_a_register_that_can_not_be_read_are_not_changed(bench: Bench) -> None:
    bench.server.inject(unreadable(FLAGS, ILLEGAL_ADDRESS))
    with pytest.raises(CommandRefused, match="flags has no value to change bits of"):
        await bench.commander.start(bench.order(CommandName.DISCHARGE))
    assert bench.written(MODE) in ([], [(0,)])
    assert bench.state is CommandState.IDLE


async def test_what_can_not_be_saved_now_is_not_changed(bench: Bench) -> None:
    bench.server.inject(unreadable(MODE, ACKNOWLEDGE))
    with pytest.raises(DeviceError, match="still working on it"):
        await bench.commander.start(bench.order())
    assert bench.unit.writes == []


async def test_a_share_of_a_rating_that_is_not_told(bench: Bench) -> None:
    bench.server.inject(unreadable(RATED, ILLEGAL_ADDRESS))
    with pytest.raises(DeviceError, match="refused function 3 at 3: illegal data address"):
        await bench.commander.start(bench.order(CommandName.DISCHARGE))
    assert bench.unit.writes == []


async def test_only_settings_are_written(bench: Bench) -> None:
    with pytest.raises(CommandRefused, match="no register for soc that can be written"):
        StepWriter(bench.device).setting("soc")
