"""What holds while versions come, go, and become active."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import BadInput, BundleNotFound, CorruptBundle
from models.manifest import LABELER, MANIFEST
from models.store import CURRENT, HISTORY, BundleStore
from tests.models import tiny

A, B, C, D = "20260101-0000000a", "20260102-0000000b", "20260103-0000000c", "20260104-0000000d"


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """A store that holds A, B and C, none of them active."""
    store = BundleStore(tmp_path / "bundles")
    for number, version in enumerate((A, B, C)):
        tiny.write(tmp_path / "staging", version, bias=number)
        assert store.publish(tmp_path / "staging") == version
    return store


def promote(store: BundleStore, *versions: str) -> None:
    for version in versions:
        store.promote(version)


# --- reading


def test_a_store_that_was_never_written_is_empty_and_says_what_to_do(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "nowhere")
    assert store.versions() == []
    assert store.previous() is None
    for act in (store.current, store.rollback, lambda: store.promote(A), lambda: store.path(A)):
        with pytest.raises(BundleNotFound, match="export a bundle first"):
            act()
    assert not store.root.exists()


def test_versions_are_listed_by_date_and_nothing_else_is(store: BundleStore) -> None:
    (store.root / "notes").mkdir()
    (store.root / D).mkdir()  # a folder without a manifest is no version
    (store.root / "20260105-0000000e").write_text("")
    assert store.versions() == [A, B, C]


def test_published_is_not_active(store: BundleStore) -> None:
    with pytest.raises(BundleNotFound, match=f"no active version; it holds {A}, {B}, {C}"):
        store.current()


def test_a_missing_version_is_named_together_with_those_that_are_there(store: BundleStore) -> None:
    with pytest.raises(BundleNotFound, match=f"no version {D}; it holds {A}, {B}, {C}"):
        store.path(D)


@pytest.mark.parametrize(
    "version",
    ["", ".", "..", f"../{A}", f"{A}/..", f"{A}\n", "CURRENT", A.upper(), f"{A}\0", "٢٠٢٦٠١٠١-0123abcd"],
)
def test_only_the_name_of_a_version_reaches_the_file_system(store: BundleStore, version: str) -> None:
    for act in (store.path, store.promote):
        with pytest.raises(BadInput, match="is not a version"):
            act(version)


@pytest.mark.parametrize("text", ["latest\n", f"{A}\n{B}\n", f"../{A}\n", " ", "\xff\xfe"])
def test_a_damaged_current_is_refused_with_a_way_out(store: BundleStore, text: str) -> None:
    (store.root / CURRENT).write_text(text, "latin-1")
    with pytest.raises(CorruptBundle, match="Remove the file and promote one"):
        store.current()
    (store.root / CURRENT).unlink()
    store.promote(B)
    assert store.current() == B


def test_an_active_version_whose_folder_is_gone_is_not_found(store: BundleStore) -> None:
    promote(store, A)
    remove(store, A)
    with pytest.raises(BundleNotFound, match=f"no version {A}; it holds {B}, {C}"):
        store.current()


def test_a_current_without_an_end_of_line_is_read(store: BundleStore) -> None:
    (store.root / CURRENT).write_text(B)
    assert store.current() == B


# --- publish


def test_publishing_moves_the_folder_and_keeps_every_byte(store: BundleStore, tmp_path: Path) -> None:
    tiny.write(tmp_path / "staging", D)
    before = {p.name: p.read_bytes() for p in (tmp_path / "staging").iterdir()}
    store.publish(tmp_path / "staging")
    assert {p.name: p.read_bytes() for p in store.path(D).iterdir()} == before
    assert not (tmp_path / "staging").exists()


def test_a_version_never_changes(store: BundleStore, tmp_path: Path) -> None:
    before = (store.path(A) / LABELER).read_bytes()
    tiny.write(tmp_path / "staging", A, bias=7.0)
    with pytest.raises(BadInput, match="a version never changes"):
        store.publish(tmp_path / "staging")
    assert (store.path(A) / LABELER).read_bytes() == before
    assert (tmp_path / "staging" / MANIFEST).exists()


def test_an_empty_folder_of_that_name_is_not_replaced_either(store: BundleStore, tmp_path: Path) -> None:
    (store.root / D).mkdir()
    tiny.write(tmp_path / "staging", D)
    with pytest.raises(BadInput, match="a version never changes"):
        store.publish(tmp_path / "staging")


def test_a_damaged_folder_is_not_published(store: BundleStore, tmp_path: Path) -> None:
    tiny.write(tmp_path / "staging", D)
    with (tmp_path / "staging" / LABELER).open("ab") as file:
        file.write(b"!")
    with pytest.raises(CorruptBundle, match="sha256"):
        store.publish(tmp_path / "staging")
    with pytest.raises(BundleNotFound):
        store.publish(tmp_path / "no such folder")
    assert store.versions() == [A, B, C]


def test_a_link_to_what_lies_elsewhere_is_not_published(store: BundleStore, tmp_path: Path) -> None:
    folder = tmp_path / "staging"
    tiny.write(folder, D)
    (folder / LABELER).rename(tmp_path / "elsewhere")
    (folder / LABELER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=r"labeler\.onnx is a link"):
        store.publish(folder)
    assert D not in store.versions()


def test_a_folder_on_another_file_system_is_copied(store: BundleStore) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    staging = shm / f"reelrank-test-{os.getpid()}"
    tiny.write(staging, D)
    store.publish(staging)
    store.promote(D)
    assert store.current() == D
    assert not staging.exists()
    assert not [p for p in store.root.iterdir() if p.name.startswith(".")]


# --- promote and rollback


def test_promoting_makes_a_version_active(store: BundleStore) -> None:
    promote(store, A)
    assert store.current() == A
    assert (store.root / CURRENT).read_text() == f"{A}\n"
    assert store.previous() is None


def test_every_rollback_goes_one_further_back_also_after_a_restart(store: BundleStore) -> None:
    promote(store, A, B, C)
    for want in (B, A):
        assert BundleStore(store.root).previous() == want
        assert BundleStore(store.root).rollback() == want
        assert BundleStore(store.root).current() == want
    with pytest.raises(BundleNotFound, match="no version to go back to"):
        store.rollback()
    assert store.current() == A


def test_going_back_follows_what_was_active_not_the_dates(store: BundleStore) -> None:
    promote(store, C, A, B, A)
    assert [store.rollback() for _ in range(3)] == [B, A, C]


def test_a_promotion_after_a_rollback_forgets_what_was_rolled_back(store: BundleStore) -> None:
    promote(store, A, B)
    store.rollback()
    promote(store, C)
    assert store.rollback() == A


def test_promoting_the_active_version_again_does_not_make_it_its_own_predecessor(store: BundleStore) -> None:
    promote(store, A, B)
    before = {name: (store.root / name).stat().st_ino for name in (CURRENT, HISTORY)}
    promote(store, B, B)
    assert {name: (store.root / name).stat().st_ino for name in (CURRENT, HISTORY)} == before
    assert store.rollback() == A


def test_a_version_whose_folder_was_removed_is_passed_over(store: BundleStore) -> None:
    promote(store, C, A, B, A)
    remove(store, B)
    assert store.previous() == C
    assert store.rollback() == C
    assert store.previous() is None


def test_a_damaged_version_is_neither_promoted_nor_rolled_back_to(store: BundleStore) -> None:
    promote(store, A, B)
    for version in (A, C):
        (store.path(version) / LABELER).write_bytes(b"")
    with pytest.raises(CorruptBundle, match="sha256"):
        store.promote(C)
    with pytest.raises(CorruptBundle, match="sha256"):
        store.rollback()
    assert store.current() == B


def test_a_renamed_folder_is_not_that_version(store: BundleStore) -> None:
    promote(store, A)
    (store.root / B).rename(store.root / D)
    with pytest.raises(CorruptBundle, match=f"holds the manifest of {B}"):
        store.promote(D)
    assert store.current() == A


def test_a_store_shipped_without_a_history_can_still_go_back_to_what_it_was_shipped_with(
    store: BundleStore,
) -> None:
    (store.root / CURRENT).write_text(f"{A}\n")
    assert store.previous() is None
    promote(store, B)
    assert store.rollback() == A


def test_a_current_set_by_hand_leaves_what_was_active_reachable(store: BundleStore) -> None:
    promote(store, A, B)
    (store.root / CURRENT).write_text(f"{C}\n")
    assert store.rollback() == B
    assert store.rollback() == A


def test_a_damaged_history_costs_the_way_back_and_nothing_else(store: BundleStore) -> None:
    promote(store, A, B)
    (store.root / HISTORY).write_bytes(b"\xff\x00 nonsense\n\n../../etc\n")
    assert store.current() == B
    assert store.previous() is None
    promote(store, C)
    assert store.rollback() == B


def test_nothing_is_left_lying_about(store: BundleStore) -> None:
    promote(store, A, B)
    store.rollback()
    assert {p.name for p in store.root.iterdir()} == {A, B, C, CURRENT, HISTORY}


# --- folders that cannot be written


@pytest.fixture
def unprivileged(store: BundleStore, tmp_path: Path) -> Iterator[None]:
    """A store this user may read but not write; root may write anywhere, so root becomes another."""
    promote(store, A, B)
    root = os.geteuid() == 0
    walk = [tmp_path, *(path for path in tmp_path.parents if Path(tempfile.gettempdir()) in path.parents)]
    modes = {path: path.stat().st_mode for path in (*walk, store.root)}
    for path in walk:
        path.chmod(0o755)
    store.root.chmod(0o555)
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.mark.usefixtures("unprivileged")
def test_a_read_only_store_can_be_read_and_says_why_it_cannot_be_written(store: BundleStore) -> None:
    assert store.current() == B
    assert store.previous() == A
    for act in (store.rollback, lambda: store.promote(C)):
        with pytest.raises(
            BadInput, match=r"cannot be written: Permission denied\. The store needs a folder"
        ):
            act()
    assert store.current() == B


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = BundleStore(tmp_path / "file")
    assert store.versions() == []
    with pytest.raises(CorruptBundle, match="Not a directory"):
        store.current()
    tiny.write(tmp_path / "staging", A)
    with pytest.raises(BadInput, match="cannot be written"):
        store.publish(tmp_path / "staging")


def remove(store: BundleStore, version: str) -> None:
    for path in store.path(version).iterdir():
        path.unlink()
    (store.root / version).rmdir()
