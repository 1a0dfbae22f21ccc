"""Data directories before a node runs, and what a node knows of its own computer."""

import asyncio
import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ifaddr
import pytest

from ledger_core.chain.store.files import locked
from ledger_core.client.bodies import IntentError
from ledger_core.client.local import (
    DirectoryError,
    Founding,
    default_parameters,
    found,
    local_api,
    node_settings,
    parameter_bounds,
    prepare_founding,
    prepare_joining,
    running_api,
)
from ledger_core.community import Parameters, encode_genesis
from ledger_core.errors import ChainError, LedgerError, RecordError
from ledger_core.keys import SoftwareSigner, load_key
from ledger_core.node import data_directory
from ledger_core.node.config import Settings
from ledger_core.node.data_directory import DataDirectory
from ledger_core.node.own_addresses import lan_addresses, told_addresses
from ledger_core.node.trouble import DiskTrouble
from ledger_core.records.codec import invite
from ledger_core.records.invitations import InvitationError, InvitationLink, encode_link
from ledger_core.records.types import Role
from tests.node.peer_world import eventually

FOUNDER = SoftwareSigner(bytes([1]) * 32)
SECRET = bytes([2]) * 32
NOW = 1_790_000_000


def founding(**changes: Any) -> Founding:
    values: dict[str, Any] = {"name": "Hill street", "currency": "EUR", "founder_name": "Number 1"}
    return Founding(**(values | changes))


def test_founding_makes_a_directory_that_is_ready(tmp_path: Path) -> None:
    path = tmp_path / "a" / "node"
    key = prepare_founding(path)
    assert prepare_founding(path) == key == load_key(path / "node.key").public_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    genesis = found(
        path, founding(parameters={"slot_s": 300}, location=(52_000_000, 13_000_000)), FOUNDER.public_key, NOW
    )
    assert DataDirectory(path).genesis() == genesis
    (founder,) = genesis.founders
    assert (founder.member, founder.node, genesis.created) == (FOUNDER.public_key, key, NOW)
    assert genesis.parameters == Parameters(slot_s=300)
    assert founder.roles & Role.AUTHORITY
    # The same again changes nothing; another community does not get in.
    data_directory.found(path, genesis)
    with pytest.raises(DirectoryError, match="belongs to the community 'Hill street'") as refusal:
        found(path, founding(name="Dale street"), FOUNDER.public_key, NOW)
    assert refusal.value.code == "directory_taken"


@pytest.mark.parametrize(
    ("changes", "code", "part"),
    [
        ({"name": ""}, "genesis_invalid", "name"),
        ({"name": "x" * 65}, "genesis_invalid", "name"),
        ({"currency": "much too long"}, "genesis_invalid", "currency"),
        ({"parameters": {"slot_s": 7}}, "parameter_invalid", "slot_s"),
        ({"parameters": {"slot_s": 7000}}, "genesis_invalid", "slot_s"),
        ({"parameters": {"slots": 7}}, "parameter_invalid", "slots"),
        ({"roles": int(Role.HOME)}, "genesis_invalid", "authority"),
    ],
)
def test_what_a_founder_can_not_decide_is_named(
    tmp_path: Path, changes: dict[str, Any], code: str, part: str
) -> None:
    with pytest.raises(RecordError) as refusal:
        found(tmp_path, founding(**changes), FOUNDER.public_key, NOW)
    assert refusal.value.code == code
    assert part in refusal.value.message
    assert not (tmp_path / "genesis").exists()


def test_a_founder_has_a_name_as_every_member_has(tmp_path: Path) -> None:
    with pytest.raises(IntentError, match="a name of at least one letter") as refusal:
        found(tmp_path, founding(founder_name=" "), FOUNDER.public_key, NOW)
    assert refusal.value.code == "name_missing"
    assert not (tmp_path / "genesis").exists()


def test_parameters_and_settings_are_told_with_their_bounds() -> None:
    assert parameter_bounds("slot_s") == (60, 86_400)
    assert parameter_bounds("money_mode") is None
    assert parameter_bounds("nothing") is None
    assert default_parameters()["slot_s"] == 900
    assert {setting.name for setting in node_settings()} == set(Settings.__struct_fields__)


