"""A plot of one or more runs as SVG, written by hand: no library is needed for a few bars."""

from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from ledger_core.simulation.report import Report

PANEL_WIDTH = 300
PANEL_HEIGHT = 240
MARGIN = 40
BAR_GAP = 0.35
COLOURS = ("#2b6cb0", "#90cdf4")

type Bar = tuple[str, Callable[[Report], float]]

PANELS: tuple[tuple[str, str, tuple[Bar, ...]], ...] = (
    ("Fork rate", "% of blocks", (("stale", lambda report: 100 * report.fork_rate),)),
    (
        "Block at another node",
        "s",
        (
            ("median", lambda report: report.propagation_s.at(50) or 0),
            ("95 %", lambda report: report.propagation_s.at(95) or 0),
        ),
    ),
    (
        "Record final",
        "min",
        (
            ("median", lambda report: (report.record_final_s.at(50) or 0) / 60),
            ("95 %", lambda report: (report.record_final_s.at(95) or 0) / 60),
        ),
    ),
    (
        "Sent per home and day",
        "MB",
        (
            ("median", lambda report: (report.bytes_per_home_day.at(50) or 0) / 1e6),
            ("highest", lambda report: (report.bytes_per_home_day.at(100) or 0) / 1e6),
        ),
    ),
)


def plot(reports: Sequence[Report]) -> str:
    """Return an SVG picture with a panel per figure and a group of bars per run."""
    width = PANEL_WIDTH * len(PANELS)
    height = PANEL_HEIGHT + 30
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, (title, unit, bars) in enumerate(PANELS):
        parts += _panel(reports, title, unit, bars, place * PANEL_WIDTH)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _panel(reports: Sequence[Report], title: str, unit: str, bars: Sequence[Bar], left: int) -> list[str]:
    floor = PANEL_HEIGHT - MARGIN
    inner = PANEL_WIDTH - 2 * MARGIN
    highest = max((value(report) for _, value in bars for report in reports), default=0) or 1.0
    parts = [
        _text(left + PANEL_WIDTH / 2, 20, f"{title} ({unit})", size=14),
        (
            f'<line x1="{left + MARGIN}" y1="{floor}" x2="{left + PANEL_WIDTH - MARGIN}" y2="{floor}" '
            f'stroke="#444"/>'
        ),
    ]
    group = inner / max(len(reports), 1)
    bar_width = group * (1 - BAR_GAP) / len(bars)
    for at, report in enumerate(reports):
        start = left + MARGIN + at * group + group * BAR_GAP / 2
        for number, (_, value) in enumerate(bars):
            size = value(report) / highest * (floor - 50)
            x = start + number * bar_width
            parts.append(
                f'<rect x="{x:.1f}" y="{floor - size:.1f}" width="{bar_width * 0.95:.1f}" '
                f'height="{size:.1f}" fill="{COLOURS[number]}"/>'
            )
            parts.append(_text(x + bar_width / 2, floor - size - 4, f"{value(report):.3g}", size=10))
        parts.append(_text(start + group * (1 - BAR_GAP) / 2, floor + 16, f"{report.config.nodes} homes"))
    for number, (name, _) in enumerate(bars):
        x, y = left + MARGIN + number * 90, PANEL_HEIGHT + 4
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLOURS[number]}"/>')
        parts.append(_text(x + 14, y + 9, name, anchor="start"))
    return parts


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
