"""Founding, inviting, joining, members, status and peers from the command line, against a real API."""

import asyncio
import io
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from ledger_core.chain.chain import Chain
from ledger_core.chain.start import load_start
from ledger_core.chain.store.files import locked
from ledger_core.chain.store.opening import open_store
from ledger_core.cli import connection, invite_command
from ledger_core.cli.join_command import _in_step
from ledger_core.cli.picture import Picture
from ledger_core.cli.status_commands import status_rows
from ledger_core.client import ClientError, NodeClient, TimedOutError, UnreachableError
from ledger_core.client.views import DialView, StatusView
from ledger_core.community import decode_genesis, encode_genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import address, load_key, save_key
from ledger_core.records.codec import Envelope, invite
from ledger_core.records.invitations import InvitationLink, decode_link, encode_link
from ledger_core.records.types import Role
from tests.core.chains import LATER, verifier
from tests.core.world import HOUSEHOLD, World, signer
from tests.node.api_world import TOKEN
from tests.node.cli_world import CliWorld, cli_world, run_command
from tests.node.double_vote import seen


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[CliWorld]:
    async with cli_world(tmp_path) as made:
        yield made


async def test_status_and_peers(cli: CliWorld) -> None:
    rows = dict(line.split("  ", 1) for line in (await cli("status")).lines)
    assert rows["community"].strip().startswith("Test street (")
    assert rows["height"].strip().startswith("2, of ")
    assert (await cli("status", "--json")).json["tip"]["height"] == 2
    assert "10.0.0.7:7946" in (await cli("peers")).lines[1]
    assert (await cli("peers", "--json")).json["items"][0]["direction"] == "inbound"


async def test_a_node_that_met_a_copy_votes_again_when_told(cli: CliWorld) -> None:
    await cli.api.thread.run(lambda engine, _now: engine.met_copy())
    (line,) = [line for line in (await cli("status")).lines if line.startswith("voting")]
    assert "another process runs with this node's key" in line
    # Of this node's links nobody has told the engine: the last thing that it waits for.
    (line,) = (await cli("resume-voting")).lines
    assert "voting  no: waiting for a link" in line
    told = (await cli("resume-voting", "--json")).json
    assert told["voting_hold"] == "no_peer"


async def test_status_tells_why_there_are_no_blocks(cli: CliWorld) -> None:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        status, mining = await client.status(), await client.mining()
    status = replace(status, mining_blocked=None)
    assert status_rows(status, replace(mining, on=True))["mining"] == "yes"
    assert status_rows(status, replace(mining, on=False))["mining"] == "no: switched off"
    assert "disk" not in status_rows(status, mining)
    full = replace(status, mining_blocked="no room", disk_trouble="no room")
    rows = status_rows(full, replace(mining, on=True))
    assert (rows["mining"], rows["disk"]) == ("no: no room", "no room")
    assert rows["in step"] == "yes"


@pytest.mark.parametrize(
    ("phase", "target", "text"),
    [
        ("headers", 40, "no, 40 of 90 headers are here"),
        ("snapshot", 90, "no, fetching a state, all 90 headers are here"),
        ("blocks", 40, "no, 88 blocks behind"),
    ],
)
async def test_status_tells_how_far_a_sync_is(cli: CliWorld, phase: str, target: int, text: str) -> None:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        status, mining = await client.status(), await client.mining()
    behind = replace(status, synced=False, sync_phase=phase, target_height=target, claimed_height=90)
    assert status_rows(behind, mining)["in step"] == text


async def test_status_tells_why_a_newcomer_is_linked_with_nobody(cli: CliWorld) -> None:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        status, mining = await client.status(), await client.mining()
    alone = replace(status, synced=False, sync_phase="blocks", peers=0, tip=replace(status.tip, height=0))
    dial = DialView(
        node=None, location="ws://a:1/peer", failures=2, retry_in_s=1, last_error="a refuses this node"
    )
    assert status_rows(alone, mining)["in step"] == "no, it is linked with no other node"
    text = "no, it is linked with no other node (a refuses this node)"
    assert status_rows(alone, mining, [dial])["in step"] == text