def link(tmp_path: Path) -> tuple[InvitationLink, str]:
    genesis = found(tmp_path / "founder", founding(), FOUNDER.public_key, NOW)
    invitation = invite(
        genesis.chain_id, FOUNDER, SoftwareSigner(SECRET).public_key, int(Role.HOME | Role.NODE), NOW + 60
    )
    made = InvitationLink(encode_genesis(genesis), ("a.example:7946", "[::1]:7"), invitation, SECRET)
    return made, encode_link(made)


def test_joining_keeps_what_the_invitation_tells(tmp_path: Path) -> None:
    made, text = link(tmp_path)
    path = tmp_path / "new"
    joining = prepare_joining(path, f"  {text.lower()}\n")
    directory = DataDirectory(path)
    assert (joining.link, joining.community.name) == (made, "Hill street")
    assert joining.node_key == load_key(path / "node.key").public_key
    assert directory.genesis().chain_id == made.chain_id
    assert directory.bootstrap() == made.addresses
    assert directory.invitation() == made
    assert stat.S_IMODE((path / "invitation").stat().st_mode) == 0o600
    # A second invitation to the same community replaces the first one.
    assert prepare_joining(path, text).node_key == joining.node_key
    directory.forget_invitation()
    directory.forget_invitation()
    assert directory.invitation() is None
    other = tmp_path / "other"
    found(other, founding(name="Dale street"), FOUNDER.public_key, NOW)
    with pytest.raises(DirectoryError, match="Dale street"):
        prepare_joining(other, text)
    assert DataDirectory(other).bootstrap() == ()


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    _, text = link(tmp_path)
    path = tmp_path / "new"
    prepare_founding(path)
    with locked(path), pytest.raises(ChainError, match="in use by another node") as refusal:
        prepare_joining(path, text)
    assert refusal.value.code == "store_in_use"


def test_a_line_that_is_no_address_is_passed_over_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bootstrap"
    path.write_bytes(b"foo\n\n a.example:7946 \r\nfoo bar\n\xff:1\nhttp://x\nws://b.example/peer\n")
    assert DataDirectory(tmp_path).bootstrap() == ("a.example:7946", "ws://b.example/peer")
    told = [each.message for each in caplog.records]
    assert [each.split(", ")[1] for each in told] == [f"line {number}" for number in (1, 4, 5, 6)]
    assert all(each.startswith(str(path)) and each.endswith("delete it") for each in told)
    assert "'foo' is not a peer's address: the port is missing" in told[0]


def test_addresses_that_can_not_be_read_are_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bootstrap").mkdir()
    assert DataDirectory(tmp_path).bootstrap() == ()
    assert f"{tmp_path / 'bootstrap'} can't be read (Is a directory)" in caplog.text


def test_a_genesis_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "genesis").mkdir()
    with pytest.raises(DirectoryError, match="can't be read") as refusal:
        DataDirectory(tmp_path).genesis()
    assert refusal.value.code == "genesis_damaged"


def test_the_api_of_a_node_that_runs_is_found(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="no node runs"):
        local_api(tmp_path)
    directory = DataDirectory(tmp_path)
    directory.tell_api_address("http://127.0.0.1:1")
    with pytest.raises(LedgerError, match="not there"):
        local_api(tmp_path)
    (tmp_path / "api.token").write_text("x" * 43)
    (tmp_path / "api.token").chmod(0o600)
    api = local_api(tmp_path)
    assert (api.url, api.token) == ("http://127.0.0.1:1", "x" * 43)
    directory.forget_api_address()
    directory.forget_api_address()
    with pytest.raises(DirectoryError):
        directory.api_address()


def test_the_address_that_a_killed_node_left_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="no node runs"):
        running_api(tmp_path)
    directory = DataDirectory(tmp_path)
    (tmp_path / "api.token").write_text("x" * 43)
    (tmp_path / "api.token").chmod(0o600)
    with locked(tmp_path):
        directory.tell_api_address("http://127.0.0.1:1")
        assert running_api(tmp_path) == local_api(tmp_path)
    for lock_is_there in (True, False):
        directory.tell_api_address("http://127.0.0.1:1")
        if not lock_is_there:
            (tmp_path / "chain.lock").unlink()
        with pytest.raises(DirectoryError, match=f"energy-ledger node --data {tmp_path}") as refusal:
            running_api(tmp_path)
        assert refusal.value.code == "node_not_running"
        # Whoever asks next does not try the lock, which a node may be taking by then.
        assert (tmp_path / "api-address").exists() == (not lock_is_there)


