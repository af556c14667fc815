"""Whatever dies, and whichever processes write at once, `CURRENT` names one complete version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.manifest import MANIFEST, Manifest
from models.store import CURRENT, HISTORY, BundleStore
from tests.models import tiny
from tests.models.killer import A, B, C, D

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """A, B and C, of which A and then B were promoted."""
    store = BundleStore(tmp_path / "bundles")
    for version in (A, B, C):
        tiny.write(tmp_path / "new", version)
        store.publish(tmp_path / "new")
    store.promote(A)
    store.promote(B)
    return store


@pytest.fixture
def elsewhere(store: BundleStore) -> Iterator[Path]:
    """A folder on another file system than the store."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    folder = shm / f"reelrank-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def kill_at_every_line(operation: str, store: BundleStore, staging: Path, work: Path) -> int:
    tiny.write(staging, D)
    work.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.models.killer",
        operation,
        str(store.root),
        str(staging),
        str(work),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("operation", ["publish", "promote", "promote-again", "rollback"])
def test_a_writer_killed_at_any_line_leaves_one_complete_version(
    store: BundleStore, tmp_path: Path, operation: str
) -> None:
    places = kill_at_every_line(operation, store, tmp_path / "staging", tmp_path / "work")
    assert places > 40  # it really died that often, between any two steps


def test_a_copy_from_another_file_system_killed_at_any_line_leaves_one_complete_version(
    store: BundleStore, tmp_path: Path, elsewhere: Path
) -> None:
    assert kill_at_every_line("publish", store, elsewhere / "staging", tmp_path / "work") > 80


def test_a_power_cut_cannot_show_a_name_before_its_bytes(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename comes after the bytes it makes visible were written through, and its folder after it."""
    calls: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def note_fsync(descriptor: int) -> None:
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        calls.append(("rename", str(target)))
        rename(source, target)

    def note_replace(source: Path, target: Path) -> None:
        calls.append(("rename", str(target)))
        replace(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("reads the names of open files from /proc")
    tiny.write(tmp_path / "staging", D)
    names = [str(p) for p in (tmp_path / "staging").iterdir()]
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "replace", note_replace)
    root = str(store.root)

    store.publish(tmp_path / "staging")
    assert sorted(calls[:4]) == sorted(("sync", name) for name in names)
    assert calls[4:] == [("sync", f"{tmp_path}/staging"), ("rename", f"{root}/{D}"), ("sync", root)]

    def replaced(name: str) -> list[tuple[str, str]]:
        return [("sync", f"{root}/.{name}.draft"), ("rename", f"{root}/{name}"), ("sync", root)]

    calls.clear()
    store.promote(D)
    assert calls == replaced(HISTORY) + replaced(CURRENT)
    calls.clear()
    store.rollback()
    assert calls == replaced(CURRENT) + replaced(HISTORY)


def test_writers_at_the_same_time_never_show_a_reader_anything_but_a_complete_version(
    store: BundleStore,
) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.models.racer", store.root, str(seed), "60"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    versions: set[str] = set()
    try:
        while any(writer.poll() is None for writer in writers):
            versions.add(store.current())
            assert Manifest.read(store.path(store.current())).version in (A, B, C)
    finally:
        errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, errors
    assert len(versions) > 1  # the reader was there while it changed
    assert (store.root / HISTORY).read_text().splitlines()[-1] == store.current()
    assert {p.name for p in store.root.iterdir()} == {A, B, C, CURRENT, HISTORY}


def test_two_publishers_of_one_version_end_with_one(store: BundleStore, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.store import BundleStore; "
        "BundleStore(Path(sys.argv[1])).publish(Path(sys.argv[2]))"
    )
    for name in ("one", "two"):
        tiny.write(tmp_path / name, D)
    publishers = [
        subprocess.Popen(
            [sys.executable, "-c", code, store.root, tmp_path / name],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    errors = [publisher.communicate()[1] for publisher in publishers]
    assert sorted(publisher.returncode for publisher in publishers) == [0, 1]
    assert sum("a version never changes" in error for error in errors) == 1
    assert (store.path(D) / MANIFEST).is_file()
