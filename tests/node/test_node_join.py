"""Newcomers: by invitation, by snapshot and in full; and everybody who is refused."""

import time
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger_core.chain.store.opening import open_store
from ledger_core.client.local import prepare_joining
from ledger_core.community import Founder, Genesis
from ledger_core.node import data_directory
from ledger_core.node.data_directory import STAGED
from ledger_core.node.engine.staging import SEALED_BYTES
from ledger_core.node.messages import MAX_BODIES
from ledger_core.records.types import Role
from tests.node.gate import Gate
from tests.node.grown import grow
from tests.node.peer_world import free_ports
from tests.node.processes import QUICK, Household, NodeProcess, Street, is_there, make_street, seeded, street


def newcomer(homes: Street, directory: Path, text: str, **settings: object) -> Household:
    """A household whose node has an invitation and does not run yet."""
    joining = prepare_joining(directory, text)
    port = free_ports(1)[0]
    household = Household(
        directory.name, NodeProcess(directory, directory.name, port, **settings), joining.node_key
    )
    homes.households.append(household)
    return household


async def invitation(homes: Street, port: int | None = None) -> str:
    addresses = [f"127.0.0.1:{port or homes[0].node.port}"]
    return await homes[0].home.make_invitation(int(time.time()) + 3600, addresses=addresses)


async def test_a_newcomer_joins_by_invitation_and_becomes_a_member(tmp_path: Path) -> None:
    async with street(tmp_path, 2) as homes:
        text = await invitation(homes)
        new = newcomer(homes, tmp_path / "newcomer", text)
        await new.node.start()
        await homes.until(lambda: homes.all_linked(1), "linked")
        record = await new.home.join(text, "The new ones", node=new.node_key)
        height = await homes.final_height_of(record)
        await new.node.logged("this node is a member's")
        assert await homes.same_state(height)
        await homes.until(
            lambda: not (new.node.directory / "invitation").exists(), "the invitation is used up"
        )
        member = await homes[1].node.client.member(new.home.address)
        assert member.node is not None
        assert member.node.key == new.node_key.hex()
        # From now on it is like any other: it knows the others still after a restart.
        assert await new.node.stop() == 0
        await new.node.start()
        await homes.until(lambda: homes.all_linked(1), "linked again")
        peers = await homes[0].node.client.peers()
        assert [peer.guest for peer in peers if peer.node.key == new.node_key.hex()] == [False]


PAST = 400
"""More blocks than are asked for at once."""
HEADERS_BYTES = PAST * SEALED_BYTES
OTHERS = 250
"""Further members, so that the state does not fit into what a gate lets through at once."""
TALK_BYTES = 8000
"""More than what a newcomer that has the headers is told before the state comes."""
BODY_BYTES = 130
"""What a body of this past takes in a message, about."""


@pytest.mark.parametrize("full", [False, True], ids=["by snapshot", "in full"])
async def test_a_newcomer_syncs_is_killed_half_way_and_resumes(tmp_path: Path, *, full: bool) -> None:
    homes = await make_street(
        tmp_path, 3, QUICK, age_s=PAST, others=_residents(OTHERS), mining="no", snapshot_gap=50
    )
    state_hash = grow(homes, PAST)
    state_bytes = _snapshot_bytes(homes)
    assert state_bytes > 2 * TALK_BYTES
    gate = Gate(homes[0].node.port)
    await gate.start()
    try:
        await homes.start()
        text = await invitation(homes, gate.port)
        new = newcomer(homes, tmp_path / "newcomer", text, snapshot_gap=50, mining="no")
        new.node.flags = ["--full"] if full else []
        some = (MAX_BODIES + PAST) // 2 * BODY_BYTES
        gate.allow(HEADERS_BYTES + some if full else HEADERS_BYTES + 4000)
        await new.node.start()
        staged = new.node.directory / STAGED
        if full:
            await homes.until(lambda: _above(new, 0), "some blocks have come")
        else:
            await homes.until(lambda: staged.exists() and staged.stat().st_size > 0, "headers have come")
        await new.node.crash()
        gate.shut()
        await new.node.start()
        # What was there is there still.
        assert await _above(new, 0) is full
        assert staged.exists() is not full
        before = gate.passed
        if not full:
            # Once more, while the state is on its way.
            gate.allow(state_bytes)
            gate.open()
            await homes.until(lambda: gate.passed > before + TALK_BYTES, "a part of the state has come")
            await new.node.crash()
            gate.shut()
            assert gate.passed - before < state_bytes
            await new.node.start()
            assert not await _above(new, 0)
            before = gate.passed
        gate.allow(None)
        gate.open()
        await homes.until(lambda: homes.all_at(PAST), "synced")
        assert await new.node.state_hash(PAST) == state_hash
        assert ("the chain begins at the proven snapshot" in new.node.log) is not full
        first = await new.node.client.block(1)
        assert (first.records is None) is not full
        if not full:
            assert state_bytes < gate.passed - before < state_bytes + HEADERS_BYTES // 2
    finally:
        await homes.close()
        await gate.stop()


def _residents(number: int) -> list[Founder]:
    """Members without a node."""
    keys = [seeded(f"resident {index}").public_key for index in range(number)]
    return [Founder(key, int(Role.HOME), None, sha256(key).digest()) for key in keys]


def _snapshot_bytes(homes: Street) -> int:
    """Size of the nodes' newest snapshot, before they run."""
    with open_store(homes[0].node.directory, homes.genesis) as store:
        return len(store.snapshot(store.snapshots()[0].hash))


async def _above(household: Household, height: int) -> bool:
    status = await household.node.status()
    return status.tip.height > height < status.target_height


async def test_who_is_refused_is_told_why_on_both_sides(tmp_path: Path) -> None:
    async with street(tmp_path, 2) as homes:
        asked = homes[0].node
        peers = f"127.0.0.1:{asked.port}"

        async def refused(name: str, genesis: Genesis, code: str, program: str = "ledger_core.cli") -> None:
            directory = tmp_path / name
            data_directory.found(directory, genesis)
            node = NodeProcess(directory, name, free_ports(1)[0], peers=peers)
            node.program = program
            await node.start()
            try:
                await node.logged(f"refuses this node: {code}: ")
                await asked.logged(f": {code}: ")
            finally:
                await node.close()

        await refused("stranger", homes.genesis, "not_a_member")
        foreign = replace(homes.genesis, name="Another street")
        await refused("foreigner", foreign, "wrong_chain")
        await refused("elder", homes.genesis, "protocol_version", "tests.node.older_node")
        record = await homes[0].home.revoke(homes[1].key.public_key)
        await asked.logged("revoked: the member")
        await homes[1].node.logged("refuses this node: revoked: ")
        await homes.until(lambda: is_there(homes[0].node.client.record(record)), "the record")