async def test_a_payment_without_an_answer_is_sent_again_and_counts_once(
    cli: CliWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, lost = NodeClient.submit, 1

    async def unanswered(client: NodeClient, envelope: Envelope) -> str:
        nonlocal lost
        record = await submit(client, envelope)
        if lost:
            lost -= 1
            raise TimedOutError("timeout", "no answer in time")
        return record

    monkeypatch.setattr(connection, "REPEATS_S", (0.0,))
    monkeypatch.setattr(NodeClient, "submit", unanswered)
    pay = ("transfer", address(cli.world["bert"].id), "1.5", "--key", cli.key("anna"))
    assert (await cli(*pay)).code == 0
    await cli.mine()
    assert (await cli("balance", "--member", address(cli.world["anna"].id), "--json")).json["balance"] == (
        -1_500_000
    )
    lost = 2
    error = (await cli(*pay)).error
    assert "no answer in time; record " in error
    assert "would make a second one" in error


async def test_members_and_revocation(cli: CliWorld) -> None:
    bert = address(cli.world["bert"].id)
    listed = dict(line.split("  ", 1) for line in (await cli("members")).lines[1:])
    assert listed[bert].strip() == "home, node"
    assert len((await cli("members", "--json")).json["items"]) == 3
    refused = await cli("revoke", bert, "--key", cli.key("cara"), "--json")
    assert '"authority_missing"' in refused.error
    assert (await cli.act("anna", "revoke", bert))["member"] == bert
    listed = dict(line.split("  ", 1) for line in (await cli("members")).lines[1:])
    assert listed[bert].strip() == "revoked"
    told = (await cli("history", "--all")).lines[-1]
    assert told.endswith("was revoked")


async def test_an_invitation_as_text_and_picture(cli: CliWorld) -> None:
    anna, picture = ("--key", cli.key("anna")), cli.directory / "invitation.svg"
    done = await cli("invite", *anna, "--expires", "2h", "--roles", "home", "--qr", picture)
    text = done.lines[0]
    assert len(done.lines) == 1
    link = decode_link(text)
    assert link.invitation.roles == 1
    assert abs(link.invitation.expires - time.time() - 7200) < 60
    assert "whoever sees it can use it" in done.err
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    told = await cli("invite", *anna, "--address", "h:1", "--json", "--qr", cli.directory / "a.png")
    assert told.json["addresses"] == ["h:1"]
    assert told.json["roles"] == ["home", "node"]
    assert (cli.directory / "a.png").read_bytes().startswith(b"\x89PNG")
    for arguments, message in (
        (("--qr", picture), "exists already"),
        (("--qr", cli.directory / "a.gif"), "must end in .svg or .png"),
        (("--roles", "king"), "known are home"),
        (("--expires", "soon"), "--expires"),
        (("--address", "foo"), "--address: 'foo' is not a peer's address: the port is missing"),
        (("--address", "foo bar"), "--address: 'foo bar' is not a peer's address: it holds a character"),
        (("--key", cli.key("bert")), "only an authority invites"),
    ):
        assert message in (await cli("invite", *anna, *arguments)).error
    assert (await cli("invite", *anna, "--qr", picture, "--force")).code == 0


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_picture_is_drawn_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    bearer = signer("bearer")
    ticket = invite(world.chain_id, world["anna"].key, bearer.public_key, HOUSEHOLD, world.now)
    link = InvitationLink(encode_genesis(world.genesis), (), ticket, bearer.export_seed())
    text = encode_link(link)
    for columns, drawn in ((300, True), (80, False)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("COLUMNS", str(columns))
        invite_command._explain(link, text)
        assert ("█" * 20 in screen.getvalue()) == drawn
        assert ("write it with --qr" in screen.getvalue()) != drawn
        assert "it names no address" in screen.getvalue()


def test_without_the_library_only_pictures_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    with pytest.raises(LedgerError) as caught:
        Picture("text")
    assert caught.value.code == "picture_unavailable"
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    invite_command._draw("text")
    assert "hand on the text itself" in screen.getvalue()


def test_the_program_starts_without_the_library() -> None:
    """As in Home Assistant, which runs its node from this package."""
    code = "import sys; sys.modules['segno'] = None; import ledger_core.cli as c; c.main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"energy-ledger ")


def test_a_picture_holds_what_it_should() -> None:
    lines = Picture("ELINVITE-1-" + "A" * 800).lines()
    width = Picture("ELINVITE-1-" + "A" * 800).width
    assert {len(line) for line in lines} == {width}
    assert len(lines) == (width + 1) // 2
    # The finder pattern in the upper left corner, in half blocks, after the quiet zone.
    assert lines[2][4:11] == " ▄▄▄▄▄ "
    with pytest.raises(LedgerError) as caught:
        Picture("A" * 5000)
    assert caught.value.code == "picture_too_large"


def test_a_community_is_founded(tmp_path: Path) -> None:
    key = tmp_path / "anna.key"
    save_key(key, signer("anna"))
    made = run_command(
        *("found", "--data", tmp_path / "elm", "--name", "Elm Street", "--key", key, "--home", "No. 1"),
        *("--set", "slot_s=60", "--set", "money_mode=prepaid", "--json"),
    ).json
    genesis = decode_genesis((tmp_path / "elm" / "genesis").read_bytes())
    assert (genesis.name, genesis.currency, genesis.parameters.slot_s) == ("Elm Street", "EUR", 60)
    assert genesis.parameters.termination_permille == 100, "as the form of Home Assistant"
    assert made["chain_id"] == genesis.chain_id.hex()
    assert made["node"] == address(load_key(tmp_path / "elm" / "node.key").public_key)
    other = run_command("found", "--data", tmp_path / "oak", "--genesis", tmp_path / "elm" / "genesis")
    assert "none of the founders'" in other.err
    assert "energy-ledger node --data" in other.err
    taken = tmp_path / "other.genesis"
    taken.write_bytes(encode_genesis(World().genesis))
    assert "belongs to" in run_command("found", "--data", tmp_path / "oak", "--genesis", taken).error
    for arguments, message in (
        (("--home", "x"), "--key KEY"),
        (("--key", key, "--home", "x", "--set", "slot_s"), "write NAME=VALUE"),
        (
            ("--key", key, "--home", "x", "--set", "slot_s=7"),
            "slot_s: 7 is not a whole number from 60 to 86400",
        ),
        (("--key", key, "--home", "x", "--name", ""), "--name: '' is not a text of 1 to 64 characters"),
        (("--key", key, "--home", "x", "--currency", "E" * 9), "is not a text of 1 to 8 characters"),
        (("--key", key, "--home", " "), "at least one letter"),
        (("--key", key, "--home", "x", "--set", "sloth=7"), "no such parameter"),
        (("--key", key, "--home", "x", "--termination", "101"), "0 to 100"),
        (
            ("--key", key, "--home", "x", "--termination", "5", "--set", "termination_permille=50"),
            "give one of them",
        ),
    ):
        done = run_command("found", "--data", tmp_path / "new", "--name", "New", *arguments)
        assert message in done.error
        assert not (tmp_path / "new").exists()
    no_genesis = run_command("found", "--data", tmp_path / "new", "--genesis", key)
    assert str(key) in no_genesis.error
    assert not (tmp_path / "new").exists()


def test_the_price_of_ending_a_trade_alone_is_the_founders(tmp_path: Path) -> None:
    key = tmp_path / "anna.key"
    save_key(key, signer("anna"))
    for percent in ("0", "25", "100"):
        given = ("--name", "Elm Street", "--key", key, "--home", "No. 1", "--termination", percent)
        run_command("found", "--data", tmp_path / percent, *given)
        genesis = decode_genesis((tmp_path / percent / "genesis").read_bytes())
        assert genesis.parameters.termination_permille == int(percent) * 10


async def test_joining_in_two_steps(cli: CliWorld) -> None:
    made = (await cli("invite", "--key", cli.key("anna"), "--json")).json
    dora, data = cli.directory / "dora.key", cli.directory / "dora"
    save_key(dora, signer("dora"))
    given = ("join", "--data", data, "--key", dora, "--name", "No. 4", "--location", "48.1,11.5", "--json")
    file = cli.directory / "invitation.txt"
    file.write_text(made["invitation"] + "\n")
    first = (await asyncio.to_thread(run_command, *given, file)).json
    assert (first["state"], first["community"]) == ("prepared", "Test street")
    assert first["node"] == address(load_key(data / "node.key").public_key)
    again = await asyncio.to_thread(run_command, *given[:-1], made["invitation"])
    assert "is ready for" in again.out
    for arguments, message in (
        (("--location", "here"), "--location"),
        (("--roles", "king"), "no role"),
        (("--name", " "), "at least one letter"),
        (("--start-within", "soon"), "--start-within"),
        (("--data", cli.directory / "node"), "is in use"),
    ):
        wrong = await asyncio.to_thread(run_command, *given, *arguments, made["invitation"])
        assert message in wrong.error

    # As its node would: hold the directory, tell where the API is, and the token. First one that was killed.
    (data / "api-address").write_text("http://127.0.0.1:1\n")
    (data / "api.token").write_text((cli.directory / "token").read_text())
    (data / "api.token").chmod(0o600)
    ended = await asyncio.to_thread(run_command, *given, "--start-within", "1s", made["invitation"])
    assert ended.json["state"] == "prepared"
    (data / "api-address").write_text(cli.api.server.url + "\n")
    with locked(data):
        (data / "api.token").chmod(0o644)
        assert "0600" in (await asyncio.to_thread(run_command, *given, made["invitation"])).error
        (data / "api.token").chmod(0o600)
        joined = (await asyncio.to_thread(run_command, *given, made["invitation"], "--roles", "home")).json
        assert joined["state"] == "submitted"
        await cli.mine()
        member = {each["member"]["address"]: each for each in (await cli("members", "--json")).json["items"]}
        assert member[address(signer("dora").public_key)]["roles"] == ["home"]
        again = await asyncio.to_thread(run_command, *given, made["invitation"])
        assert '"member_known"' in again.error
    # Once its node has the chain and rests.
    (data / "api-address").unlink()
    running = cli.directory / "node"
    with open_store(running, writable=False) as source, open_store(data, cli.world.genesis) as store:
        blocks = [block for at in range(1, source.tip()[0] + 1) if (block := source.block_at(at)) is not None]
        Chain(store, load_start(store), verifier()).add_blocks(blocks, LATER)
    rests = (await asyncio.to_thread(run_command, *given, made["invitation"])).error
    assert '"member_known"' in rests
    assert f"start the node: energy-ledger node --data {data}" in rests


async def test_a_node_that_is_not_in_step_is_waited_for(
    cli: CliWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        status = await client.status()
    behind = replace(status, synced=False, target_height=9)
    link = decode_link((await cli("invite", "--key", cli.key("anna"))).lines[0])

    class Node:
        """Tells one status after the other, the last one again and again."""

        def __init__(self, *told: StatusView | ClientError, dials: Sequence[DialView] = ()) -> None:
            self.told = list(told)
            self.called = list(dials)

        async def status(self) -> StatusView:
            now = self.told.pop(0) if len(self.told) > 1 else self.told[0]
            if isinstance(now, ClientError):
                raise now
            return now

        async def dials(self) -> list[DialView]:
            return self.called

    async def in_step(seconds: float, *told: StatusView | ClientError, dial: DialView | None = None) -> bool:
        node: Any = Node(*told, dials=() if dial is None else (dial,))
        return await _in_step(node, link, time.monotonic() + seconds)

    assert await in_step(60, behind, behind, status)
    assert capsys.readouterr().err.count("waiting for the node") == 1
    alone = replace(behind, peers=0, tip=replace(status.tip, height=0))
    for never, text in ((behind, "not in step with the others yet: 7 blocks"), (alone, "no other node")):
        with pytest.raises(LedgerError, match=text) as caught:
            await in_step(0, never)
        assert caught.value.code == "node_behind"
    dead = DialView(
        node=None,
        location="ws://no.example:1/peer",
        failures=3,
        retry_in_s=1,
        last_error="no link with ws://no.example:1/peer: unresolved: the name is unknown",
        last_code="unresolved",
    )
    with pytest.raises(
        LedgerError,
        match=r"no other node \(no link with .* unknown; the address is of the setting peers or .*\)",
    ):
        await in_step(0, alone, dial=dead)
    # Waiting can't help: it is told at once.
    used = replace(dead, last_error="anna refuses this node: invitation_used", last_code="invitation_used")
    with pytest.raises(LedgerError, match="anna refuses this node: invitation_used; with a new") as caught:
        await in_step(600, alone, dial=used)
    assert caught.value.code == "invitation_refused"
    with pytest.raises(ClientError, match="use another data directory") as caught:
        await in_step(600, replace(behind, chain_id="00" * 32))
    assert caught.value.code == "community_mismatch"
    assert not await in_step(60, UnreachableError("unreachable", "gone"))
    with pytest.raises(ClientError):
        await in_step(60, ClientError("answer_invalid", "what?"))


def test_invitations_that_can_not_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(created=1_700_000_000)
    bearer = signer("bearer")
    ticket = invite(world.chain_id, world["anna"].key, bearer.public_key, HOUSEHOLD, 1_700_000_000)
    text = encode_link(InvitationLink(encode_genesis(world.genesis), (), ticket, bearer.export_seed()))
    key = tmp_path / "dora.key"
    save_key(key, signer("dora"))
    given = ("join", "--data", tmp_path / "dora", "--key", key, "--name", "Dora")
    assert "expired" in run_command(*given, text).error
    monkeypatch.setattr(sys, "stdin", io.StringIO(f" {text} "))
    assert "expired" in run_command(*given, "-").error
    monkeypatch.setattr(sys, "stdin", io.StringIO(text[:-3]))
    assert "3 are missing" in run_command(*given, "-").error
    assert (
        "'nonsense' is neither an invitation (ELINVITE-1-...) nor a file"
        in run_command(*given, "nonsense").error
    )
    assert "an invitation starts with" in run_command(*given, "ELINVITE-").error
    (tmp_path / "empty").touch()
    assert "an invitation starts with" in run_command(*given, tmp_path / "empty").error
    assert not (tmp_path / "dora").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "name the node"),
        (("--url", "http://127.0.0.1:1"), 2, "needs the node's token"),
        (("--url", "http://127.0.0.1:1", "--token", "x"), 1, "no connection to the node"),
        (("--url", "nonsense", "--token", "x"), 1, "is no node's URL"),
        (("--data", "nowhere"), 1, "no node runs on"),
        (("--data", "nowhere", "--token", "x"), 2, "go with --url"),
        (("--timeout", "x"), 2, "--timeout"),
    ],
)
def test_a_node_that_can_not_be_asked(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run_command("status", *arguments)
    assert (done.code, message in done.err) == (code, True), done.err


async def test_a_wrong_token(cli: CliWorld) -> None:
    answer = await asyncio.to_thread(run_command, "status", "--url", cli.api.server.url, "--token", "wrong")
    assert "this is not the token of the node" in answer.error
    assert "--token-file" in answer.error


async def test_a_double_vote_is_handed_in(cli: CliWorld) -> None:
    anna = ("--key", cli.key("anna"))
    assert (await cli("evidence", *anna)).lines == ["no node was seen to vote in two ways"]
    event = seen(cli.world, "cara")
    await cli.api.thread.run(lambda engine, _: engine._hub.notify(event))
    first = (await cli("evidence", *anna, "--json")).json["items"]
    assert [each["code"] for each in first] == [None]
    await cli.mine()
    again = (await cli("evidence", *anna)).lines
    assert "not taken" in again[0]
    roles = await cli.api.thread.look(
        lambda engine, _: engine.chain.state.members[cli.world["cara"].id].roles
    )
    assert not Role(roles) & Role.NODE
