"""What every test shares: sockets on loopback, and an integration that Home Assistant finds."""

import asyncio.constants
import os
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import pytest_socket

# Imported before any `hass` fixture: the test harness brings an empty package of the same name, and Home
# Assistant would keep looking for integrations in that one.
import custom_components

_ = custom_components


LONGEST = ("tests/release/", "tests/ha_real/", "tests/node/test_node_", "tests/node/test_cli_document")
"""Tests that mostly wait for processes of their own: begun first, they end beside the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests at the beginning of each worker's share; the order is otherwise as collected."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    early = [item for place in LONGEST for item in items if item.nodeid.startswith(place)]
    known = {item.nodeid for item in early}
    later = [item for item in items if item.nodeid not in known]
    size = -(-len(items) // workers)
    items.clear()
    for number in range(workers):
        share = early[number::workers]
        items += share + later[: size - len(share)]
        del later[: size - len(share)]
    items += later


@pytest.fixture(scope="session", autouse=True)
def _short_origins() -> Iterator[None]:
    """Bound the stack that asyncio's debug mode, which the harness turns on, keeps of each future and task.

    Only some of it is bounded by itself; the rest walks through some ninety frames, most of them pytest's,
    and took a third of the processor time of tests with a Home Assistant.
    """
    extract = traceback.StackSummary.extract

    def bounded(
        frames: Iterator[tuple[FrameType, int]], *, limit: int | None = None, **how: Any
    ) -> traceback.StackSummary:
        return extract(frames, limit=asyncio.constants.DEBUG_STACK_DEPTH if limit is None else limit, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traceback.StackSummary, "extract", staticmethod(bounded))
        yield


@pytest.fixture(autouse=True)
def _sockets_on_loopback(request: pytest.FixtureRequest) -> None:
    """Open sockets to the tests, which the harness blocks; the only host to reach is this one."""
    request.getfixturevalue("socket_enabled")
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def _find_custom_integrations(request: pytest.FixtureRequest) -> None:
    """Let Home Assistant find `custom_components/`, in tests that use it and in no others."""
    if "recorder_db_url" in request.fixturenames:
        # The recorder's database must be there before `hass`, which the next line starts.
        request.getfixturevalue("recorder_db_url")
    if "hass" in request.fixturenames:
        request.getfixturevalue("enable_custom_integrations")
