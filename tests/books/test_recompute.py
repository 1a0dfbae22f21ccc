"""The settlements of generated chains, recomputed from their raw bytes by a program of its own."""

import io

import pytest

from ledger_core.chain.store.blockfile import write_blocks
from ledger_core.synthetic import Config, SyntheticChain

from .audit import assert_agrees, assert_sound, replay, without_room
from .recompute import main, recompute

DAY = 86_400


@pytest.mark.parametrize(("homes", "days", "seed"), [(3, 2, 1), (8, 1, 7), (20, 1, 42)])
def test_a_generated_chain_is_recomputed_to_the_last_wh(
    homes: int,
    days: int,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chain = SyntheticChain(Config(homes=homes, duration_s=days * DAY, seed=seed, reorg_blocks=0))
    blocks = [item.block for item in chain.blocks()]
    state, events = replay(chain.genesis, blocks)
    assert state.hash() == chain.state.hash()
    file = io.BytesIO()
    write_blocks(file, chain.genesis, blocks)
    books = recompute(file.getvalue(), without_room(events))
    assert_agrees(books, state, events)
    assert_sound(books)
    assert len(books.lines) > 50
    assert any(sale.capacity for sale in books.sales.values())
    path = tmp_path_factory.mktemp("books") / "street.blocks"
    path.write_bytes(file.getvalue())
    main(path)
    assert capsys.readouterr().out.startswith(f"{len(books.sales)} trades, {len(books.lines)} ")


def test_one_wh_more_in_one_register_is_seen() -> None:
    """The comparison can fail: a boundary that is a Wh off changes the books."""
    chain = SyntheticChain(Config(homes=3, duration_s=DAY, seed=1, reorg_blocks=0))
    blocks = [item.block for item in chain.blocks()]
    state, events = replay(chain.genesis, blocks)
    file = io.BytesIO()
    write_blocks(file, chain.genesis, blocks)
    books = recompute(file.getvalue(), without_room(events))
    key, line = next((key, line) for key, line in books.lines.items() if line.delivered)
    sale = books.sales[key[0]]
    books.balances[sale.seller] += 1
    with pytest.raises(AssertionError):
        assert_agrees(books, state, events)
    books.balances[sale.seller] -= 1
    books.lines[key] = type(line)(
        line.agreed,
        line.sent,
        line.received,
        line.delivered + 1,
        line.paid,
        line.shortfall_paid,
        line.disputed,
    )
    with pytest.raises(AssertionError):
        assert_agrees(books, state, events)
