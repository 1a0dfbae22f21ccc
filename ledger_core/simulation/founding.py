"""The street that a simulation begins with: members, meters and panels in a chain that is final already."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ledger_core.chain.index import BlockIndex, Entry
from ledger_core.chain.start import Start
from ledger_core.chain.verify import Verifier
from ledger_core.community import Founder, Genesis, Parameters
from ledger_core.keys import SoftwareSigner
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.records.assets import Asset
from ledger_core.records.block import decode_header
from ledger_core.records.codec import (
    Record,
    encode_body,
    open_envelope,
    record_message,
    record_prefix,
    sign_record,
)
from ledger_core.records.members import Member
from ledger_core.records.types import AssetKind, Carrier, Role
from ledger_core.records.votes import VOTE_NONCE, Vote
from ledger_core.rules.assemble import VoteSignature, assemble, bundle_votes, seal, search_nonce
from ledger_core.simulation.config import SimulationConfig
from ledger_core.simulation.memory_store import MemoryStore, Shelf

BEGIN = 1_800_000_000
"""A slot boundary: 2027-01-15 08:00 UTC."""

MAX_FOUNDERS = 256
HOUSEHOLD = int(Role.HOME | Role.NODE)
RECORDS_PER_BLOCK = 1500


@dataclass(frozen=True)
class Home:
    """One home's keys; the same for the same seed."""

    number: int
    key: SoftwareSigner
    node: SoftwareSigner
    meter_key: SoftwareSigner
    meter: bytes
    panels: bytes


def make_home(seed: int, number: int) -> Home:
    """Return the keys of a home of a simulation."""

    def secret(what: str) -> bytes:
        return sha256(f"energy-ledger/simulation/{seed}/{number}/{what}".encode()).digest()

    return Home(
        number,
        SoftwareSigner(secret("home")),
        SoftwareSigner(secret("node")),
        SoftwareSigner(secret("meter")),
        secret("meter asset")[:16],
        secret("panels")[:16],
    )


