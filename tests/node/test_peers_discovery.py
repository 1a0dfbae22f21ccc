"""Nodes that find each other by zeroconf, over multicast on loopback."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from ledger_core.keys import address
from ledger_core.node.peers import SERVICE_TYPE, Discovery, PeerLocation, parse_location
from ledger_core.node.peers.discovery import read_service
from tests.node.peer_world import CHAIN_ID, eventually, linked, running, seeded


class Finder:
    """Writes down what is found."""

    def __init__(self) -> None:
        self.found: dict[bytes, Sequence[PeerLocation]] = {}

    def __call__(self, key: bytes, locations: Sequence[PeerLocation]) -> None:
        self.found[key] = locations


@asynccontextmanager
async def on_the_lan() -> AsyncIterator[AsyncZeroconf]:
    """Give a zeroconf instance that hears loopback alone."""
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    try:
        yield zeroconf
    finally:
        await zeroconf.async_close()


def discovery(zeroconf: AsyncZeroconf, number: int, finder: Finder, chain_id: bytes = CHAIN_ID) -> Discovery:
    return Discovery(zeroconf, chain_id=chain_id, node_key=seeded(number).public_key, on_found=finder)


async def test_nodes_of_one_community_find_each_other_and_see_each_other_go() -> None:
    """One offers, one only looks, one belongs to another community."""
    looking = Finder()
    async with on_the_lan() as one, on_the_lan() as two, on_the_lan() as three:
        offered = discovery(one, 1, Finder())
        foreign = discovery(three, 3, Finder(), b"\x03" * 32)
        searching = discovery(two, 2, looking)
        await searching.start(0)
        await asyncio.gather(offered.start(8765, ["127.0.0.1"]), foreign.start(8766, ["127.0.0.1"]))
        await eventually(lambda: looking.found)
        assert looking.found == {seeded(1).public_key: [parse_location("127.0.0.1:8765")]}
        await offered.close()
        await eventually(lambda: looking.found[seeded(1).public_key] == ())
        await foreign.close()
        await searching.close()


async def test_what_is_found_is_dialled(tmp_path: Path) -> None:
    async with (
        on_the_lan() as lan,
        running(tmp_path, 1) as one,
        running(tmp_path, 2, listen_host=None) as two,
    ):
        offering = discovery(lan, 1, Finder())
        searching = Discovery(lan, chain_id=CHAIN_ID, node_key=two.key, on_found=two.manager.book.hint)
        await searching.start(0)
        await offering.start(one.manager.port, ["127.0.0.1"])
        await linked(one, two)
        await searching.close()
        await offering.close()


def service(port: int = 1, **properties: str) -> AsyncServiceInfo:
    told = {"chain": CHAIN_ID.hex(), "node": address(seeded(1).public_key), "path": "/peer"} | properties
    return AsyncServiceInfo(
        SERVICE_TYPE, f"x.{SERVICE_TYPE}", port=port, parsed_addresses=["127.0.0.1"], properties=told
    )


def test_a_service_is_read() -> None:
    assert read_service(service(path="/api/x"), CHAIN_ID) == (
        seeded(1).public_key,
        [parse_location("ws://127.0.0.1:1/api/x")],
    )


@pytest.mark.parametrize(
    "info",
    [
        service(chain="00"),
        service(node="el1nonsense"),
        service(node=""),
        service(path="/a b"),
        service(port=0),
    ],
)
def test_services_that_make_no_sense_are_passed_over(info: ServiceInfo) -> None:
    assert isinstance(info, AsyncServiceInfo)
    assert read_service(info, CHAIN_ID) is None
