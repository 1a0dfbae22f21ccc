"""A data directory that was copied and started twice never votes twice for different things."""

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger_core.community import Parameters
from tests.node.peer_world import free_ports
from tests.node.processes import FAST, NodeProcess, street

CALM = replace(FAST, block_spacing_s=2, min_difficulty_bits=16)
"""Blocks far enough apart that two copies, who can't talk to each other, see one branch when they vote."""

CALM_S = 120.0
"""A hang's guard: miners are nice, and get little of a busy machine."""

HASTY = replace(FAST, min_difficulty_bits=10)
"""Blocks so close that there are forks all the time, and checkpoints come within a second or two."""

STOPPED = "this node does not vote any more"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("parameters", [CALM, HASTY], ids=["calm", "hasty"])
async def test_a_copy_gives_itself_away_and_nobody_votes_in_two_ways(
    tmp_path: Path, parameters: Parameters
) -> None:
    async with street(tmp_path, 3, parameters) as homes:
        await homes.until(lambda: homes.all_final(4), "they agree", CALM_S)
        original = homes[2].node
        assert await original.stop() == 0
        directory = tmp_path / "copy"
        shutil.copytree(original.directory, directory)
        copy = NodeProcess(directory, "copy", free_ports(1)[0], peers=original.settings["peers"])
        try:
            await original.start()
            await copy.start()

            def noticed() -> bool:
                return STOPPED in copy.log or STOPPED in original.log

            await homes.until(noticed, "one of them sees that it is not alone", CALM_S)
            stopped, other = (copy, original) if STOPPED in copy.log else (original, copy)
            status = await stopped.status()
            assert status.voting_hold == "other_copy"
            assert status.voting_blocked is not None
            assert "--resume-voting" in status.voting_blocked
            # The owner ends the other one, and says so.
            await other.stop()
            await stopped.stop()
            stopped.flags = ["--resume-voting"]
            await stopped.start()
            before = (await stopped.status()).final
            await homes.until(lambda: homes.all_final(before + 4), "they agree again", CALM_S)
            assert (await stopped.status()).voting_hold in {None, "watching"}
        finally:
            await copy.close()
        for household in homes:
            assert "votes that conflict" not in household.node.log
        member = await homes[0].node.client.member(homes[2].key.public_key.hex())
        assert "node" in member.roles
