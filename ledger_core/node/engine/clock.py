"""Whether the node's clock can be right: no mining and no voting while it can't."""

from statistics import median_low

from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.outputs import ClockDoubted, ClockTrusted
from ledger_core.rules.headers import median_time


class ClockWatch:
    """Compares the clock with the peers' and with the chain's."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.doubt: str | None = None
        """Why the clock is not to be trusted; None: it is."""

    def check(self, now: float) -> None:
        """Look again; tells the outside of a change."""
        doubt = self._reason(now)
        if (doubt is None) != (self.doubt is None):
            self._hub.notify(ClockTrusted() if doubt is None else ClockDoubted(doubt))
        self.doubt = doubt

    def _reason(self, now: float) -> str | None:
        hub = self._hub
        chain_time = median_time(hub.chain.state.tip.times)
        if now < chain_time:
            return (
                f"this computer's clock is at least {chain_time - int(now)} s behind the chain; set it right "
                f"(for example with NTP), the node goes on by itself then"
            )
        offsets = [peer.clock_offset for peer in hub.peers.values()]
        if offsets:
            offset = median_low(offsets)
            if abs(offset) > hub.settings.clock_tolerance_s:
                side = "behind" if offset > 0 else "ahead of"
                return (
                    f"this computer's clock is {abs(round(offset))} s {side} those of {len(offsets)} peers; "
                    f"set it right (for example with NTP), the node goes on by itself then"
                )
        return None
