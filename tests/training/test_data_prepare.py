"""`prepare` writes a whole folder or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from models.errors import BadInput
from tests.training.kuairand_csv import default_log, write_kuairand
from training.data import READERS, STREAMED, SyntheticConfig, load, prepare
from training.data._tables import INTERACTION_SCHEMA


def small(folder: Path) -> Path:
    """Return the config file of a small simulated log."""
    path = folder / "small.json"
    path.write_text(SyntheticConfig(users=20, videos=30, exposures=300).model_dump_json())
    return path


def test_what_it_writes_is_what_the_command_line_promises(tmp_path: Path) -> None:
    summary = prepare("synthetic", small(tmp_path), tmp_path / "deep" / "out", progress=False)
    assert summary.files == ("dataset.json", "interactions.parquet", "users.parquet", "videos.parquet")
    assert sorted(p.name for p in summary.out.iterdir()) == list(summary.files)
    log = pl.read_parquet(summary.out / "interactions.parquet")
    assert dict(log.schema) == INTERACTION_SCHEMA
    assert log["timestamp_ms"].is_sorted()
    note = json.loads((summary.out / "dataset.json").read_text())
    assert {"source", "licence", "citation", "rows", "days", "profile", "main_tab"} <= set(note)
    assert note["rows"] == {"read": 300, "kept": 300, "dropped": {}}


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    config = small(tmp_path)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        prepare("synthetic", config, tmp_path / name, seed=seed, progress=False)
    a, b, c = ((tmp_path / n / "interactions.parquet").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_an_empty_folder_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    prepare("synthetic", small(tmp_path), tmp_path / "out", progress=False)
    assert len(load(tmp_path / "out").log) == 300


def test_an_occupied_folder_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        prepare("synthetic", small(tmp_path), out, progress=False)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    config = small(tmp_path)
    with pytest.raises(BadInput, match="exists already"):
        prepare("synthetic", config, config, progress=False)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    config = small(tmp_path)
    with pytest.raises(BadInput, match="cannot write beside"):
        prepare("synthetic", config, config / "out", progress=False)


def test_an_unknown_data_set_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        prepare("movielens", None, tmp_path / "out", progress=False)
    assert all(name in str(caught.value) for name in (*READERS, *STREAMED))


@pytest.mark.parametrize("text", ["", "{", '{"users": -1}', '{"colour": 1}', '{"users": 2, "videos": 2}'])
def test_a_bad_config_of_the_log_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"not a config of the synthetic log") as caught:
        prepare("synthetic", path, tmp_path / "out", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_progress_leaves_stdout_to_the_caller(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare("kuairand-pure", write_kuairand(tmp_path / "k"), tmp_path / "out")
    assert capfd.readouterr().out == ""


def test_the_summary_is_one_line_for_people_and_json_for_machines(tmp_path: Path) -> None:
    log = [*default_log(), default_log()[-1]]
    summary = prepare("kuairand-pure", write_kuairand(tmp_path / "k", log), tmp_path / "out", progress=False)
    assert str(summary) == (
        "10 of 11 rows (dropped: 1 exact_duplicate), 2 users, 3 videos, 2022-04-20 to 2022-04-20"
    )
    assert json.loads(summary.model_dump_json())["info"]["rows"]["kept"] == 10


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    os.mkfifo(config)
    writer = os.open(config, os.O_RDWR)  # the command has begun its folder, and waits for this end
    parent = tmp_path / "data"
    code = (
        "import sys; from pathlib import Path; from training.data import prepare; "
        "prepare('synthetic', Path(sys.argv[1]), Path(sys.argv[2]), progress=False)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(config), str(parent / "out")], stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not (parent.is_dir() and any(parent.iterdir())):
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        os.close(writer)
        process.wait(timeout=60)
    assert process.returncode != 0
    assert list(parent.iterdir()) == []
