"""Kills a writer of a store before every line it runs, one process a line, and looks at what is left.

A program of its own, `python -m tests.models.killer OPERATION TEMPLATE STAGING WORK`: it forks, which only a
process without threads may do safely. Prints how many places it killed at; any broken promise is a traceback.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from models.errors import BundleNotFound
from models.manifest import Manifest
from models.store import CURRENT, HISTORY, BundleStore

A, B, C, D = "20260101-0000000a", "20260102-0000000b", "20260103-0000000c", "20260104-0000000d"
KILLED: Final = 77

Step = Callable[[BundleStore, Path], object]


def publish(store: BundleStore, staging: Path) -> None:
    store.publish(staging)


def promote(store: BundleStore, staging: Path) -> None:
    store.promote(C)


def promote_again(store: BundleStore, staging: Path) -> None:
    store.promote(A)


def rollback(store: BundleStore, staging: Path) -> None:
    store.rollback()


OPERATIONS: Final[dict[str, Step]] = {
    "publish": publish,
    "promote": promote,
    "promote-again": promote_again,
    "rollback": rollback,
}


def dies_at(line: int, step: Step, store: BundleStore, staging: Path) -> bool:
    """Run `step` in a child that dies without warning before the given line; False if it got to the end."""
    child = os.fork()
    if child == 0:
        left = line

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            ours = frame.f_code.co_filename.endswith("models/store.py")
            if not ours and not frame.f_code.co_filename.endswith("shutil.py"):
                return None
            if event == ("line" if ours else "call"):  # a copy is killed once a function, it has many lines
                left -= 1
                if left < 0:
                    os._exit(KILLED)
            return trace

        try:
            sys.settrace(trace)
            step(store, staging)
            sys.settrace(None)
        except BaseException:
            sys.settrace(None)
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED), f"the writer failed with {status} at line {line}"
    return status == KILLED


def is_whole(store: BundleStore) -> str:
    """Whatever happened, every version is complete and the active one is one of them."""
    for version in store.versions():
        assert Manifest.read(store.path(version)).version == version
    assert store.current() in store.versions()
    return store.current()


def back(store: BundleStore) -> list[str]:
    """All the way back, and where that led."""
    found = []
    while True:
        try:
            found.append(store.rollback())
        except BundleNotFound:
            return found


def after_publish(store: BundleStore, staging: Path) -> None:
    assert is_whole(store) == B
    if D not in store.versions():
        assert store.publish(staging) == D
    store.promote(D)
    assert [is_whole(store), *back(store)] == [D, B, A]


def after_promote(store: BundleStore, staging: Path) -> None:
    current = is_whole(store)
    assert current in (B, C)
    assert store.previous() == (A if current == B else B)
    store.promote(C)
    assert [is_whole(store), *back(store)] == [C, B, A]


def after_promote_again(store: BundleStore, staging: Path) -> None:
    current = is_whole(store)
    assert current in (A, B)
    assert store.previous() == (A if current == B else B)
    store.promote(A)
    assert [is_whole(store), *back(store)] == [A, B, A]


def after_rollback(store: BundleStore, staging: Path) -> None:
    current = is_whole(store)
    assert current in (A, B)
    assert store.previous() == (A if current == B else None)
    store.promote(C)
    assert [is_whole(store), *back(store)] == [C, *([B] if current == B else []), A]


AFTER: Final[dict[str, Step]] = {
    "publish": after_publish,
    "promote": after_promote,
    "promote-again": after_promote_again,
    "rollback": after_rollback,
}


def main(operation: str, template: Path, staging_template: Path, work: Path) -> None:
    """The template holds A, B and C, promoted A then B; the staging folder is D."""
    # A killed process loses nothing it wrote, and waiting for the disk that often takes minutes.
    setattr(os, "fsync", lambda _: None)  # noqa: B010
    line = 0
    while True:
        store, staging = BundleStore(work / "bundles"), staging_template.with_name("killed")
        shutil.rmtree(work / "bundles", ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(template, work / "bundles")
        shutil.copytree(staging_template, staging)
        died = dies_at(line, OPERATIONS[operation], store, staging)
        AFTER[operation](store, staging)
        left = {p.name for p in store.root.iterdir()} - {A, B, C, D, CURRENT, HISTORY}
        assert left <= {".incoming"}, left  # the next copy takes its place
        shutil.rmtree(staging, ignore_errors=True)
        if not died:
            break
        line += 1
    print(line)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
