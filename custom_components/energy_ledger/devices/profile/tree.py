"""YAML with line numbers: a tree that knows where each key stands, and exact numbers instead of floats."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import yaml

from ..errors import ProfileError

_MAX_DEPTH: Final = 16
_MAX_NODES: Final = 20_000
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9A-Fa-f_]+|0b[01_]+)")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]+\.[0-9]+")
_RATIO: Final = re.compile(r"[-+]?[0-9]+/[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Node:
    """One YAML node: what it holds, and where it stands (`line` counts from 1; `key` is its dotted path).

    `value` is a dict (of text keys), a list, or the text of a scalar. `quoted` tells a quoted scalar from a
    plain one.
    """

    value: dict[str, Node] | list[Node] | str
    file: str
    line: int
    key: str
    quoted: bool = False

    def error(self, problem: str) -> ProfileError:
        """Make an error that names file, line and key."""
        where = f"{self.file}:{self.line}: "
        return ProfileError(f"{where}{self.key}: {problem}" if self.key else f"{where}{problem}")

    def mapping(self) -> dict[str, Node]:
        """Return the keys and their nodes."""
        if isinstance(self.value, dict):
            return self.value
        raise self.error(f"is {self.describe()}; right would be keys with values (key: value)")

    def sequence(self) -> list[Node]:
        """Return the items of a list."""
        if isinstance(self.value, list):
            return self.value
        raise self.error(f"is {self.describe()}; right would be a list ([a, b] or lines that begin with -)")

    def text(self) -> str:
        """Return the text of a scalar."""
        if isinstance(self.value, str):
            return self.value
        raise self.error(f"is {self.describe()}; right would be a text")

    def number(self) -> Fraction:
        """Return an exact number: 12, 0x1F, -0.01 or a ratio such as 1/60."""
        if isinstance(self.value, str):
            if _INTEGER.fullmatch(self.value):
                return Fraction(int(self.value, 0))
            if _DECIMAL.fullmatch(self.value) or _RATIO.fullmatch(self.value):
                return Fraction(self.value)
        raise self.error(f"is {self.describe()}; right would be a number such as 12, 0x1F, -0.01 or 1/60")

    def is_number(self) -> bool:
        """Whether `number` would return one and the text is not quoted."""
        return (
            isinstance(self.value, str)
            and not self.quoted
            and any(form.fullmatch(self.value) for form in (_INTEGER, _DECIMAL, _RATIO))
        )

    def integer(self, low: int, high: int) -> int:
        """Return a whole number between `low` and `high`."""
        number = self.number()
        if number.denominator != 1 or not low <= number <= high:
            raise self.error(f"is {self.value}; right would be a whole number from {low} to {high}")
        return int(number)

    def boolean(self) -> bool:
        """Return true or false."""
        if self.value in ("true", "false"):
            return self.value == "true"
        raise self.error(f"is {self.describe()}; right would be true or false")

    def describe(self) -> str:
        """Say what this is, for messages."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        return f'"{self.value}"' if self.value else "empty"


def parse(text: str, file: str) -> Node:
    """Read one YAML document. Raises ProfileError naming file and line of what is wrong."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ProfileError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ProfileError(f"{file}:1: not valid YAML: {' '.join(str(error).split())}") from None
    if root is None:
        raise ProfileError(f"{file}:1: the file is empty; right would be a device profile")
    return _Builder(file).build(root, "", 0)


class _Builder:
    """Turns composed YAML nodes into `Node`s, within bounds that aliases can't blow up."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def build(self, raw: yaml.Node, key: str, depth: int) -> Node:
        """Convert one node and everything below it."""
        line = raw.start_mark.line + 1
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_NODES:
            raise ProfileError(f"{self._file}:{line}: nested too deeply or too large (aliases in a circle?)")
        if isinstance(raw, yaml.MappingNode):
            return Node(self._mapping(raw, key, depth), self._file, line, key)
        if isinstance(raw, yaml.SequenceNode):
            items = [self.build(item, f"{key}[{n}]", depth + 1) for n, item in enumerate(raw.value, 1)]
            return Node(items, self._file, line, key)
        text = str(raw.value)
        if raw.tag == "tag:yaml.org,2002:null" and text in ("~", "null"):
            text = ""
        return Node(text, self._file, line, key, quoted=getattr(raw, "style", None) in ("'", '"', "|", ">"))

    def _mapping(self, raw: yaml.MappingNode, key: str, depth: int) -> dict[str, Node]:
        result: dict[str, Node] = {}
        first_lines: dict[str, int] = {}
        for name_node, value_node in raw.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                raise ProfileError(f"{self._file}:{line}: {key or 'the file'}: a key must be a plain text")
            name = str(name_node.value)
            path = f"{key}.{name}" if key else name
            if name == "<<":
                raise ProfileError(
                    f"{self._file}:{line}: {path}: merge keys are not supported; write them out"
                )
            if name in first_lines:
                where = f"already given in line {first_lines[name]}"
                raise ProfileError(f"{self._file}:{line}: {path}: {where}; right would be to give it once")
            first_lines[name] = line
            built = self.build(value_node, path, depth + 1)
            # An alias stands where it is used, not where its anchor is; a block value begins after its key.
            result[name] = Node(built.value, built.file, line, path, built.quoted)
        return result


def merge(base: Node, change: Node) -> Node:
    """Lay `change` over `base`: mappings key by key, anything else replaced; an empty value removes a key."""
    if not (isinstance(base.value, dict) and isinstance(change.value, dict)):
        return change
    merged = dict(base.value)
    for name, node in change.value.items():
        if node.value == "" and not node.quoted:
            if name not in merged:
                raise node.error("is empty, which removes a key, but the base has no such key")
            del merged[name]
        else:
            merged[name] = merge(merged[name], node) if name in merged else node
    return Node(merged, change.file, change.line, change.key)
