"""One of several writers that promote and roll back the same store as fast as they can.

`python -m tests.models.racer BUNDLES SEED ROUNDS`
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path

from models.errors import BundleNotFound
from models.manifest import Manifest
from models.store import BundleStore


def main(root: Path, seed: int, rounds: int) -> None:
    store, dice = BundleStore(root), random.Random(seed)
    versions = store.versions()
    for _ in range(rounds):
        if dice.random() < 0.7:
            store.promote(dice.choice(versions))
        else:
            with suppress(BundleNotFound):  # all the way back already
                store.rollback()
        assert Manifest.read(store.path(store.current())).version in versions


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
