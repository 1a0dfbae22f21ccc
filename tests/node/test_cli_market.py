"""Offers, answers, trades, assets, money and history from the command line, against a real API."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger_core.cli.connection import whole_id
from ledger_core.cli.quantities import show_time
from ledger_core.client import NodeClient
from ledger_core.community import MoneyMode
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from tests.core.world import asset_id, signer
from tests.node.api_world import TOKEN
from tests.node.cli_world import SLOT, CliWorld, cli_world

HOUR = ("--from", "tomorrow 18:00", "--to", "tomorrow 19:00")


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[CliWorld]:
    async with cli_world(tmp_path) as made:
        yield made


async def test_an_offer_is_listed_accepted_and_traded(cli: CliWorld) -> None:
    assert (await cli("offers")).lines == ["nothing is offered"]
    made = await cli.act("anna", "offer", "--energy", "4", *HOUR, "--price", "0.2", "--least", "1kWh")
    assert made == {"record": made["record"], "state": "submitted", "height": None}
    head, row = (await cli("offers")).lines
    assert head.split()[:4] == ["id", "side", "by", "open"]
    assert row.startswith(made["record"][:12])
    for part in ("sell", "4 kWh", "18:00 - 19:00", "0.20 EUR/kWh", "parts from 1 kWh"):
        assert part in row
    listed = (await cli("offers", "--side", "sell", "--for", cli.key("bert"), "--json")).json["items"]
    assert [each["offer"] for each in listed] == [made["record"]]
    assert (await cli("offers", "--author", address(cli.world["bert"].id))).lines == ["nothing is offered"]
    assert (await cli("offers", "--carrier", "heat", "--from", "now", "--to", "+1h")).out.startswith(
        "nothing"
    )

    trade = await cli.act("bert", "accept", made["record"][:8], "--quantity", "1.5")
    assert (trade["kind"], trade["offer"]) == ("trade", made["record"])
    mine = (await cli("trades")).lines
    assert mine[1].startswith(trade["record"][:12])
    assert " sells " in mine[1]
    assert "1.5 kWh" in mine[1]
    theirs = (await cli("trades", "--member", cli.key("bert"))).lines
    assert " buys " in theirs[1]
    assert "sale" in (await cli("trades", "--all")).lines[1]
    assert (await cli("trades", "--member", cli.key("cara"))).lines == ["no trades"]

    withdrawn = await cli.act("anna", "withdraw", made["record"][:6])
    assert withdrawn["target"] == made["record"]
    assert (await cli("offers", "--json")).json == {"items": []}


async def test_other_terms_wait_and_are_answered(cli: CliWorld) -> None:
    made = await cli.act("anna", "offer", "--energy", "4", *HOUR, "--price", "0.2", "--least", "1")
    cheaper = await cli.act(
        "bert", "accept", made["record"], "--price", "0.15", "--quantity", "1", "--valid-until", "+2h"
    )
    later = await cli.act("cara", "accept", made["record"], "--from", "tomorrow 18:15")
    shorter = await cli.act("cara", "accept", made["record"], "--to", "tomorrow 18:45")
    assert cheaper["kind"] == "proposal"
    waiting = (await cli("waiting")).lines
    assert len(waiting) == 4
    assert all("to be answered" in line for line in waiting[1:])
    assert "to be confirmed" in (await cli("waiting", "--member", cli.key("bert"))).lines[1]
    await cli.act("anna", "confirm", cheaper["record"][:10])
    assert (await cli.act("anna", "reject", later["record"]))["acceptance"] == later["record"]
    await cli.act("cara", "withdraw", shorter["record"])
    assert (await cli("waiting")).lines == ["nothing waits"]
    assert [each["trade"] for each in (await cli("trades", "--json")).json["items"]] == [cheaper["record"]]


async def test_an_auction_and_bids(cli: CliWorld) -> None:
    made = await cli.act(
        "anna",
        *("offer", "--capacity", "2kW", *HOUR, "--price", "0.05", "--auction-closes", "tomorrow 12:00"),
        *("--ceiling", "0.1", "--reserve", "0.01", "--audience", cli.key("bert"), "--valid-until"),
        "tomorrow 15:00",
    )
    row = (await cli("offers")).lines[1]
    for part in ("2 kW ", "0.05 EUR/kW h", "auction until ", "not for all"):
        assert part in row
    wrong = await cli("accept", made["record"], "--key", cli.key("bert"))
    assert (wrong.code, "bid with --price" in wrong.err) == (2, True)
    bid = await cli.act("bert", "accept", made["record"], "--price", "0.06")
    assert bid["kind"] == "bid"
    assert (await cli("waiting")).lines[1].endswith("bid")
    assert "held" in (await cli("balance", "--member", cli.key("bert"))).out
    unseen = await cli("accept", made["record"], "--price", "0.06", "--key", cli.key("cara"))
    assert "no offer open to this member" in unseen.error


async def test_a_request_is_served_by_who_can(cli: CliWorld) -> None:
    made = await cli.act("bert", "offer", "--buy", "--energy", "2", *HOUR, "--price", "0.3")
    trade = await cli.act("anna", "accept", made["record"][:4])
    listed = (await cli("trades", "--json")).json["items"][0]
    assert (listed["trade"], listed["seller"]["key"]) == (trade["record"], cli.world["anna"].id.hex())
    refused = await cli("accept", made["record"], "--key", cli.key("cara"))
    assert "no offer open" in refused.error
    again = await cli.act("bert", "offer", "--buy", "--energy", "2", *HOUR, "--price", "0.3")
    unable = await cli("accept", again["record"], "--key", cli.key("cara"))
    assert "assets of this member that can supply electricity: none" in unable.error
    pv = asset_id("anna pv").hex()
    await cli.act("anna", "accept", again["record"], "--asset", pv[:6])


async def test_a_trade_ends_early(cli: CliWorld) -> None:
    made = await cli.act("anna", "offer", "--energy", "4", *HOUR, "--price", "0.2")
    trade = await cli.act("bert", "accept", made["record"])
    dear = await cli("terminate", trade["record"], "--key", cli.key("bert"), "--json")
    assert '"compensation_too_low"' in dear.error
    ended = await cli.act(
        "bert", "terminate", trade["record"][:9], "--end", "tomorrow 18:30", "--compensation", "0.40"
    )
    assert ended["trade"] == trade["record"]
    assert (await cli("trades")).lines[1].endswith("ended early")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--from", "tomorrow 18:05"), "--from: "),
        (("--to", "tomorrow 18:50"), "is no slot boundary; the nearest are "),
        (("--to", "tomorrow 17:00"), "the window ends before it starts"),
        (("--price", "cheap"), "--price: 'cheap' is not an amount"),
        (("--ceiling", "1"), "are for auctions"),
        (("--auction-closes", "+1h"), "needs --ceiling"),
        (("--least", "lots"), "--least: "),
        (("--timeout", "0"), "--timeout"),
        (("--data", "x"), "name two nodes"),
    ],
)
async def test_a_wrong_offer_is_refused_with_what_would_be_right(
    cli: CliWorld, changes: tuple[str, ...], message: str
) -> None:
    given = ("offer", "--energy", "4", *HOUR, "--price", "0.2", "--key", cli.key("anna"))
    done = await cli(*given, *changes)
    assert (done.code, message in done.err) == (2, True), done.err
    assert done.err.count("\n") == 1


async def test_refusals_of_rules_and_ids(cli: CliWorld) -> None:
    done = await cli("offer", "--energy", "90", *HOUR, "--price", "0.2", "--key", cli.key("anna"))
    assert (done.code, "kW wanted in the slot from " in done.err) == (1, True), done.err
    assert "10 kW left" in done.err
    given = ("offer", "--energy", "90", *HOUR, "--price", "0.2", "--key", cli.key("anna"))
    # Programs get the node's own words and figures.
    assert "10000 W left" in (await cli(*given, "--json")).error
    for part, message in (
        ("12", "at least its first four"),
        ("abcd", "no offer open"),
        ("zzzzz", "is no id"),
    ):
        assert message in (await cli("accept", part, "--key", cli.key("bert"))).error
    no_asset = await cli("offer", "--energy", "1", *HOUR, "--price", "0.2", "--key", cli.key("bert"))
    assert "name what supplies with --asset ID" in no_asset.error


async def test_a_part_of_an_id_must_tell_which(cli: CliWorld) -> None:
    with pytest.raises(LedgerError) as caught:
        whole_id("ABCD", ["abcd1", "abcd2"], "offer")
    assert (caught.value.code, caught.value.details["matches"]) == ("id_ambiguous", ["abcd1", "abcd2"])
    assert whole_id("abcd1", ["abcd1", "abcd2"], "offer") == "abcd1"


async def test_assets_are_registered_changed_and_retired(cli: CliWorld) -> None:
    assert (await cli("assets", "--member", cli.key("cara"))).lines[1].split()[1] == "meter"
    made = await cli.act(
        "anna", "asset", "--kind", "battery", "--rating", "5", "--capacity", "9", "--content", "4.5"
    )
    rows = {line.split()[1]: line for line in (await cli("assets")).lines[1:]}
    assert "4.5 kWh" in rows["battery"]
    assert "9 kWh" in rows["battery"]
    await cli.act("anna", "asset", "--change", made["asset"][:6], "--rating", "6", "--content", "5")
    listed = {each["asset"]: each for each in (await cli("assets", "--json")).json["items"]}
    assert (listed[made["asset"]]["rating_w"], listed[made["asset"]]["energy_wh"]) == (6_000, 5_000)
    await cli.act("anna", "asset", "--retire", made["asset"])
    assert "retired" in (await cli("assets", "--all")).out
    heat = await cli.act(
        "anna",
        *("asset", "--kind", "meter", "--rating", "20", "--carrier", "heat"),
        *("--meter-key", address(signer("anna heat meter").public_key)),
    )
    await cli.act(
        "anna",
        *("asset", "--kind", "generator", "--rating", "3", "--carrier", "heat", "--meter", heat["asset"]),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "pv"), "needs --rating"),
        (("--kind", "meter", "--rating", "20"), "needs --meter-key"),
        (("--kind", "pv", "--rating", "5", "--carrier", "gas"), "gas meters of this member: none"),
        (("--kind", "pv", "--rating", "5", "--meter", "ffff"), "no meter of this member"),
        (("--retire", "ffff"), "no asset of this member"),
    ],
)
async def test_a_wrong_asset_is_refused(cli: CliWorld, arguments: tuple[str, ...], message: str) -> None:
    assert message in (await cli("asset", *arguments, "--key", cli.key("anna"))).error


async def test_a_meter_s_registers(cli: CliWorld) -> None:
    taken = await cli.act("anna-meter", "reading", "--import", "1520.5", "--export", "310")
    assert taken["meter"] == cli.world["anna"].meter.hex()
    assert taken["end"] % SLOT == 0
    before = show_time(taken["end"] - SLOT)
    early = await cli(
        *("reading", "--import", "1", "--export", "1", "--at", "2026-01-01 00:07"),
        *("--key", cli.key("anna-meter")),
    )
    assert "is no slot boundary" in early.error
    await cli.act("anna-meter", "reading", "--import", "1520", "--export", "310", "--at", before)
    stranger = await cli("reading", "--import", "1", "--export", "1", "--key", cli.key("bert"))
    assert "no meter of the community has this key" in stranger.error


async def test_money_is_paid_and_shown(cli: CliWorld) -> None:
    bert = address(cli.world["bert"].id)
    paid = await cli.act("anna", "transfer", bert, "12.50", "--reference", "ab" * 32)
    assert (paid["to"], paid["amount"]) == (bert, 12_500_000)
    rows = dict(line.split("  ", 1) for line in (await cli("balance")).lines)
    assert rows["balance"].strip() == "-12.50 EUR"
    assert rows["spendable"].strip() == "37.50 EUR"
    assert (await cli("balance", "--member", bert, "--json")).json["balance"] == 12_500_000
    assert len((await cli("balance", "--all")).lines) == 4
    assert len((await cli("balance", "--all", "--json")).json["items"]) == 3
    anna = ("--key", cli.key("anna"))
    for arguments, code, message in (
        ((bert, "0"), 2, "nothing would be paid"),
        ((bert[:-1] + "q", "1"), 1, "checksum"),
        (("00" * 32, "1"), 1, "no member has that key"),
        ((bert, "1", "--issue"), 1, "prepaid"),
        ((bert, "1", "--redeem"), 1, "prepaid"),
        ((bert, "1", "--reference", "x"), 1, "is no id"),
        ((bert, "1000"), 1, "are left"),
    ):
        done = await cli("transfer", *arguments, *anna)
        assert (done.code, message in done.err) == (code, True), done.err


async def test_prepaid_money(tmp_path: Path) -> None:
    async with cli_world(tmp_path, money_mode=MoneyMode.PREPAID, fee=1_000) as cli:
        bert = address(cli.world["bert"].id)
        await cli.act("anna", "transfer", bert, "10", "--issue")
        await cli.act("bert", "transfer", address(cli.world["anna"].id), "4", "--redeem")
        assert (await cli("balance", "--member", bert)).lines[1].endswith("5.999 EUR")
        assert "mined fees" in (await cli("balance")).out


async def test_history_tells_what_concerns_a_member(cli: CliWorld) -> None:
    made = await cli.act("anna", "offer", "--energy", "4", *HOUR, "--price", "0.2")
    await cli.act("bert", "accept", made["record"])
    await cli.act("cara", "transfer", address(cli.world["bert"].id), "1")
    lines = (await cli("history")).lines
    assert any("sells 4 kWh to" in line for line in lines)
    assert not any("pays" in line for line in lines)
    everybody = (await cli("history", "--all", "--since", "+-1h")).code
    assert everybody == 2
    told = (await cli("history", "--all", "--limit", "2", "--json")).json["items"]
    assert [each["event"] for each in told][-1] == "money_moved"
    assert len(told) == 2
    assert (await cli("history", "--since", "+1h")).lines == ["nothing happened"]
    assert "--limit" in (await cli("history", "--limit", "0")).error


async def test_a_record_is_waited_for(cli: CliWorld) -> None:
    bert = address(cli.world["bert"].id)
    done = await cli("transfer", bert, "1", "--key", cli.key("anna"), "--wait", "--wait-for", "1s")
    assert "stands in no block yet" in done.error
    waiting = asyncio.create_task(cli("transfer", bert, "2", "--key", cli.key("anna"), "--wait"))
    async with NodeClient(cli.api.server.url, TOKEN) as client, asyncio.timeout(60):
        while (await client.status()).waiting_records < 2:
            await asyncio.sleep(0.01)
    await cli.mine()
    assert "in block 3" in (await waiting).out
