"""Files that commands write: refused before the work, complete or not there."""

from pathlib import Path

import pytest

from ledger_core.cli import main, simulate_command
from ledger_core.cli.output_files import new_file, require_writable


def test_what_can_not_be_written_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("old")
    require_writable(tmp_path / "new", force=False)
    require_writable(there, force=True)
    with pytest.raises(FileExistsError):
        require_writable(there, force=False)
    for force in (False, True):
        with pytest.raises(IsADirectoryError):
            require_writable(tmp_path, force=force)
        with pytest.raises(FileNotFoundError):
            require_writable(tmp_path / "missing" / "file", force=force)
        with pytest.raises(NotADirectoryError):
            require_writable(there / "file", force=force)


def test_a_new_file_is_complete_or_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with new_file(path, force=False) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(TypeError), new_file(path, force=True) as file:
        file.writelines([b"second", "no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"first"
    with new_file(path, force=True) as file:
        file.write(b"third")
    assert path.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "force", "why"),
    [("missing/plot.svg", (), "no such file"), (".", ("--force",), "is a directory")],
)
def test_a_street_is_not_simulated_for_a_picture_that_has_no_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    force: tuple[str, ...],
    why: str,
) -> None:
    def simulated(_: object) -> None:
        raise AssertionError("simulated in vain")

    monkeypatch.setattr(simulate_command, "Simulator", simulated)
    assert main(["simulate", "--plot", str(tmp_path / place), *force]) == 1
    assert why in capsys.readouterr().err
