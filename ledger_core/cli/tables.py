"""Rows under headings, aligned for people."""

from collections.abc import Sequence

_GAP = "  "


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> list[str]:
    """Return lines with a heading over each column; figures are aligned right. Without rows: `empty`."""
    if not rows:
        return [empty]
    widths = [max(map(len, each)) for each in zip(headings, *rows, strict=True)]
    right = [all(_is_figure(row[place]) for row in rows) for place in range(len(headings))]
    return [
        _GAP.join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (headings, *rows)
    ]


def _is_figure(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit() or (cell[:1] == "-" and cell[1:2].isdigit())
