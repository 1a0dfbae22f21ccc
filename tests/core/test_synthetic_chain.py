"""Synthetic chains in a real chain and store, and the command that makes them."""

import json
from pathlib import Path

import pytest

from ledger_core.chain.chain import Chain
from ledger_core.chain.store.blockfile import BlockFile
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.verify import Verifier
from ledger_core.cli import generate_command
from ledger_core.cli.frame import Program, UsageError
from ledger_core.errors import LedgerError
from ledger_core.synthetic import Config, SyntheticChain

HOUR = 3600
STREET = ["--homes", "2", "--days", "1", "--seed", "5", "--spacing", "180", "--checkpoint", "5"]
"""A day in few blocks."""


def generate(*arguments: str | Path) -> None:
    """Run the command as the program does."""
    program = Program("test")
    generate_command.add_command(program.group("chain", "test"))
    parsed = program.parser.parse_args(["chain", "generate", *map(str, arguments)])
    parsed.handler(parsed)


def test_a_chain_switches_as_often_as_there_are_reorganisations(tmp_path: Path) -> None:
    synthetic = SyntheticChain(Config(homes=4, duration_s=4 * HOUR, seed=11, reorg_blocks=40))
    switches: list[tuple[int, int]] = []
    with open_store(tmp_path, synthetic.genesis) as store, Verifier(1) as verifier:
        chain = Chain.open(store, verifier)
        for item in synthetic.blocks():
            outcome = chain.add_block(item.block, item.time)
            if outcome.disconnected:
                switches.append((len(outcome.disconnected), len(outcome.connected)))
                assert not item.side
        assert len(switches) == synthetic.tally.reorganisations > 2
        # One block more than the side branch, or fewer with the votes that justify a checkpoint.
        assert any(joined == left + 1 for left, joined in switches)
        assert all(joined <= left + 1 for left, joined in switches)
        assert sum(left for left, _ in switches) == synthetic.tally.side_blocks
        assert chain.tip_hash == synthetic.state.tip.hash
    with open_store(tmp_path) as store, Verifier(1) as verifier:
        assert Chain.open(store, verifier).state.hash() == synthetic.state.hash()


def test_the_command_stores_a_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(*STREET, "--data", tmp_path / "new", "--json")
    summary = json.loads(capsys.readouterr().out)
    with open_store(tmp_path / "new", writable=False) as store, Verifier(1) as verifier:
        chain = Chain.open(store, verifier)
        assert chain.tip_hash.hex() == summary["tip"]
        assert chain.state.hash().hex() == summary["state_hash"]
        assert (chain.height, chain.final_height) == (summary["height"], summary["final"])
        assert summary["tally"]["blocks"] == chain.height
    with pytest.raises(UsageError, match="holds a chain already"):
        generate(*STREET, "--data", tmp_path / "new")


def test_the_command_writes_a_file_of_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "street.blocks"
    generate(*STREET, "--out", path, "--json")
    summary = json.loads(capsys.readouterr().out)
    file = BlockFile(path)
    blocks = list(file.blocks())
    assert file.genesis.chain_id.hex() == summary["chain_id"]
    assert len(blocks) == summary["height"]
    assert blocks[-1].hash.hex() == summary["tip"]
    assert list(tmp_path.iterdir()) == [path]
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        generate(*STREET, "--out", path)
    generate(*STREET, "--out", path, "--force")
    assert path.read_bytes() == before


def test_the_command_alone_tells_what_it_made(capsys: pytest.CaptureFixture[str]) -> None:
    generate(*STREET, "--start", "2024-06-21", "--bits", "2", "--reorg-every", "0", "--slot", "3600")
    printed = capsys.readouterr()
    assert "state_hash" in printed.out
    assert "0 reorganisations" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--days", "0"], "--days must lie between 1 and 3660, not at 0"),
        (["--days", "3661"], "--days must lie between 1 and 3660"),
        (["--days", "many"], "invalid int value: 'many'"),
        (["--start", "2024-13-01"], "invalid fromisoformat value"),
        (["--start", "2999-01-01"], "end in the future"),
        (["--out", "a", "--data", "b"], "not allowed with argument"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generate(*STREET, *arguments)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory; --data stores a chain in a directory"):
        generate(*STREET, "--out", tmp_path, "--force")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--homes", "1"], "synthetic_config"),
        (["--seed", "-3"], "synthetic_config"),
        (["--slot", "7000"], "genesis_invalid"),
        (["--slot", "0"], "parameter_invalid"),
        (["--bits", "99"], "parameter_invalid"),
    ],
)
def test_what_no_street_can_be_is_refused(arguments: list[str], code: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as refusal:
        generate(*STREET, *arguments, "--data", tmp_path / "new")
    assert refusal.value.code == code
    assert not (tmp_path / "new").exists()
