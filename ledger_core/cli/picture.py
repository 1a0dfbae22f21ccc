"""A text as a QR code: in the terminal, or as an SVG or PNG file.

Drawing needs segno, which the extra `qr` of the package brings. Everything else works without it: Home
Assistant, which draws its own QR codes, runs its node from this package and has no segno.
"""

import io
from pathlib import Path
from typing import Final

from ledger_core.cli.frame import UsageError
from ledger_core.errors import LedgerError

BORDER: Final = 4
"""Empty modules around it, as the standard asks for."""
_KINDS: Final = {".svg": "svg", ".png": "png"}


class Picture:
    """A QR code with the strongest correction that the text leaves room for."""

    def __init__(self, text: str) -> None:
        """Draw a text; raises LedgerError `picture_too_large` or `picture_unavailable`."""
        try:
            import segno  # noqa: PLC0415 - may be absent
        except ImportError as error:
            raise LedgerError(
                "picture_unavailable",
                "a QR code can't be drawn, for segno is not installed: pip install 'energy-ledger[qr]', or "
                "hand on the text itself",
            ) from error
        try:
            self._code = segno.make_qr(text, error="l", boost_error=True)
        except segno.DataOverflowError as error:
            raise LedgerError(
                "picture_too_large",
                f"{len(text)} characters are too many for a QR code: hand on the text itself",
                length=len(text),
            ) from error

    @property
    def width(self) -> int:
        """Columns that it takes in a terminal."""
        return int(self._code.symbol_size(border=BORDER)[0])

    def lines(self) -> list[str]:
        """Return it as lines of half blocks, light on dark as terminals mostly are."""
        rows = [list(row) for row in self._code.matrix_iter(border=BORDER)]
        if len(rows) % 2:
            rows.append([0] * len(rows[0]))
        # A set module is dark: what is drawn is the light.
        return [
            "".join(_BLOCKS[not upper, not lower] for upper, lower in zip(top, bottom, strict=True))
            for top, bottom in zip(rows[::2], rows[1::2], strict=True)
        ]

    def encoded(self, path: Path) -> bytes:
        """Return it in the format that a file's name asks for; raises UsageError for another one."""
        kind = kind_of(path)
        out = io.BytesIO()
        self._code.save(out, kind=kind, border=BORDER, scale=8 if kind == "png" else 4)
        return out.getvalue()


_BLOCKS: Final = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}


def kind_of(path: Path) -> str:
    """Return the format that a picture's name asks for; raises UsageError."""
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: the picture's name must end in .svg or .png")
    return kind
