"""Makes `ledger_core` importable where a release carries it inside the integration.

A release holds the ledger in `_vendor/`, a folder with nothing else in it. The folder is appended to the
path, so it shadows nobody's packages, and only where `ledger_core` is not importable without it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

VENDOR: Final = Path(__file__).parent / "_vendor"


def ensure_ledger(folder: Path = VENDOR) -> Path | None:
    """Make `ledger_core` importable; returns the folder where that took one, else None."""
    if find_spec("ledger_core") is None:
        sys.path.append(str(folder))
    return folder if str(folder) in sys.path else None


LEDGER_FOLDER: Final = ensure_ledger()
"""The folder that a node's process must have on its path, too; None: it finds the ledger by itself."""
