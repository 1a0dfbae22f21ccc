"""What came out of a simulation: figures, and whether everything held that must hold."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, to_builtins

from ledger_core.simulation.config import SimulationConfig
from ledger_core.simulation.sim_node import SimNode
from ledger_core.simulation.simulator import Simulator

DAY_S = 86_400
SETTLED_BLOCKS = 6
"""Honest nodes must agree on everything but the last few blocks."""

PERCENTILES = (0, 5, 10, 25, 50, 75, 90, 95, 99, 100)


class Spread(Struct, frozen=True):
    """How a quantity is spread: percentiles by their number."""

    count: int
    percentiles: dict[int, float]

    def at(self, percentile: int) -> float | None:
        """Return a percentile; None where nothing was measured."""
        return self.percentiles.get(percentile)


class Check(Struct, frozen=True):
    """Something that must hold."""

    name: str
    holds: bool
    detail: str


class Report(Struct, frozen=True):
    """The figures of one run."""

    config: SimulationConfig
    simulated_s: float
    wall_s: float
    events: int
    blocks_mined: int
    blocks_stale: int
    fork_rate: float
    """Stale blocks per mined block, of honest nodes while the street was in one piece."""
    reorganisations: int
    """Blocks that a node took back, over all nodes."""
    propagation_s: Spread
    """From a block's mining until a node that was there has it in its branch; street in one piece."""
    checkpoint_final_s: Spread
    """From a checkpoint's mining until a node holds it final."""
    record_final_s: Spread
    """From a record's submission until its home holds it final."""
    records_submitted: int
    records_final: int
    records_lost: dict[str, int]
    records_open: int
    bytes_per_home_day: Spread
    bytes_by_kind: dict[str, float]
    """Of a home and day in the mean."""
    messages_per_home_day: float
    state_bytes: int
    bans: dict[str, int]
    equivocators_punished: int
    checks: list[Check]

    @property
    def sound(self) -> bool:
        """Whether everything held."""
        return all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data: dict[str, Any] = to_builtins(self, str_keys=True)
        return {**data, "sound": self.sound}


