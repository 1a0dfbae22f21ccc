"""The process: what it says, how it ends, and what it makes of everything that can be wrong around it."""

import asyncio
import os
import resource
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger_core.cli import main
from ledger_core.client import NodeClient, RefusedError, UnauthorizedError
from ledger_core.client.bodies import AssetTerms
from ledger_core.client.home import Home
from ledger_core.client.local import Founding, found, local_api, prepare_founding
from ledger_core.community import Parameters, parameters_as_dict
from ledger_core.records.types import AssetKind
from tests.node.cli_world import run_command
from tests.node.peer_world import free_ports
from tests.node.processes import PATIENCE_S, QUICK, NodeProcess, seeded, street, until

FOUNDER = seeded("founder")
METER = AssetTerms(asset=bytes(16), kind=AssetKind.METER, rating_w=1000, meter_key=seeded("meter").public_key)


def founded(directory: Path, parameters: Parameters = QUICK, **settings: object) -> NodeProcess:
    """A lone founder's node, made as a user interface makes it; it does not run yet."""
    key = prepare_founding(directory)
    assert key == prepare_founding(directory)
    founding = Founding(
        name="Lone street", currency="EUR", founder_name="F", parameters=parameters_as_dict(parameters)
    )
    genesis = found(directory, founding, FOUNDER.public_key, int(time.time()) - 2)
    assert genesis.founders[0].node == key
    return NodeProcess(directory, directory.name, free_ports(1)[0], **settings)


@pytest.fixture
async def lone(tmp_path: Path) -> AsyncIterator[NodeProcess]:
    node = founded(tmp_path / "lone")
    yield node
    await node.close()


async def output_of(node: NodeProcess) -> tuple[int, str]:
    """Exit code and standard output of a process that ends by itself."""
    process = await node.launch()
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        output = await process.stdout.read()
    return await node.ended(), output.decode()


async def test_it_says_when_it_is_ready_and_ends_with_its_parent(lone: NodeProcess) -> None:
    await lone.start()
    ready = lone.ready
    assert ready["ready"] is True
    assert lone.process is not None
    assert ready["pid"] == lone.process.pid
    status = await lone.status()
    assert status.node is not None
    assert (ready["version"], ready["node"], ready["chain_id"]) == (
        status.version,
        status.node.address,
        status.chain_id,
    )
    assert ready["peer"] == f"127.0.0.1:{lone.port}"
    assert local_api(lone.directory).url == ready["api"]
    for name in ("node.key", "api.token", "votes.log", "outbox.log", "chain.lock"):
        assert stat.S_IMODE((lone.directory / name).stat().st_mode) == 0o600, name
    # Alone, it mines at once and finds itself in agreement.
    await until(lambda: _final(lone, 8), "final alone", lambda: lone.log)
    assert await lone.stop() == 0
    assert "standard input is closed" in lone.log
    assert not (lone.directory / "api-address").exists()
    assert " ERROR " not in lone.log


async def _height(node: NodeProcess, height: int) -> bool:
    return (await node.status()).tip.height >= height


async def _final(node: NodeProcess, height: int) -> bool:
    return (await node.status()).final >= height


async def test_a_signal_ends_it_and_it_goes_on_after_a_restart(lone: NodeProcess) -> None:
    await lone.start()
    await until(lambda: _final(lone, 4), "final", lambda: lone.log)
    before = await lone.status()
    assert lone.process is not None
    lone.process.send_signal(signal.SIGTERM)
    assert await lone.ended() == 0
    assert "SIGTERM: the node ends" in lone.log
    await lone.start()
    after = await lone.status()
    assert after.tip.height >= before.tip.height
    assert after.final >= before.final
    await until(lambda: _final(lone, after.tip.height), "it votes again", lambda: lone.log)