def test_a_lock_that_tells_nothing_is_no_reason_to_ask_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    directory = DataDirectory(tmp_path)
    (tmp_path / "chain.lock").touch()
    directory.tell_api_address("http://127.0.0.1:1")
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert directory.running_api_address() == "http://127.0.0.1:1"
    (tmp_path / "chain.lock").unlink()
    (tmp_path / "chain.lock").symlink_to("chain.lock")
    assert directory.running_api_address() == "http://127.0.0.1:1"


# Its own computer


def computer(monkeypatch: pytest.MonkeyPatch, *addresses: str | tuple[str, int, int]) -> None:
    adapter = SimpleNamespace(ips=[SimpleNamespace(ip=each) for each in addresses])
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [adapter])


def test_addresses_that_others_may_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    computer(monkeypatch, "127.0.0.1", "192.168.1.5", ("fe80::1", 0, 2), ("2001:db8::5", 0, 0))
    assert lan_addresses(Settings()) == ["192.168.1.5"]
    every = Settings(peer_host="::")
    assert lan_addresses(every) == ["192.168.1.5", "2001:db8::5"]
    assert told_addresses(every, 7946) == ["192.168.1.5:7946", "[2001:db8::5]:7946"]
    assert told_addresses(Settings(advertise="home.example:1"), 7946) == ["home.example:1"]
    assert told_addresses(every, 0) == []
    assert told_addresses(Settings(peer_host=""), 7946) == []
    assert lan_addresses(Settings(peer_host="")) == []
    assert lan_addresses(Settings(peer_host="house")) == ["house"]
    # On loopback alone, others on this machine can reach it.
    assert lan_addresses(Settings(peer_host="127.0.0.1")) == []
    assert told_addresses(Settings(peer_host="127.0.0.1"), 5) == ["127.0.0.1:5"]
    computer(monkeypatch, "127.0.0.1")
    assert told_addresses(every, 7946) == []


async def test_trouble_is_told_once_and_watched_until_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "data"
    over: list[bool] = []
    trouble = DiskTrouble(directory, lambda: over.append(True), probe_every_s=0.01)
    watching = asyncio.create_task(trouble.watch())
    try:
        # The probe fails as long as the directory is not there.
        for _ in range(3):
            trouble.report(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        assert "make room on the disk" in str(trouble.reason)
        trouble.report(ChainError("disk_full", "no room for the block"))
        assert "disk_full: no room" in str(trouble.reason)
        trouble.report(OSError(errno.EIO, "broken"))
        assert "see to the disk" in str(trouble.reason)
        assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1
        assert not over
        directory.mkdir()
        await eventually(lambda: over)
        assert trouble.reason is None
        assert list(directory.iterdir()) == []
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_nothing_in_the_directory_keeps_trouble_from_its_end(tmp_path: Path) -> None:
    """Found as a node that ended: an old probe's name stood for a directory, and the watch fell over it."""
    (tmp_path / ".disk-probe").mkdir()
    over = asyncio.Event()
    trouble = DiskTrouble(tmp_path, over.set, probe_every_s=0.01)
    watching = asyncio.create_task(trouble.watch())
    try:
        trouble.report(OSError(errno.EROFS, os.strerror(errno.EROFS)))
        async with asyncio.timeout(30):
            await asyncio.wait(
                {watching, asyncio.create_task(over.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
        assert not watching.done()
        assert trouble.reason is None
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_disk_that_stays_read_only_is_watched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[Path] = []

    def refuse(*, dir: Path) -> None:  # noqa: A002 - the name is tempfile's
        probes.append(dir)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    trouble = DiskTrouble(tmp_path, probe_every_s=0.01)
    watching = asyncio.create_task(trouble.watch())
    try:
        trouble.report(OSError(errno.EROFS, os.strerror(errno.EROFS)))
        await eventually(lambda: len(probes) > 2)
        assert not watching.done()
        assert trouble.reason is not None
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("text", ["", "nothing of the kind", "el-invitation1qqqq"])
def test_a_damaged_invitation_is_named_with_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "invitation"
    path.write_text(text)
    with pytest.raises(InvitationError) as refused:
        DataDirectory(tmp_path).invitation()
    assert refused.value.message.startswith(f"{path}: ")
    assert refused.value.message.endswith("restore the file, or remove it and join with a new invitation")