def spread(values: Iterable[float]) -> Spread:
    """Return the percentiles of some values (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0, {})
    last = len(ordered) - 1
    return Spread(len(ordered), {each: round(ordered[round(last * each / 100)], 3) for each in PERCENTILES})


def make_report(run: Simulator, wall_s: float) -> Report:
    """Return the figures of a run that is over."""
    facts, network = run.facts, run.network
    honest = [node for node in run.nodes if node.honest]
    seconds = run.end - run.begin
    day = DAY_S / seconds
    settled = _settled_height(honest)
    main = _main_branch(honest[0], run.street.height, settled)
    mined = [block_hash for block_hash, fact in facts.blocks.items() if fact.height <= settled]
    stale = [facts.blocks[block_hash] for block_hash in mined if block_hash not in main]
    whole = sum(facts.blocks[block_hash].whole for block_hash in mined)
    finals = [record for record in facts.records.values() if record.final is not None]
    lost = Counter(record.lost for record in facts.records.values() if record.lost is not None)
    return Report(
        config=run.config,
        simulated_s=seconds,
        wall_s=round(wall_s, 1),
        events=run.schedule.done,
        blocks_mined=len(mined),
        blocks_stale=len(stale),
        fork_rate=round(sum(fact.whole for fact in stale) / max(whole, 1), 4),
        reorganisations=facts.reorgs,
        propagation_s=spread(each for fact in facts.blocks.values() for each in fact.arrivals),
        checkpoint_final_s=spread(each for delays in facts.final_delay.values() for each in delays),
        record_final_s=spread(
            record.final - record.submitted for record in finals if record.final is not None
        ),
        records_submitted=len(facts.records),
        records_final=len(finals),
        records_lost={str(code): count for code, count in sorted(lost.items(), key=str)},
        records_open=len(facts.records) - len(finals) - lost.total(),
        bytes_per_home_day=spread(network.sent_bytes[node.number] * day for node in honest),
        bytes_by_kind={
            kind: round(count * day / len(run.nodes))
            for kind, count in sorted(network.bytes_by_kind.items(), key=lambda item: -item[1])
        },
        messages_per_home_day=round(network.sent_messages * day / len(run.nodes)),
        state_bytes=len(honest[0].engine.chain.state.snapshot()),
        bans=dict(sorted(facts.bans.items())),
        equivocators_punished=len(facts.punished),
        checks=_checks(run, honest, settled),
    )


def _settled_height(honest: Sequence[SimNode]) -> int:
    return max(min(node.engine.chain.height for node in honest) - SETTLED_BLOCKS, 0)


def _main_branch(node: SimNode, first: int, last: int) -> set[bytes]:
    return {node.store.hash_at(height) for height in range(first + 1, last + 1)}


def _checks(run: Simulator, honest: Sequence[SimNode], settled: int) -> list[Check]:
    facts = run.facts
    branches = {node.store.hash_at(settled) for node in honest}
    heights = sorted(node.engine.chain.height for node in honest)
    finals = sorted(node.engine.chain.final_height for node in honest)
    states: dict[bytes, set[bytes]] = {}
    for node in honest:
        states.setdefault(node.engine.chain.tip_hash, set()).add(node.engine.chain.state.hash())
    missing = [
        record_id
        for record_id, record in facts.records.items()
        if record.final is not None and any(record_id not in node.engine.chain.state.seen for node in honest)
    ]
    unbalanced = sorted({_money(node) for node in honest} - {0})
    doubles = facts.conflicting_votes()
    splits = facts.conflicting_finals()
    return [
        Check("one branch", len(branches) == 1, f"{len(branches)} at height {settled} of {heights[-1]}"),
        Check("equal states", all(len(each) == 1 for each in states.values()), f"{len(states)} tips"),
        Check("no two final blocks of one height", splits == 0, f"{splits} heights"),
        Check("no conflicting votes of honest nodes", doubles == 0, f"{doubles} pairs"),
        Check("no final record lost", not missing, f"{len(missing)} missing"),
        Check("money conserved", not unbalanced, f"sums {unbalanced or [0]} micro-currency"),
        Check("finality goes on", finals[-1] > run.street.height, f"heights {finals[0]} to {finals[-1]}"),
        Check("nobody honest banned", not facts.honest_bans, f"{facts.honest_bans or 'nobody'}"),
        Check(
            "no mining by a wrong clock", facts.mined_wrong == 0, f"{facts.mined_wrong} blocks of such nodes"
        ),
    ]


def _money(node: SimNode) -> int:
    state = node.engine.chain.state
    fees = sum(fee.amount for fee in state.fees.values())
    return sum(row.balance for row in state.accounts.values()) + fees - state.tip.issued


def table(reports: Sequence[Report]) -> list[str]:
    """Return the figures as aligned lines, one column a run."""
    rows = [(name, [value(report) for report in reports]) for name, value in _ROWS]
    width = max(len(name) for name, _ in rows)
    columns = [max(len(values[at]) for _, values in rows) for at in range(len(reports))]
    lines = []
    for name, values in rows:
        cells = "  ".join(f"{value:>{columns[at]}}" for at, value in enumerate(values))
        lines.append(f"{name:<{width}}  {cells}".rstrip())
    for report in reports:
        lines += ["", f"checks with {report.config.nodes} nodes"]
        for check in report.checks:
            lines.append(f"  {'holds ' if check.holds else 'BROKEN'}  {check.name} ({check.detail})")
    return lines


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _of(field: str, percentile: int) -> Any:
    return lambda report: _seconds(getattr(report, field).at(percentile))


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f}"


_ROWS: tuple[tuple[str, Any], ...] = (
    ("nodes", lambda report: str(report.config.nodes)),
    ("simulated hours", lambda report: f"{report.simulated_s / 3600:.2f}"),
    ("blocks mined", lambda report: str(report.blocks_mined)),
    ("stale blocks, partitions included", lambda report: str(report.blocks_stale)),
    ("fork rate without partitions", lambda report: f"{report.fork_rate:.2%}"),
    ("block at another node, median s", _of("propagation_s", 50)),
    ("block at another node, 95 % s", _of("propagation_s", 95)),
    ("checkpoint final, median s", _of("checkpoint_final_s", 50)),
    ("checkpoint final, 95 % s", _of("checkpoint_final_s", 95)),
    ("record final, median s", _of("record_final_s", 50)),
    ("record final, 95 % s", _of("record_final_s", 95)),
    ("records submitted", lambda report: str(report.records_submitted)),
    ("records final", lambda report: str(report.records_final)),
    ("records reported impossible", lambda report: str(sum(report.records_lost.values()))),
    ("records still open", lambda report: str(report.records_open)),
    ("sent per home and day, median MB", lambda report: _megabytes(report.bytes_per_home_day.at(50))),
    ("sent per home and day, highest MB", lambda report: _megabytes(report.bytes_per_home_day.at(100))),
    ("messages per home and day", lambda report: f"{report.messages_per_home_day:.0f}"),
    ("state, MB", lambda report: _megabytes(report.state_bytes)),
    ("bans of misbehaving nodes", lambda report: str(sum(report.bans.values()))),
    ("equivocators that lost their role", lambda report: str(report.equivocators_punished)),
    ("events", lambda report: str(report.events)),
    ("computing time, s", lambda report: f"{report.wall_s:.0f}"),
)
