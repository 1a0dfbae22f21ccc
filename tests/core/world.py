"""A small community for tests: members with keys, assets, and blocks mined at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ledger_core.community import Founder, Genesis, Parameters
from ledger_core.keys import SoftwareSigner
from ledger_core.records.assets import Asset
from ledger_core.records.block import Block
from ledger_core.records.body import Body
from ledger_core.records.codec import (
    Envelope,
    Record,
    open_envelope,
    record_message,
    record_prefix,
    sign_record,
)
from ledger_core.records.readings import Quality, Reading, ReadingRow, Stored
from ledger_core.records.types import AssetKind, Carrier, Role
from ledger_core.records.votes import VOTE_NONCE, Vote, VoteBundle
from ledger_core.rules.apply import Applied, apply_block
from ledger_core.rules.assemble import VoteSignature, assemble, bundle_votes, seal, search_nonce
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import PreparedBlock, prepare_block
from ledger_core.rules.state import State

START = 1_800_000_000
"""A slot boundary (2027-01-15 08:00 UTC)."""

HOUSEHOLD = int(Role.HOME | Role.NODE)

TEST_PARAMETERS = Parameters(
    block_spacing_s=30,
    checkpoint_interval=4,
    min_difficulty_bits=1,
    difficulty_half_life_s=3600,
    termination_permille=1000,  # what golden/ keeps the bytes of was founded so
)


def signer(name: str) -> SoftwareSigner:
    """A key that is the same in every run."""
    return SoftwareSigner(sha256(name.encode()).digest())


def asset_id(name: str) -> bytes:
    """An asset id that is the same in every run."""
    return sha256(b"asset " + name.encode()).digest()[:16]


@dataclass
class Home:
    """One member with the keys of its node and its meter."""

    name: str
    key: SoftwareSigner = field(init=False)
    node: SoftwareSigner = field(init=False)
    meter_key: SoftwareSigner = field(init=False)

    def __post_init__(self) -> None:
        self.key = signer(self.name)
        self.node = signer(self.name + " node")
        self.meter_key = signer(self.name + " meter")

    @property
    def id(self) -> bytes:
        return self.key.public_key

    @property
    def meter(self) -> bytes:
        return asset_id(self.name + " meter")


class World:
    """A chain of one branch, with the state at its tip."""

    def __init__(
        self,
        names: Sequence[str] = ("anna", "bert", "cara"),
        parameters: Parameters = TEST_PARAMETERS,
        created: int = START,
        **genesis: Any,
    ) -> None:
        self.homes = {name: Home(name) for name in names}
        founders = tuple(
            Founder(
                home.id,
                HOUSEHOLD | (Role.AUTHORITY if position == 0 else 0),
                home.node.public_key,
                sha256(home.name.encode()).digest(),
            )
            for position, home in enumerate(self.homes.values())
        )
        self.genesis = Genesis(genesis.get("name", "Test street"), "EUR", created, parameters, founders)
        self.chain_id = self.genesis.chain_id
        self.prefix = record_prefix(self.chain_id)
        self.state: State = genesis_state(self.genesis)
        self.now = created
        self.blocks: list[Block] = []
        self.applied: list[Applied] = []
        self._nonce = 0

    def __getitem__(self, name: str) -> Home:
        return self.homes[name]

    def nonce(self) -> bytes:
        """A fresh nonce, the same in every run."""
        self._nonce += 1
        return self._nonce.to_bytes(8)

    def body[B: Body](self, kind: type[B], author: SoftwareSigner, /, **fields: Any) -> B:
        """A body by this author, created now."""
        fields.setdefault("created", self.now)
        fields.setdefault("nonce", self.nonce())
        return kind(author=author.public_key, **fields)

    def sign(self, body: Body, author: SoftwareSigner, *cosigners: SoftwareSigner) -> Record:
        """A signed record, opened."""
        return open_envelope(sign_record(body, self.chain_id, author, cosigners), self.prefix)

    def make(
        self, kind: type[Body], author: SoftwareSigner, /, *cosigners: SoftwareSigner, **fields: Any
    ) -> Record:
        """A signed record of a kind."""
        return self.sign(self.body(kind, author, **fields), author, *cosigners)

    def opened(self, envelope: Envelope) -> Record:
        return open_envelope(envelope, self.prefix)

    def prepare(self, block: Block) -> PreparedBlock:
        nodes = {index: node.key for index, node in self.state.nodes.items()}
        return prepare_block(block, self.genesis, self.chain_id, nodes)

    def block(
        self,
        *records: Record,
        bundles: Iterable[VoteBundle] = (),
        miner: str | None = None,
        step: int = 30,
    ) -> Block:
        """The next block; raises the refusal of a record that the rules do not take."""
        self.now += step
        key = self.homes[miner or next(iter(self.homes))].node
        template = assemble(self.state, records, tuple(bundles), key.public_key, self.now)
        if template.refused:
            raise template.refused[0][1]
        header = search_nonce(template.header)
        assert header is not None
        return seal(header, template.body, key)

    def apply(self, block: Block) -> Applied:
        applied = apply_block(self.state, self.prepare(block), self.now)
        self.blocks.append(block)
        self.applied.append(applied)
        return applied

    def mine(self, *records: Record, bundles: Iterable[VoteBundle] = (), **options: Any) -> Applied:
        """Mine and apply the next block."""
        return self.apply(self.block(*records, bundles=bundles, **options))

    def vote(self, name: str, source: int, target: int) -> VoteSignature:
        """A home's node's vote for a link between two checkpoints of the branch."""
        checkpoints = self.state.checkpoints
        node = self.homes[name].node
        vote = Vote(
            node.public_key,
            checkpoints[target].time,
            VOTE_NONCE,
            source,
            checkpoints[source].hash,
            target,
            checkpoints[target].hash,
        )
        message = record_message(self.chain_id, self.encode(vote))
        return vote, node.sign(message)

    @staticmethod
    def encode(body: Body) -> bytes:
        from ledger_core.records.codec import encode_body

        return encode_body(body)

    def votes(self, source: int, target: int, names: Iterable[str] | None = None) -> tuple[VoteBundle, ...]:
        """The votes of some homes (all) for a link, as a block carries them."""
        return bundle_votes(
            [self.vote(name, source, target) for name in names or self.homes], self.state.node_keys.get
        )

    def meter_record(self, name: str, rating_w: int = 20_000, **fields: Any) -> Record:
        home = self.homes[name]
        values: dict[str, Any] = {
            "asset": home.meter,
            "kind": AssetKind.METER,
            "carrier": Carrier.ELECTRICITY,
            "rating_w": rating_w,
            "curve": (),
            "energy_wh": None,
            "capacity_wh": None,
            "meter": None,
            "meter_key": home.meter_key.public_key,
            "location": None,
            "supersedes": None,
        }
        return self.make(Asset, home.key, **{**values, **fields})

    def asset_record(
        self,
        name: str,
        what: str = "pv",
        kind: AssetKind = AssetKind.PV,
        rating_w: int = 10_000,
        **fields: Any,
    ) -> Record:
        home = self.homes[name]
        values: dict[str, Any] = {
            "asset": asset_id(f"{name} {what}"),
            "kind": kind,
            "carrier": Carrier.ELECTRICITY,
            "rating_w": rating_w,
            "curve": (),
            "energy_wh": None,
            "capacity_wh": None,
            "meter": home.meter,
            "meter_key": None,
            "location": None,
            "supersedes": None,
        }
        return self.make(Asset, home.key, **{**values, **fields})

    def reading(
        self, name: str, rows: Sequence[tuple[int, int, int]], stored: Sequence[Stored] = (), **fields: Any
    ) -> Record:
        """A meter's boundaries: (end, import Wh, export Wh)."""
        home = self.homes[name]
        return self.make(
            Reading,
            home.meter_key,
            meter=home.meter,
            rows=tuple(ReadingRow(*row, Quality.MEASURED) for row in rows),
            stored=tuple(stored),
            **fields,
        )
