"""Ending tasks: they are waited for, and their ends are theirs."""

import asyncio

import pytest

from custom_components.energy_ledger.devices.tasks import end_tasks


async def test_tasks_are_ended_with_what_they_do_at_their_end() -> None:
    tidied: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(name)

    tasks = [asyncio.create_task(work(name)) for name in ("one", "two")]
    await asyncio.sleep(0)
    await end_tasks(None, *tasks)
    assert sorted(tidied) == ["one", "two"]
    assert all(task.cancelled() for task in tasks)


async def test_without_a_task_nothing_is_waited_for() -> None:
    await end_tasks()
    await end_tasks(None)


async def test_a_failure_of_a_task_is_not_the_callers() -> None:
    async def fail() -> None:
        raise OSError("broken")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert isinstance(task.exception(), OSError)


async def test_who_is_cancelled_while_waiting_is_told() -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end_tasks(task))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert not task.done()
    let_go.set()
    await end_tasks(task)
    assert task.done()
