"""Being found, and finding others, on the local network while the node runs."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

import zeroconf
from zeroconf.asyncio import AsyncZeroconf

from ledger_core.node.peers import Discovery, PeerManager

_LOGGER: Final = logging.getLogger(__name__)


async def search_lan(
    manager: PeerManager, *, chain_id: bytes, node_key: bytes, addresses: Sequence[str]
) -> None:
    """Announce this node at some IP addresses and take in what others announce, until cancelled.

    Where the network does not allow it, the node goes on without.
    """
    try:
        responder = AsyncZeroconf(ip_version=zeroconf.IPVersion.V4Only)
    except OSError as error:
        _LOGGER.warning("the local network can't be searched for other nodes: %s", error)
        return
    discovery = Discovery(responder, chain_id=chain_id, node_key=node_key, on_found=manager.book.hint)
    try:
        await discovery.start(manager.port, addresses)
        await asyncio.Event().wait()
    except (zeroconf.Error, OSError) as error:
        _LOGGER.warning("the local network can't be searched for other nodes: %s", error)
    finally:
        with contextlib.suppress(zeroconf.Error, OSError):
            await discovery.close()
        await responder.async_close()
