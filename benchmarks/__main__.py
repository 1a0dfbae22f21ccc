"""Run one benchmark by name, or list them: `python -m benchmarks [NAME [--json]]`."""

import ast
import os
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent
_NOT_A_BENCHMARK = {"__init__", "__main__", "harness"}


def names() -> list[str]:
    """Give the benchmarks' names: the modules of this folder, helpers (with `_`) left out."""
    found = (path.stem for path in _FOLDER.glob("*.py"))
    return sorted(name for name in found if name not in _NOT_A_BENCHMARK and not name.startswith("_"))


def summary(name: str) -> str:
    """Give the first line of a benchmark's docstring."""
    tree = ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def main(arguments: list[str]) -> None:
    """Become the benchmark that the arguments name; without arguments, list them all.

    Exits with code 2 for a name that is none.
    """
    known = names()
    if not arguments:
        width = max(map(len, known), default=0)
        for name in known:
            print(f"{name:<{width}}  {summary(name)}".rstrip())
        if not known:
            print("there are no benchmarks yet", file=sys.stderr)
        return
    name, *rest = arguments
    if name not in known:
        print(f"bench: no benchmark named {name!r}; there are: {', '.join(known) or 'none'}", file=sys.stderr)
        sys.exit(2)
    os.execv(sys.executable, [sys.executable, "-m", f"benchmarks.{name}", *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
