"""Who gets past the handshake."""

import time
from collections.abc import Callable
from typing import Protocol

from ledger_core.node.peers.bans import Bans
from ledger_core.node.peers.errors import Refusal
from ledger_core.node.peers.handshake import RemoteNode
from ledger_core.records.members import Invitation


class Policy(Protocol):
    """Knows the members: the transport does not."""

    def admit(self, node_key: bytes, invitation: Invitation | None) -> None:
        """Return for a node that may have a link; else raise Refusal with a code and a reason.

        The key is proven. So is, for an invitation, that its signature is its authority's in this community
        and that the node holds its one-time key; whether that authority may invite, and whether the
        invitation is expired or used, is for the policy to tell. Called on the event loop: must not wait.
        """


class Admission:
    """The policy, and the bans before it."""

    def __init__(self, policy: Policy, bans: Bans, clock: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._bans = bans
        self._clock = clock

    def check(self, remote: RemoteNode) -> None:
        """Raise Refusal `banned`, or the policy's, for a node that may not have a link."""
        now = self._clock()
        ban = self._bans.find(remote.key, now)
        if ban is not None:
            left = max(int(ban.until - now), 1)
            raise Refusal("banned", f"banned for another {left} s ({ban.code})", retry_after_s=left)
        self._policy.admit(remote.key, remote.invitation)

    def ban(self, key: bytes, seconds: int, code: str) -> None:
        """Ban a key from now on."""
        self._bans.ban(key, seconds, code, self._clock())

    def is_member(self, key: bytes) -> bool:
        """Tell whether the policy admits a node that shows no invitation."""
        try:
            self._policy.admit(key, None)
        except Refusal:
            return False
        return True

    def may_dial(self, key: bytes) -> bool:
        """Tell whether a node is a member and not banned."""
        return self._bans.find(key, self._clock()) is None and self.is_member(key)
