"""The links that are up: one per node key, within the slots."""

from typing import Final

from ledger_core.node.peers.connection import Connection
from ledger_core.node.peers.errors import Refusal
from ledger_core.node.peers.handshake import RemoteNode
from ledger_core.node.peers.settings import PeerSettings

CROSSING_S: Final = 10.0
"""A caller to whom this node has dialled a link within that time is taken for one whose dial crossed."""


class Registry:
    """The connections by node key; times are seconds of the event loop's clock."""

    def __init__(self, own_key: bytes, settings: PeerSettings) -> None:
        self._own_key = own_key
        self._settings = settings
        self._connections: dict[bytes, Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def find(self, key: bytes) -> Connection | None:
        """Return the link to a node, if there is one."""
        return self._connections.get(key)

    def listed(self) -> list[Connection]:
        """Return every link."""
        return list(self._connections.values())

    @property
    def outbound(self) -> int:
        """Links that this node dialled."""
        return sum(not each.inbound for each in self._connections.values())

    def check(self, remote: RemoteNode, *, dialled_at: float | None, now: float) -> None:
        """Tell whether a node may have a new link; raises Refusal `duplicate` or `full`.

        `dialled_at` is when this node began to dial; None: the other side did.

        A node that dials takes the place of its earlier link: it has restarted, or moved. A node that is
        linked is not dialled. Of two dials that crossed, both sides keep the one by the node with the
        smaller key.
        """
        present = self._connections.get(remote.key)
        if present is not None:
            if dialled_at is None:
                crossed = not present.inbound and now - present.since < CROSSING_S
            else:
                crossed = present.inbound and present.since >= dialled_at
            own_is_kept = crossed and self._own_key < remote.key
            if own_is_kept is (dialled_at is None):
                raise Refusal("duplicate", "the link that is up between these nodes stays")
            return
        if dialled_at is not None:
            return
        others = [each for each in self._connections.values() if each.inbound]
        if len(others) >= self._settings.max_inbound:
            raise Refusal("full", "all places of this node are taken", retry_after_s=60)
        guests = sum(each.remote.invitation is not None for each in others)
        if remote.invitation is not None and guests >= self._settings.max_guests:
            raise Refusal("full", "all places for newcomers are taken", retry_after_s=60)

    def add(self, connection: Connection) -> Connection | None:
        """Add a checked link; return the one whose place it takes."""
        replaced = self._connections.get(connection.remote.key)
        self._connections[connection.remote.key] = connection
        return replaced

    def remove(self, connection: Connection) -> None:
        """Remove a link, unless another has its place by now."""
        if self._connections.get(connection.remote.key) is connection:
            del self._connections[connection.remote.key]
