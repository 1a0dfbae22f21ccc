"""The virtual network: links with delay, loss and bandwidth between numbered nodes."""

from collections.abc import Callable
from random import Random

from ledger_core.node.messages import Message
from ledger_core.simulation.config import SimulationConfig
from ledger_core.simulation.schedule import Schedule
from ledger_core.simulation.wire import Wire

JITTER = 0.25


class Link:
    """A connection between two nodes."""

    __slots__ = ("a", "arrivals", "b", "delay", "open")

    def __init__(self, a: int, b: int, delay: float) -> None:
        self.a = a
        self.b = b
        self.delay = delay
        self.arrivals = {a: 0.0, b: 0.0}
        """When the last message to each side arrives: messages of one link do not overtake each other."""
        self.open = True


class Network:
    """Carries messages, and counts them."""

    def __init__(
        self,
        config: SimulationConfig,
        schedule: Schedule,
        random: Random,
        deliver: Callable[[int, int, Message], None],
    ) -> None:
        self._config = config
        self._schedule = schedule
        self._random = random
        self._deliver = deliver
        self._wire = Wire()
        self._links: dict[tuple[int, int], Link] = {}
        self._free_at = [0.0] * config.nodes
        """When each node's uplink is free again."""
        self.group = [0] * config.nodes
        """Nodes of different groups do not reach each other."""
        self.sent_bytes = [0] * config.nodes
        self.sent_messages = 0
        self.lost_messages = 0
        self.bytes_by_kind: dict[str, int] = {}

    def connect(self, a: int, b: int) -> bool:
        """Make a link; returns whether that was possible."""
        key = _key(a, b)
        if key in self._links or a == b or self.group[a] != self.group[b]:
            return False
        delay = self._config.latency_s * self._random.uniform(0.5, 2)
        self._links[key] = Link(a, b, delay)
        return True

    def disconnect(self, a: int, b: int) -> bool:
        """Close a link; what is on its way is lost. Returns whether there was one."""
        link = self._links.pop(_key(a, b), None)
        if link is None:
            return False
        link.open = False
        return True

    def linked(self, a: int, b: int) -> bool:
        """Return whether there is a link."""
        return _key(a, b) in self._links

    def send(self, source: int, target: int, message: Message) -> None:
        """Carry a message, unless it gets lost on the way."""
        link = self._links.get(_key(source, target))
        if link is None:
            return
        parcel = self._wire.pack(message)
        self.sent_messages += 1
        self.sent_bytes[source] += parcel.size
        kind = type(message).__name__
        self.bytes_by_kind[kind] = self.bytes_by_kind.get(kind, 0) + parcel.size
        if self.group[source] != self.group[target] or self._random.random() < self._config.loss:
            self.lost_messages += 1
            return
        now = self._schedule.now
        leaves = max(now, self._free_at[source]) + parcel.size * 8 / self._config.bandwidth_bps
        self._free_at[source] = leaves
        arrives = leaves + link.delay * (1 + JITTER * self._random.random())
        link.arrivals[target] = arrives = max(arrives, link.arrivals[target])
        received = parcel.message

        def arrive() -> None:
            if link.open:
                self._deliver(source, target, received)

        self._schedule.at(arrives, arrive)


def _key(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)
