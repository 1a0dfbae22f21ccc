"""The documents say what the source says: error codes of the node, and every setting."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ledger_core.node.config import settings_reference

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "ledger_core" / "node"
NO_CODES = {"RuntimeError", "ValueError", "TypeError", "OSError"}


def raised_codes() -> Iterator[str]:
    """Yield the codes of all errors that the node's source makes."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in NO_CODES or not re.search(
                r"(Error|Refusal|Misbehaviour|Lost|Failure)$", node.func.id
            ):
                continue
            texts = [
                arg.value
                for arg in node.args[:2]
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
            if texts and re.fullmatch(r"[a-z_]+", texts[0]):
                yield texts[0]


def test_every_code_of_the_node_is_explained() -> None:
    page = (ROOT / "docs" / "error-codes.md").read_text()
    _, node = page.split("\n# The node\n")
    explained = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", node, re.MULTILINE)
    assert len(explained) == len(set(explained))
    rules = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    codes = set(raised_codes())
    assert len(codes) > 80
    assert codes - rules == set()
    assert set(explained) - codes == set()


def test_every_setting_stands_in_the_manual() -> None:
    page = (ROOT / "docs" / "node.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    told = {name: (kind.strip(), default.strip(), text.strip()) for name, kind, default, text in rows}
    assert told == {
        each.name: (_kind(each.kind, each.bounds), _default(each.default), each.help)
        for each in settings_reference()
    }


def _kind(kind: str, bounds: str) -> str:
    return f"{kind}: {bounds}" if bounds else kind


def _default(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if value not in ("", ()) else "none"
