"""Finds the community's other nodes on the LAN, and lets them find this one, by zeroconf (RFC 6762, RFC
6763).

Whatever is found is a hint: the handshake proves who answers. The service tells everybody on the LAN the
chain id and the node key, and nothing else.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from ledger_core.keys import AddressError, address, parse_address
from ledger_core.node.peers.errors import PeerError
from ledger_core.node.peers.location import DEFAULT_PATH, PeerLocation, parse_location

_LOGGER: Final = logging.getLogger(__name__)
SERVICE_TYPE: Final = "_energy-ledger._tcp.local."
_INSTANCE_LENGTH: Final = 40
_REQUEST_MS: Final = 3000
_MAX_LOOKUPS: Final = 16
_MAX_ADDRESSES: Final = 4

type FoundHandler = Callable[[bytes, Sequence[PeerLocation]], None]
"""Takes a node's key and where it was found; nowhere when it has gone."""


class Discovery:
    """One service on the LAN, and a browser for the others; owns its tasks between `start` and `close`."""

    def __init__(
        self,
        zeroconf: AsyncZeroconf,
        *,
        chain_id: bytes,
        node_key: bytes,
        on_found: FoundHandler,
        path: str = DEFAULT_PATH,
    ) -> None:
        """Use a zeroconf instance, which stays the caller's to close."""
        self._zeroconf = zeroconf
        self._chain_id = chain_id
        self._node_key = node_key
        self._on_found = on_found
        self._path = path
        self._service: AsyncServiceInfo | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._found: dict[str, bytes] = {}

    async def start(self, port: int, addresses: Sequence[str] = ()) -> None:
        """Look for others; offer this node on a port (0: not at all) at this machine's IP addresses."""
        if port and addresses:
            self._service = AsyncServiceInfo(
                SERVICE_TYPE,
                f"{address(self._node_key)[:_INSTANCE_LENGTH]}.{SERVICE_TYPE}",
                port=port,
                parsed_addresses=list(addresses),
                properties={
                    "chain": self._chain_id.hex(),
                    "node": address(self._node_key),
                    "path": self._path,
                },
                server=f"{address(self._node_key)[:_INSTANCE_LENGTH]}.local.",
            )
            # The second await is the announcing, which others need not wait for, but `close` must.
            await (await self._zeroconf.async_register_service(self._service, allow_name_change=True))
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._changed])

    async def close(self) -> None:
        """Withdraw the service and end the search."""
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        lookups = list(self._lookups.values())
        for task in lookups:
            task.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        if self._service is not None:
            await (await self._zeroconf.async_unregister_service(self._service))
            self._service = None

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            key = self._found.pop(name, None)
            if key is not None:
                self._on_found(key, ())
        elif name not in self._lookups and len(self._lookups) < _MAX_LOOKUPS:
            task = asyncio.get_running_loop().create_task(
                self._look_up(zeroconf, service_type, name), name="peers lookup"
            )
            self._lookups[name] = task
            task.add_done_callback(lambda _: self._lookups.pop(name, None))

    async def _look_up(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(zeroconf, _REQUEST_MS):
            _LOGGER.debug("%s on the LAN does not tell where it is", name)
            return
        found = read_service(info, self._chain_id)
        if found is None or found[0] == self._node_key:
            return
        key, locations = found
        self._found[name] = key
        self._on_found(key, locations)


def read_service(info: AsyncServiceInfo, chain_id: bytes) -> tuple[bytes, list[PeerLocation]] | None:
    """Return a service's node key and locations; None for another community's, or one that makes no sense."""
    told = info.decoded_properties
    if told.get("chain") != chain_id.hex():
        return None
    path = told.get("path") or DEFAULT_PATH
    hosts = info.parsed_scoped_addresses(IPVersion.All)[:_MAX_ADDRESSES]
    try:
        key = parse_address(told.get("node") or "")
        locations = [
            parse_location(f"ws://{f'[{host}]' if ':' in host else host}:{info.port}{path}")
            for host in hosts
            if "%" not in host
        ]
    except (AddressError, PeerError) as error:
        _LOGGER.debug("a service on the LAN makes no sense: %s", error.message)
        return None
    return (key, locations) if locations else None
