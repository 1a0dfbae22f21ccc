"""The node in the test's own process: what happens when one of its parts fails."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zeroconf

from ledger_core.client import NodeClient
from ledger_core.client.local import Founding, found, local_api
from ledger_core.community import parameters_as_dict
from ledger_core.errors import ChainError, LedgerError
from ledger_core.node import lan_search, upkeep
from ledger_core.node import node as node_module
from ledger_core.node import process as process_module
from ledger_core.node.config import Settings
from ledger_core.node.data_directory import GENESIS, DataDirectory
from ledger_core.node.node import Node, _in_time
from ledger_core.node.peers import PeerError
from ledger_core.node.trouble import DiskTrouble
from tests.node.peer_world import eventually
from tests.node.processes import QUICK, seeded


@asynccontextmanager
async def running(
    directory: Path, failures: list[BaseException] | None = None, **settings: Any
) -> AsyncIterator[Node]:
    founding = Founding(name="S", currency="EUR", founder_name="F", parameters=parameters_as_dict(QUICK))
    if not DataDirectory(directory).file(GENESIS).exists():
        found(directory, founding, seeded("founder").public_key, int(time.time()) - 2)
    wanted: dict[str, Any] = {
        "peer_host": "127.0.0.1",
        "peer_port": 0,
        "mining": False,
        "discovery": False,
        **settings,
    }
    failed = [] if failures is None else failures
    node = Node(DataDirectory(directory), Settings(**wanted), failed=failed.append)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


async def status(directory: Path) -> Any:
    api = local_api(directory)
    async with NodeClient(api.url, api.token) as client:
        return await client.status()


async def test_a_damaged_store_ends_the_node_a_full_disk_does_not(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    async with running(tmp_path, failures) as node:
        node._in_trouble(ChainError("disk_full", "no room"))
        assert (await status(tmp_path)).disk_trouble == "disk_full: no room"
        assert failures == []
        damage = ChainError("store_damaged", "chain.db is damaged; run chain rebuild")
        node._in_trouble(damage)
        assert failures == [damage]


async def test_a_part_that_fails_by_mistake_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_thread: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(upkeep, "tell_progress", broken)
    failures: list[BaseException] = []
    async with running(tmp_path, failures):
        await eventually(lambda: failures)
    failure = process_module._as_failure(failures[0])
    assert isinstance(failure, LedgerError)
    assert failure.code == "internal_error"
    assert "ZeroDivisionError: a mistake" in failure.message
    known = OSError(5, "broken")
    assert process_module._as_failure(known) is known


async def test_the_end_goes_on_when_one_part_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as node:
        close = node._manager.close

        async def broken() -> None:
            await close()
            raise ZeroDivisionError("a mistake")

        node._endings = [(name, broken if name == "peers" else end) for name, end in node._endings]
    assert "peers did not end as it should" in caplog.text
    # The lock is free again.
    async with running(tmp_path):
        pass


async def test_a_hurry_cuts_off_what_does_not_end() -> None:
    hurry = asyncio.Event()
    hurry.set()
    await _in_time(asyncio.Event().wait(), hurry)  # type: ignore[arg-type]


async def test_an_address_that_can_not_be_told_is_trouble_only(tmp_path: Path) -> None:
    (tmp_path / "api-address").mkdir(parents=True)
    (tmp_path / "api-address" / "x").touch()
    async with running(tmp_path) as node:
        assert node._disk.reason is not None


async def test_an_address_is_told_as_soon_as_the_disk_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was started on a full disk is found by commands once there is room."""
    monkeypatch.setattr(node_module, "DiskTrouble", partial(DiskTrouble, probe_every_s=0.01))
    in_the_way = tmp_path / "api-address"
    in_the_way.mkdir()
    (in_the_way / "x").touch()
    async with running(tmp_path) as node:
        assert node._disk.reason is not None
        (in_the_way / "x").unlink()
        in_the_way.rmdir()
        node._in_trouble(OSError(28, "No space left on device"))
        await eventually(in_the_way.exists)
        assert (await status(tmp_path)).disk_trouble is None


async def test_an_address_of_the_time_before_is_gone_where_no_other_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_directory: DataDirectory, _url: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "api-address").write_text("http://127.0.0.1:1\n")
    monkeypatch.setattr(DataDirectory, "tell_api_address", full)
    async with running(tmp_path):
        assert not (tmp_path / "api-address").exists()


async def test_an_address_that_stays_untold_is_no_trouble_with_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_module, "DiskTrouble", partial(DiskTrouble, probe_every_s=0.01))
    (tmp_path / "api-address").mkdir(parents=True)
    (tmp_path / "api-address" / "x").touch()
    async with running(tmp_path) as node:
        await eventually(lambda: node._disk.reason is None)
        assert f"find this node by --url {node._api.url}" in caplog.text


async def test_a_damaged_address_of_the_invitation_keeps_no_node_from_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bootstrap").write_text("foo\n127.0.0.1:9\n")
    async with running(tmp_path) as node:
        await eventually(node._dials)
        assert [each.location for each in node._dials()] == ["ws://127.0.0.1:9/peer"]
    assert "bootstrap, line 1, is passed over: 'foo'" in caplog.text


async def test_a_host_that_is_not_this_computers_is_named(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="peer_host") as refusal:
        async with running(tmp_path, peer_host="203.0.113.77"):
            pass
    assert refusal.value.code == "peer_host_unusable"


class Responder:
    """Stands in for zeroconf: counts."""

    made: list[Responder]

    def __init__(self, **_: object) -> None:
        self.closed = False
        self.made.append(self)

    async def async_close(self) -> None:
        self.closed = True


class Search:
    """Stands in for the search itself."""

    started: list[tuple[int, list[str]]]
    error: Exception | None = None

    def __init__(self, _responder: Responder, *, chain_id: bytes, node_key: bytes, on_found: object) -> None:
        assert len(chain_id) == len(node_key) == 32

    async def start(self, port: int, addresses: list[str]) -> None:
        self.started.append((port, addresses))
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [None, zeroconf.NonUniqueNameException("taken"), OSError("no multicast")])
async def test_the_local_network_is_searched_where_it_can_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
) -> None:
    monkeypatch.setattr(Responder, "made", [], raising=False)
    monkeypatch.setattr(Search, "started", [], raising=False)
    monkeypatch.setattr(Search, "error", error)
    monkeypatch.setattr(lan_search, "AsyncZeroconf", Responder)
    monkeypatch.setattr(lan_search, "Discovery", Search)
    failures: list[BaseException] = []
    async with running(tmp_path, failures, discovery=True) as node:
        await eventually(lambda: Search.started)
        assert Search.started == [(node._manager.port, [])]
        if error is not None:
            await eventually(lambda: str(error) in caplog.text)
    await eventually(lambda: Responder.made[0].closed)
    assert failures == []


async def test_without_a_network_the_search_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unusable(**_: object) -> None:
        raise OSError("no interface")

    monkeypatch.setattr(lan_search, "AsyncZeroconf", unusable)
    async with running(tmp_path, discovery=True):
        await eventually(lambda: "no interface" in caplog.text)


async def test_old_bodies_are_looked_after_where_that_is_wanted(tmp_path: Path) -> None:
    async with running(tmp_path, prune_days=1) as node:
        assert any(task.get_name() == "node pruning" for task in node._tasks)
