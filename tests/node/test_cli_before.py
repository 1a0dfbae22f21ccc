"""A wrong command line is refused before anything is done: nothing is signed, sent or written then."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger_core.client import NodeClient
from ledger_core.keys import address, save_key
from tests.core.world import asset_id, signer
from tests.node.api_world import TOKEN
from tests.node.cli_world import CliWorld, cli_world, run_command

HOUR = ("--from", "tomorrow 18:00", "--to", "tomorrow 19:00")


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[CliWorld]:
    async with cli_world(tmp_path) as made:
        yield made


async def waiting_records(cli: CliWorld) -> int:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        return (await client.status()).waiting_records


async def test_how_long_to_wait_is_read_before_money_is_sent(cli: CliWorld) -> None:
    pay = ("transfer", address(cli.world["bert"].id), "1", "--key", cli.key("anna"))
    done = await cli(*pay, "--wait", "--wait-for", "soon")
    assert (done.code, "--wait-for: 'soon' is not a time span" in done.err) == (2, True)
    assert await waiting_records(cli) == 0


async def test_until_when_other_terms_may_be_confirmed_needs_other_terms(cli: CliWorld) -> None:
    made = await cli.act("anna", "offer", "--energy", "4", *HOUR, "--price", "0.2")
    closes = ("--auction-closes", "tomorrow 12:00", "--ceiling", "0.5")
    auction = await cli.act("anna", "offer", "--energy", "4", *HOUR, "--price", "0.3", *closes)
    for offer, given in ((made, ()), (made, ("--quantity", "4")), (auction, ("--price", "0.4"))):
        done = await cli(
            "accept", offer["record"], "--key", cli.key("bert"), *given, "--valid-until", "tomorrow 10:00"
        )
        assert (done.code, "--valid-until is for other terms" in done.err) == (2, True), done.err
    assert await waiting_records(cli) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--change",), "--change: say what changes"),
        (("--retire", "--rating", "5"), "--retire changes nothing else"),
        (("--retire", "--meter", "ab" * 16), "--retire changes nothing else"),
    ],
)
async def test_a_change_of_an_asset_changes_something_and_its_retirement_nothing_else(
    cli: CliWorld, given: tuple[str, ...], message: str
) -> None:
    which, *more = given
    done = await cli("asset", which, asset_id("anna").hex(), *more, "--key", cli.key("anna"))
    assert (done.code, message in done.err) == (2, True), done.err
    assert await waiting_records(cli) == 0


async def test_how_a_newcomer_joins_is_read_before_its_directory_is_made(cli: CliWorld) -> None:
    invitation = (await cli("invite", "--key", cli.key("anna"), "--roles", "home, node", "--json")).json
    dora, data = cli.directory / "dora.key", cli.directory / "dora"
    save_key(dora, signer("dora"))
    join = ("join", invitation["invitation"], "--data", data, "--key", dora, "--name", "No. 4")
    for wrong in (("--start-within", "soon"), ("--wait-for", "soon"), ("--roles", "king")):
        assert wrong[1] in (await asyncio.to_thread(run_command, *join, *wrong)).error
        assert not data.exists()
    # As `invite` takes them.
    assert "is ready for" in (await asyncio.to_thread(run_command, *join, "--roles", "home, node")).out
