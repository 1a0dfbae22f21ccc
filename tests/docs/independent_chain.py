"""The second half of the independent reader: blocks, difficulty, Merkle trees and the state hash.

As `independent`, written from docs/formats.md and docs/rules.md alone.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from tests.docs.independent import (
    BODY,
    SIGNATURE,
    Community,
    H,
    Record,
    bytes_of,
    decode,
    encode,
    need,
    read_genesis,
    read_record,
    structure,
    verify,
)

BLOCK = structure(bytes_of(158), SIGNATURE, bytes_of(0, 2**20))
HEADER = struct.Struct(">HI32s32sI32sQI32sQ")
BUCKETED = (4, 10, 18)


# Merkle trees


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of leaf hashes."""
    level = list(leaves)
    while len(level) > 1:
        pairs = [H(b"\1", level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + (level[-1:] if len(level) % 2 else [])
    return level[0] if level else H(b"")


def climb(leaf: bytes, index: int, count: int, branch: Iterable[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to."""
    rest = list(branch)
    while count > 1:
        if index ^ 1 < count:
            sibling = rest.pop(0)
            leaf = H(b"\1", sibling, leaf) if index % 2 else H(b"\1", leaf, sibling)
        index, count = index // 2, (count + 1) // 2
    need(not rest, "the proof has hashes too many")
    return leaf


# Work


def expand(compact: int) -> int:
    """Return the target in a header; only its one compact form is right."""
    exponent, mantissa = compact >> 24, compact & 0xFFFFFF
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    need(0 < target < 2**256 and shorten(target) == compact, "not the one form of a target")
    return target


def shorten(target: int) -> int:
    """Return a target's compact form."""
    exponent = (target.bit_length() + 7) // 8
    mantissa = (target << 24) >> 8 * exponent
    if mantissa & 0x800000:
        mantissa, exponent = mantissa >> 8, exponent + 1
    return exponent << 24 | mantissa


def work(compact: int) -> int:
    """Return the work of a block."""
    return 2**256 // (expand(compact) + 1)


def wanted_target(community: Community, parent_height: int, parent_time: int) -> int:
    """Return the compact target of the block after a parent, by ASERT."""
    given = community.parameters
    easiest: int = (2**256 - 1) >> given["min_difficulty_bits"]
    drift = parent_time - community.created - given["block_spacing_s"] * parent_height
    if drift >= 0:
        return shorten(easiest)
    exponent = -(-drift * 65536 // given["difficulty_half_life_s"])
    shifts = exponent >> 16
    if shifts < -512:
        return shorten(1)
    f = exponent - shifts * 65536
    factor = 65536 + ((195766423245049 * f + 971821376 * f**2 + 5127 * f**3 + 2**47) >> 48)
    target = easiest * factor << shifts if shifts > 0 else easiest * factor >> -shifts
    return shorten(min(max(target >> 16, 1), easiest))


# Blocks


@dataclass(frozen=True)
class Header:
    """A header's fields."""

    version: int
    height: int
    previous: bytes
    merkle_root: bytes
    count: int
    state_hash: bytes
    time: int
    target: int
    miner: bytes
    nonce: int


def read_header(data: bytes) -> Header:
    """Take a header apart."""
    need(len(data) == 158, "a header has 158 bytes")
    return Header(*HEADER.unpack(data))


def read_block_body(data: bytes, chain_id: bytes) -> tuple[list[Record], list[list[Any]], list[bytes]]:
    """Check a body; return its records, its vote bundles and the leaves of its Merkle tree."""
    body = decode(data)
    need(BODY(body), "a field of the body is out of its bounds")
    envelopes, bundles = body
    records = [read_record(envelope, chain_id) for envelope in envelopes]
    need(len({record.id for record in records}) == len(records), "a record stands twice")
    need(all(record.kind != "vote" for record in records), "a vote among the records")
    leaves = [record.leaf for record in records] + [H(b"\0", encode(bundle)) for bundle in bundles]
    return records, bundles, leaves


def votes_of(bundle: list[Any], nodes: dict[int, bytes], chain_id: bytes) -> list[int]:
    """Verify the votes of a bundle; return who voted, by member index."""
    created, *link, votes = bundle
    need(len(votes) % 66 == 0, "a vote has 66 bytes")
    voters = []
    for at in range(0, len(votes), 66):
        index, signature = struct.unpack(">H64s", votes[at : at + 66])
        body = encode([12, nodes[index], created, bytes(8), *link])
        message = b"energy-ledger/record/1\0" + chain_id + body
        need(verify(nodes[index], message, signature), f"the vote of {index} is not valid")
        voters.append(index)
    need(voters == sorted(set(voters)), "votes do not ascend")
    return voters


class Chain:
    """A branch that is read block by block from the genesis on."""

    def __init__(self, genesis: bytes) -> None:
        self.community = read_genesis(genesis)
        self.height = 0
        self.hash = self.community.chain_id
        self.times = [self.community.created]
        self.work = 0
        self.kinds: dict[str, int] = {}
        """Records read, by kind."""
        self.votes = 0
        self.members: dict[bytes, int] = {}
        """Members' indexes."""
        self.nodes: dict[int, bytes] = {}
        for member, roles, node, *_ in self.community.founders:
            self._take_member(member, roles, node)

    def add_header(self, data: bytes, signature: bytes) -> Header:
        """Check the header of the next block."""
        header = read_header(data)
        given = self.community.parameters
        need(header.version == 1 and header.height == self.height + 1, "version or height")
        need(header.previous == self.hash, "it does not follow its parent")
        need(header.time > sorted(self.times)[len(self.times) // 2], "its time is not above the median")
        need(header.target == wanted_target(self.community, self.height, self.times[-1]), "its target")
        is_checkpoint = header.height % given["checkpoint_interval"] == 0
        need(is_checkpoint or header.state_hash == bytes(32), "a state hash where none belongs")
        self.hash = H(data)
        need(int.from_bytes(self.hash) <= expand(header.target), "its hash is above its target")
        message = b"energy-ledger/block/1\0" + self.hash
        need(verify(header.miner, message, signature), "the miner's signature")
        self.height, self.work = header.height, self.work + work(header.target)
        self.times = [*self.times[-10:], header.time]
        return header

    def add(self, data: bytes) -> Header:
        """Check the next block."""
        block = decode(data)
        need(BLOCK(block), "a field of the block is out of its bounds")
        header_bytes, signature, body = block
        header = self.add_header(header_bytes, signature)
        need(len(body) <= self.community.parameters["block_max_bytes"], "its body is too large")
        records, bundles, leaves = read_block_body(body, self.community.chain_id)
        need(header.count == len(leaves), "its count")
        need(header.merkle_root == merkle_root(leaves), "its Merkle root")
        need(header.miner in self.nodes.values(), "its miner is no node")
        for bundle in bundles:
            self.votes += len(votes_of(bundle, self.nodes, self.community.chain_id))
        for record in records:
            self.kinds[record.kind] = self.kinds.get(record.kind, 0) + 1
            if record.kind == "member":
                self._take_member(*record.fields[3:6])
        return header

    def _take_member(self, member: bytes, roles: int, node: bytes | None) -> None:
        """Follow who has a node; whether the record may say so is not looked at."""
        index = self.members.setdefault(member, len(self.members))
        self.nodes.pop(index, None)
        if roles & 2 and node is not None:
            self.nodes[index] = node


def sign_record(body: list[Any], seed: bytes, chain_id: bytes) -> tuple[list[Any], bytes]:
    """Return the envelope of a record without co-signatures, decoded, and the record's id."""
    data = encode(body)
    message = b"energy-ledger/record/1\0" + chain_id + data
    return [data, crypto_sign(message, crypto_sign_seed_keypair(seed)[1])[:64], []], H(message)


def mine(
    chain: Chain,
    seed: bytes,
    now: int,
    envelopes: Sequence[list[Any]] = (),
    bundles: Sequence[list[Any]] = (),
    state_hash: bytes = bytes(32),
) -> list[bytes]:
    """Make the block after a chain's tip: header, signature, body."""
    community = chain.community
    key, secret = crypto_sign_seed_keypair(seed)
    body = encode([envelopes, bundles])
    _, _, leaves = read_block_body(body, community.chain_id)
    target = wanted_target(community, chain.height, chain.times[-1])
    for nonce in range(2**64):
        header = HEADER.pack(
            *(1, chain.height + 1, chain.hash, merkle_root(leaves), len(leaves), state_hash),
            *(now, target, key, nonce),
        )
        block_hash = H(header)
        if int.from_bytes(block_hash) <= expand(target):
            return [header, crypto_sign(b"energy-ledger/block/1\0" + block_hash, secret)[:64], body]
    raise AssertionError


# State


def state_hash(snapshot: bytes) -> bytes:
    """Return the state hash of a snapshot."""
    version, genesis, tables, ids = decode(snapshot)
    need(version == 1, "the snapshot's version")
    chain_id = read_genesis(genesis).chain_id
    digests = b""
    last = -1
    for number, data in tables:
        rows = decode(data)
        keys = [key for key, _ in rows]
        need(number > last and rows and keys == sorted(keys), "tables or rows do not ascend")
        last = number
        digests += struct.pack(">H", number) + (_by_bucket(rows) if number in BUCKETED else H(data))
    return H(b"energy-ledger/state/1\0", chain_id, digests, _ids_digest(ids))


def _by_bucket(rows: list[list[Any]]) -> bytes:
    buckets: list[list[Any]] = [[] for _ in range(64)]
    for key, row in rows:
        buckets[(key if isinstance(key, int) else key[0]) % 64].append([key, row])
    return H(*(H(encode(bucket)) if bucket else bytes(32) for bucket in buckets))


def _ids_digest(hours: list[list[Any]]) -> bytes:
    parts = []
    for hour, ids in hours:
        full = len(ids) // 64 * 64
        runs = [H(*ids[at : at + 64]) for at in range(0, full, 64)]
        parts.append(struct.pack(">QI", hour, len(ids)) + b"".join(runs) + H(*ids[full:]))
    return H(*parts)