async def test_the_token_of_a_killed_node_goes_to_nobody(lone: NodeProcess) -> None:
    """Whoever listens where its API was is a stranger."""
    await lone.start()
    address = lone.directory / "api-address"
    left = address.read_text()
    await lone.crash()
    assert address.read_text() == left
    heard = asyncio.Event()
    port = int(left.rsplit(":", 1)[1])
    async with await asyncio.start_server(lambda _reader, _writer: heard.set(), "127.0.0.1", port):
        told = await asyncio.to_thread(run_command, "status", "--data", lone.directory, "--json")
        assert '"code": "node_not_running"' in told.error
        assert not heard.is_set()
        # Nor once it runs elsewhere.
        address.write_text(left)
        await lone.start()
        assert address.read_text() != left
        await asyncio.to_thread(run_command, "status", "--data", lone.directory)
        assert not heard.is_set()


async def test_a_second_signal_hurries_it(tmp_path: Path) -> None:
    async with street(tmp_path, 2) as homes:
        # The other side stands still: a farewell in good order would take its time.
        homes[1].node.pause()
        process = homes[0].node.process
        assert process is not None
        process.send_signal(signal.SIGINT)
        await homes[0].node.logged("SIGINT: the node ends")
        process.send_signal(signal.SIGTERM)
        assert await homes[0].node.ended() == 0
        assert "hurries" in homes[0].node.log
        homes[1].node.resume()


async def test_settings_come_from_file_environment_and_flags(lone: NodeProcess, tmp_path: Path) -> None:
    (lone.directory / "node.toml").write_text("mining = false\nmining_share = 0.5\n")
    lone.flags = ["--voting", "no", "--log-level", "warning"]
    await lone.start(env={**os.environ, "ENERGY_LEDGER_MINING_SHARE": "0.25"})
    mining = await lone.client.mining()
    assert (mining.on, mining.share, mining.rate, mining.blocked) == (False, 0.25, 0.0, "switched off")
    status = await lone.status()
    assert status.mining_blocked == "switched off"
    assert status.voting_blocked == "switched off by the setting voting"
    assert lone.log == ""
    # What is switched while it runs holds until it ends.
    changed = await lone.client.change_mining(on=True, share=0.9)
    assert (changed.on, changed.share, changed.blocked) == (True, 0.9, None)
    await until(lambda: _height(lone, 1), "it mines", lambda: lone.log)
    assert (await lone.client.change_mining(on=False)).share == 0.9
    with pytest.raises(RefusedError, match="nothing to change"):
        await lone.client.change_mining()
    with pytest.raises(RefusedError, match="share"):
        await lone.client.change_mining(share=0.0)


@pytest.mark.parametrize(
    ("flags", "toml", "parts"),
    [
        (["--mining-share", "2"], "", ("mining_share", "the command line", "at most 1")),
        (["--api-port", "many"], "", ("api_port", "'many'", "a whole number")),
        ([], "peer_port = 99999", ("peer_port", "node.toml", "65535")),
        ([], "poort = 1", ("node.toml", "poort", "known are")),
        ([], "peers = [", ("node.toml", "TOML")),
        (["--peers", "nowhere"], "", ("--peers on the command line", "nowhere", "port is missing")),
        ([], 'advertise = "http://x"', ("advertise", "node.toml", "ws://")),
        (["--bogus"], "", ("--bogus", "--help")),
    ],
)
def test_a_broken_configuration_is_named_and_nothing_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], toml: str, parts: tuple[str, ...]
) -> None:
    (tmp_path / "node.toml").write_text(toml)
    assert main(["node", "--data", str(tmp_path), *flags]) == 2
    output, line = capsys.readouterr()
    assert output == ""
    assert line.count("\n") == 1
    for part in parts:
        assert part in line
    assert [path.name for path in tmp_path.iterdir()] == ["node.toml"]


