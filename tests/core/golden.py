"""Golden bytes: committed files that a change of a format can't pass by."""

import os
from pathlib import Path
from textwrap import wrap

import pytest

FOLDER = Path(__file__).parent / "golden"
REGENERATE = "ENERGY_LEDGER_REGENERATE_GOLDEN"
"""Set to 1 to write the files anew, after a deliberate change of a format."""


def _render(parts: dict[str, bytes]) -> str:
    lines: list[str] = []
    for name, data in parts.items():
        lines += [f"{name}: {len(data)} bytes", *wrap(data.hex(), 96), ""]
    return "\n".join(lines)


def read(name: str) -> dict[str, bytes]:
    """Return the named parts of a golden file."""
    parts: dict[str, bytes] = {}
    for block in (FOLDER / f"{name}.hex").read_text().split("\n\n"):
        title, *lines = block.strip().splitlines()
        parts[title.rsplit(":", 1)[0]] = bytes.fromhex("".join(lines))
    return parts


def check(name: str, parts: dict[str, bytes]) -> None:
    """Compare named bytes with the golden file, or write it where that was asked for."""
    path = FOLDER / f"{name}.hex"
    if os.environ.get(REGENERATE) == "1":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(_render(parts))
        return
    if not path.exists():
        pytest.fail(f"there are no golden bytes for {name}; set {REGENERATE}=1 and commit {path.name}")
    known = read(name)
    changed = [part for part in {**known, **parts} if known.get(part) != parts.get(part)]
    if changed:
        pytest.fail(
            f"THE FORMAT CHANGED: {', '.join(changed)} of {name} differ from golden/{path.name}. Other "
            f"versions of the program can no longer read it, or give another id or hash for it. If that is "
            f"meant, raise the format's version and set {REGENERATE}=1 for one run."
        )
