"""Merkle tree over the contents of a block, after RFC 6962 (section 2.1).

Leaves and nodes are hashed with different prefixes and the header commits to the number of leaves, so that
neither an inner node nor a doubled leaf can pass for another tree (CVE-2012-2459).
"""

from collections.abc import Sequence
from hashlib import sha256

LEAF = b"\x00"
NODE = b"\x01"
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of one leaf's data."""
    return sha256(LEAF + data).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes; an odd node is carried up unchanged."""
    level = list(leaves)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        paired = [sha256(NODE + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]


def merkle_branch(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the sibling hashes from a leaf to the root, lowest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    branch: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            branch.append(level[sibling])
        paired = [sha256(NODE + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
        index //= 2
    return branch


def root_from_branch(leaf: bytes, index: int, count: int, branch: Sequence[bytes]) -> bytes | None:
    """Return the root that a branch proves for a leaf, or None where its length does not fit the count."""
    if not 0 <= index < count:
        return None
    node = leaf
    rest = list(branch)
    while count > 1:
        if index ^ 1 < count:
            if not rest:
                return None
            sibling = rest.pop(0)
            node = sha256(NODE + (sibling + node if index % 2 else node + sibling)).digest()
        index //= 2
        count = (count + 1) // 2
    return None if rest else node