class Street:
    """The founded community: copies of its chain are where the nodes begin."""

    def __init__(self, config: SimulationConfig, verifier: Verifier) -> None:
        self.homes = [make_home(config.seed, number) for number in range(config.nodes)]
        self._verifier = verifier
        self._nonce = 0
        parameters = Parameters(
            block_spacing_s=config.block_spacing_s,
            checkpoint_interval=config.checkpoint_interval,
            min_difficulty_bits=1,
            difficulty_half_life_s=max(3600, 2 * config.block_spacing_s),
        )
        founders = tuple(
            Founder(
                home.key.public_key,
                HOUSEHOLD | (Role.AUTHORITY if home.number == 0 else 0),
                home.node.public_key,
                sha256(str(home.number).encode()).digest(),
            )
            for home in self.homes[:MAX_FOUNDERS]
        )
        self.genesis = Genesis("Simulated street", "EUR", BEGIN, parameters, founders)
        self.prefix = record_prefix(self.genesis.chain_id)
        self._store = MemoryStore(self.genesis, Shelf())
        self._chain = FollowedChain.open(self._store, verifier)
        self._now = BEGIN
        self._found()
        self.now = float(self._now + config.block_spacing_s)
        self.height = self._chain.height

    def begin(self) -> tuple[FollowedChain, MemoryStore]:
        """Return a chain and store of one node's own, at the end of the founding."""
        store = self._store.twin()
        index, tip = _copy_index(self._chain.index, self._chain.tip_hash, store)
        start = Start(self._chain.state.copy(), index, tip)
        return FollowedChain(store, start, self._verifier), store

    def sign(
        self, kind: type[Any], author: SoftwareSigner, /, *cosigners: SoftwareSigner, **fields: Any
    ) -> Record:
        """Return a signed record of the founding."""
        self._nonce += 1
        body = kind(author=author.public_key, created=self._now, nonce=self._nonce.to_bytes(8), **fields)
        return open_envelope(sign_record(body, self.genesis.chain_id, author, cosigners), self.prefix)

    def _found(self) -> None:
        interval = self.genesis.parameters.checkpoint_interval
        waiting = [*self._members(), *self._assets()]
        first_final = interval
        while waiting or self._chain.state.tip.final < first_final:
            part, waiting = waiting[:RECORDS_PER_BLOCK], waiting[RECORDS_PER_BLOCK:]
            self._mine(part)
            if waiting:
                # Every node must have joined below a checkpoint that is final in the end.
                first_final = (self._chain.height // interval + 1) * interval

    def _members(self) -> list[Record]:
        authority = self.homes[0].key
        return [
            self.sign(
                Member,
                authority,
                home.key,
                member=home.key.public_key,
                roles=HOUSEHOLD,
                node=home.node.public_key,
                name_hash=sha256(str(home.number).encode()).digest(),
                location=None,
                invitation=None,
            )
            for home in self.homes[MAX_FOUNDERS:]
        ]

    def _assets(self) -> list[Record]:
        common: dict[str, Any] = {
            "carrier": Carrier.ELECTRICITY,
            "curve": (),
            "energy_wh": None,
            "capacity_wh": None,
            "location": None,
            "supersedes": None,
        }
        meters = [
            self.sign(
                Asset,
                home.key,
                asset=home.meter,
                kind=AssetKind.METER,
                rating_w=20_000,
                meter=None,
                meter_key=home.meter_key.public_key,
                **common,
            )
            for home in self.homes
        ]
        panels = [
            self.sign(
                Asset,
                home.key,
                asset=home.panels,
                kind=AssetKind.PV,
                rating_w=10_000,
                meter=home.meter,
                meter_key=None,
                **common,
            )
            for home in self.homes
        ]
        return [*meters, *panels]

    def _mine(self, records: list[Record]) -> None:
        """Mine the next block, a second after the last: the difficulty must stand above its floor."""
        self._now += 1
        state = self._chain.state
        miner = self.homes[0].node
        bundles = bundle_votes(self._votes(), state.node_keys.get)
        template = assemble(state, records, bundles, miner.public_key, self._now)
        if template.refused:
            raise template.refused[0][1]
        header = search_nonce(template.header)
        if header is None:
            raise ValueError("the floor of the difficulty is too high to found a street")
        self._chain.add_block(seal(header, template.body, miner), self._now)
        self._chain.take_outcomes()

    def _votes(self) -> list[VoteSignature]:
        """Return everybody's vote for the last checkpoint, if it has not been justified yet."""
        state = self._chain.state
        target = max(height for height in state.checkpoints if height <= state.tip.height)
        if state.checkpoints[target].justified:
            return []
        source = state.tip.justified
        votes = []
        for home in self.homes:
            if home.node.public_key not in state.node_keys:
                continue
            vote = Vote(
                home.node.public_key,
                state.checkpoints[target].time,
                VOTE_NONCE,
                source,
                state.checkpoints[source].hash,
                target,
                state.checkpoints[target].hash,
            )
            message = record_message(self.genesis.chain_id, encode_body(vote))
            votes.append((vote, home.node.sign(message)))
        return votes


def _copy_index(index: BlockIndex, tip: bytes, store: MemoryStore) -> tuple[BlockIndex, Entry]:
    root = index.root
    copied = Entry(root.hash, root.height, None, root.times, root.work, root.arrival)
    copied.justified, copied.counting = root.justified, root.counting
    twin = BlockIndex(copied)
    for entry in sorted(index, key=lambda entry: entry.height):
        if entry is root or entry.parent is None:
            continue
        parent = twin.get(entry.parent.hash)
        block = store.block(entry.hash)
        if parent is None or block is None:
            raise ValueError("the founding chain has a gap")
        made = twin.add(entry.hash, decode_header(block.header), parent, entry.arrival)
        made.justified, made.counting = entry.justified, entry.counting
        made.links, made.new_nodes, made.departures = dict(entry.links), entry.new_nodes, entry.departures
    found = twin.get(tip)
    if found is None:
        raise ValueError("the founding chain has no tip")
    return twin, found
