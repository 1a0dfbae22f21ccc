"""Ending tasks that run on until they are cancelled."""

import asyncio
from typing import Any


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they have tidied up; None stands for one that does not run.

    Whatever they end with is not raised here, but the caller's own cancellation is: awaiting a cancelled task
    itself could not tell the two apart.
    """
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
