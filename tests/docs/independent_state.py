"""The state of a community in which only blocks are mined and votes are cast, kept by docs/rules.md alone.

Enough to know a checkpoint's state hash and what is final, and so to mine and vote beside real nodes.
"""

import struct
from typing import Any

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from tests.docs.independent import Community, H, encode, need
from tests.docs.independent_chain import Header

CHAIN, MEMBERS, NODES, LAST_VOTES, CHECKPOINTS, TALLIES = 0, 1, 2, 3, 15, 16
"""Numbers of the tables that are not empty here."""
HEIGHT, HASH, TIMES, SETTLED, SEQUENCE, DEADLINE, ISSUED, JUSTIFIED, FINAL = range(9)
"""Fields of the only row of `chain`."""
JOINED, COUNTS = 2, 3


class State:
    """The tables, by number; rows are arrays as the page on formats tells."""

    def __init__(self, community: Community) -> None:
        """Begin with the state that the genesis stands for."""
        self.community = community
        given, created = community.parameters, community.created
        self.tables: dict[int, dict[Any, Any]] = {
            each: {} for each in (CHAIN, MEMBERS, NODES, LAST_VOTES, CHECKPOINTS, TALLIES)
        }
        for index, (member, roles, node, name_hash, location) in enumerate(community.founders):
            self.tables[MEMBERS][member] = [index, roles, node, name_hash, location]
            if roles & 2:
                self.tables[NODES][index] = [member, node, 0, True]
                self.tables[LAST_VOTES][index] = created
        self.tables[CHECKPOINTS][0] = [community.chain_id, created, True]
        settled = created // given["slot_s"] * given["slot_s"]
        self.tables[CHAIN][0] = [0, community.chain_id, [created], settled, 0, created, 0, 0, 0]

    @property
    def chain(self) -> list[Any]:
        """The row of `chain`."""
        row: list[Any] = self.tables[CHAIN][0]
        return row

    def hash(self) -> bytes:
        """Return the state hash; no ids are remembered, for there are no records."""
        digests = b"".join(
            struct.pack(">H", number)
            + H(encode([[list(key) if isinstance(key, tuple) else key, rows[key]] for key in sorted(rows)]))
            for number, rows in sorted(self.tables.items())
            if rows
        )
        return H(b"energy-ledger/state/1\0", self.community.chain_id, digests, H())

    def apply(self, header: Header, block_hash: bytes, bundles: list[list[Any]]) -> None:
        """Apply a block without records."""
        given, chain = self.community.parameters, self.chain
        time = max(header.time, chain[DEADLINE])
        is_checkpoint = header.height % given["checkpoint_interval"] == 0
        need(header.state_hash == (self.hash() if is_checkpoint else bytes(32)), "its state hash")
        for bundle in bundles:
            self._count(bundle, time)
        slot = given["slot_s"]
        chain[SETTLED] = max(chain[SETTLED], (time - given["grace_s"]) // slot * slot)
        chain[HEIGHT], chain[HASH], chain[DEADLINE] = header.height, block_hash, time
        chain[TIMES] = [*chain[TIMES][-10:], header.time]
        if is_checkpoint:
            self.tables[CHECKPOINTS][header.height] = [block_hash, header.time, False]

    def _count(self, bundle: list[Any], time: int) -> None:
        created, source, source_hash, target, target_hash, votes = bundle
        checkpoints, tallies, chain = self.tables[CHECKPOINTS], self.tables[TALLIES], self.chain
        need(target > chain[FINAL] and source < target, "the link's heights")
        need(checkpoints[source][0] == source_hash and checkpoints[source][2], "the link's source")
        need(checkpoints[target][:2] == [target_hash, created], "the link's target")
        taken = 0
        for (other, _), bits in tallies.items():
            taken |= int.from_bytes(bits) if other == target else 0
        bits = int.from_bytes(tallies.get((target, source), b""))
        for at in range(0, len(votes), 66):
            (index,) = struct.unpack_from(">H", votes, at)
            need(index in self.tables[NODES] and not taken >> index & 1, "a voter")
            bits |= 1 << index
            self.tables[LAST_VOTES][index] = time
        tallies[target, source] = bits.to_bytes((bits.bit_length() + 7) // 8)
        self._justify(source, target, bits, time)

    def _justify(self, source: int, target: int, bits: int, time: int) -> None:
        checkpoints, chain = self.tables[CHECKPOINTS], self.chain
        neighbours = target - source == self.community.parameters["checkpoint_interval"]
        finalises = neighbours and source > chain[FINAL]
        if (checkpoints[target][2] and not finalises) or not self._quorum(bits, time):
            return
        checkpoints[target][2] = True
        chain[JUSTIFIED] = max(chain[JUSTIFIED], target)
        if finalises:
            chain[FINAL] = source
            for key in [key for key in self.tables[TALLIES] if key[0] <= source]:
                del self.tables[TALLIES][key]
            for height in [height for height in checkpoints if height < source]:
                del checkpoints[height]
            for node in self.tables[NODES].values():
                node[COUNTS] = node[COUNTS] or node[JOINED] <= source

    def _quorum(self, bits: int, time: int) -> bool:
        counting = [index for index, node in self.tables[NODES].items() if node[COUNTS]]
        since = time - self.community.parameters["silence_s"]
        active = [index for index in counting if self.tables[LAST_VOTES][index] >= since]
        given: int = sum(bits >> index & 1 for index in active)
        return 3 * given > 2 * len(active) and 2 * given > len(counting)

    def link(self, target: int) -> list[Any]:
        """Return the start of a bundle for the link from the highest justified checkpoint to a later one."""
        source = self.chain[JUSTIFIED]
        checkpoints = self.tables[CHECKPOINTS]
        return [checkpoints[target][1], source, checkpoints[source][0], target, checkpoints[target][0]]

    def vote(self, link: list[Any], index: int, seed: bytes) -> bytes:
        """Return a node's vote as a bundle holds it."""
        key, secret = crypto_sign_seed_keypair(seed)
        body = encode([12, key, link[0], bytes(8), *link[1:]])
        message = b"energy-ledger/record/1\0" + self.community.chain_id + body
        return struct.pack(">H", index) + crypto_sign(message, secret)[:64]