@pytest.mark.parametrize("setting", ["api_port", "peer_port"])
async def test_a_port_in_use_names_the_setting_and_the_remedy(lone: NodeProcess, setting: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        lone.settings[setting] = port
        code, output = await output_of(lone)
    assert (code, output) == (1, "")
    line = lone.log.splitlines()[-1]
    for part in (setting, str(port), "in use", "another"):
        assert part in line
    # Nothing was lost by that.
    lone.settings[setting] = 0
    await lone.start()


async def test_a_directory_in_use_names_the_other_process(lone: NodeProcess) -> None:
    await lone.start()
    assert lone.process is not None
    second = NodeProcess(lone.directory, "second", free_ports(1)[0])
    code, output = await output_of(second)
    assert (code, output) == (1, "")
    assert f"in use by another node or command (process {lone.process.pid})" in lone.log
    assert (await lone.status()).synced


async def test_an_empty_or_foreign_directory_is_no_nodes(lone: NodeProcess, tmp_path: Path) -> None:
    empty = NodeProcess(tmp_path / "empty", "empty", free_ports(1)[0])
    code, _ = await output_of(empty)
    assert code == 1
    assert "holds no community" in empty.log
    await lone.start()
    await lone.stop()
    other = founded(tmp_path / "other")
    (lone.directory / "genesis").write_bytes((other.directory / "genesis").read_bytes())
    code, _ = await output_of(lone)
    assert code == 1
    assert "use another data directory" in lone.log.splitlines()[-1]
    (lone.directory / "genesis").write_bytes(b"rubbish")
    code, _ = await output_of(lone)
    assert code == 1
    assert "is no genesis" in lone.log.splitlines()[-1]
    # The chain itself holds the genesis, too.
    (lone.directory / "genesis").unlink()
    await lone.start()


async def test_a_wrong_token_opens_nothing(lone: NodeProcess) -> None:
    await lone.start()
    async with NodeClient(lone.ready["api"], "x" * 43) as client:
        with pytest.raises(UnauthorizedError, match="Bearer"):
            await client.status()


async def test_an_api_open_to_others_is_warned_of(lone: NodeProcess) -> None:
    lone.settings["api_host"] = "0.0.0.0"
    await lone.start()
    assert " WARNING " in lone.log
    assert "api_host" in lone.log


async def test_a_peer_that_does_not_resolve_is_named_and_tried_again(lone: NodeProcess) -> None:
    lone.settings["peers"] = "no-such-home.invalid:7946"
    await lone.start()
    await lone.logged("ws://no-such-home.invalid:7946/peer")
    assert "unresolved" in lone.log

    async def tried_again() -> bool:
        dials = await lone.client.dials()
        return bool(dials and dials[0].failures > 1 and "no-such-home.invalid" in dials[0].last_error)

    await until(tried_again, "it is dialled again", lambda: lone.log)
    assert (await lone.status()).synced
    told = await asyncio.to_thread(run_command, "peers", "--data", lone.directory)
    assert told.lines[0] == "no links to other homes"
    assert told.lines[2].startswith("not reached")
    assert "no-such-home.invalid" in told.lines[3]


async def test_a_full_disk_stops_nothing_but_new_blocks_and_passes(lone: NodeProcess) -> None:
    await lone.start()
    await until(lambda: _final(lone, 4), "final", lambda: lone.log)
    assert lone.process is not None
    _, hard = resource.prlimit(lone.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(lone.process.pid, resource.RLIMIT_FSIZE, (16, hard))

    async def in_trouble() -> bool:
        return (await lone.status()).disk_trouble is not None

    await until(in_trouble, "the node notices", lambda: lone.log)
    full = await lone.status()
    assert full.mining_blocked == full.disk_trouble
    with pytest.raises(RefusedError) as refusal:
        await Home(lone.client, FOUNDER).register_asset(METER)
    assert refusal.value.may_pass
    resource.prlimit(lone.process.pid, resource.RLIMIT_FSIZE, (hard, hard))

    async def over() -> bool:
        return (await lone.status()).disk_trouble is None

    await until(over, "the node notices that there is room again", lambda: lone.log)
    await until(lambda: _final(lone, full.tip.height + 4), "it goes on", lambda: lone.log)
    assert lone.log.count(" ERROR ") == 1
    assert await lone.stop() == 0
