"""Reading the keys of one mapping of a profile: known keys only, each of the right kind."""

from __future__ import annotations

import difflib
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..errors import ProfileError
    from .tree import Node


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" for a near miss, else the list of what is known."""
    names = [name for name in known if name]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else f"known are {', '.join(sorted(names))}"


class Keys:
    """The keys of one mapping; a key outside `known` is an error at once."""

    def __init__(self, node: Node, known: Iterable[str]) -> None:
        """Check that every key of `node` is known."""
        self.node = node
        self._nodes = node.mapping()
        known = tuple(known)
        for name, child in self._nodes.items():
            if name not in known:
                raise child.error(f'unknown key "{name}"; {did_you_mean(name, known)}')

    def __contains__(self, name: str) -> bool:
        """Whether the key is given."""
        return name in self._nodes

    def get(self, name: str) -> Node | None:
        """Return the node of a key that may be missing."""
        return self._nodes.get(name)

    def need(self, name: str) -> Node:
        """Return the node of a key that must be there."""
        node = self._nodes.get(name)
        if node is None:
            raise self.node.error(f'"{name}" is missing')
        return node

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        node = self._nodes.get(name)
        return default if node is None else node.text()

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; one text alone is a list of one."""
        node = self._nodes.get(name)
        if node is None:
            return ()
        if isinstance(node.value, str):
            return (node.text(),)
        return tuple(item.text() for item in node.sequence())

    def integer(self, name: str, low: int, high: int, default: int) -> int:
        """Return a whole number within bounds."""
        node = self._nodes.get(name)
        return default if node is None else node.integer(low, high)

    def maybe_integer(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number within bounds, or None when the key is not given."""
        node = self._nodes.get(name)
        return None if node is None else node.integer(low, high)

    def integers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of whole numbers; one number alone is a list of one."""
        node = self._nodes.get(name)
        if node is None:
            return ()
        items = node.sequence() if isinstance(node.value, list) else [node]
        return tuple(item.integer(low, high) for item in items)

    def number(self, name: str, default: Fraction) -> Fraction:
        """Return an exact number."""
        node = self._nodes.get(name)
        return default if node is None else node.number()

    def seconds(self, name: str, default: float, high: float = 86_400) -> float:
        """Return a time in seconds, given in seconds (`…_s`) or milliseconds (`…_ms`)."""
        node = self._nodes.get(name)
        if node is None:
            return default
        value = float(node.number())
        if name.endswith("_ms"):
            value /= 1000
        if not 0 <= value <= high:
            raise node.error(f"is {node.value}; right would be a time from 0 to {high:g} s")
        return value

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Return true or false."""
        node = self._nodes.get(name)
        return default if node is None else node.boolean()

    def choice[E: StrEnum](self, name: str, kind: type[E], default: E) -> E:
        """Return one of an enumeration's words."""
        chosen = self.maybe_choice(name, kind)
        return default if chosen is None else chosen

    def maybe_choice[E: StrEnum](self, name: str, kind: type[E]) -> E | None:
        """Return one of an enumeration's words, or None when the key is not given."""
        node = self._nodes.get(name)
        return None if node is None else choose(node, kind)

    def error(self, name: str, problem: str) -> ProfileError:
        """Make an error at a key, or at the mapping when the key is not given."""
        return (self._nodes.get(name) or self.node).error(problem)


def choose[E: StrEnum](node: Node, kind: type[E]) -> E:
    """Return the enumeration's member that the node names, or say which words there are."""
    word = node.text()
    try:
        return kind(word)
    except ValueError:
        raise node.error(f'"{word}" is not known; {did_you_mean(word, [e.value for e in kind])}') from None
