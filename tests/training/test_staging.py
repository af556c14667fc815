"""An output folder appears whole or not at all, and what killed writers left goes."""

from __future__ import annotations

from pathlib import Path

from training.staging import UNFINISHED, atomic_folder


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / f".run-abcdefgh{UNFINISHED}"
    others = [tmp_path / name for name in (".run-backup", "run-2", f".runs-abcdefgh{UNFINISHED}")]
    for folder in (left, *others):
        folder.mkdir()
        (folder / "release.pt").touch()
    with atomic_folder(tmp_path / "run"):
        assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "run", *others])


def test_a_writer_at_work_keeps_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with atomic_folder(out) as first:
        with atomic_folder(out) as second:
            (second / "config.json").touch()
        assert first.is_dir()
        (out / "config.json").unlink()
