"""Versions that cannot be used, and a `CURRENT` that names them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bundle_parts import sha256
from tests.models import tiny as other_bundle
from tests.service import tiny_bundle

BROKEN = "20260103-00000003"


def write_broken(root: Path, defect: str) -> None:
    """A third version that cannot be used."""
    folder = root / BROKEN
    if defect == "another ranker":
        other_bundle.write(folder, BROKEN)
        return
    tiny_bundle.write(folder, BROKEN)
    if defect == "truncated":
        (folder / "ranker.onnx").write_bytes((folder / "ranker.onnx").read_bytes()[:-20])
    elif defect == "golden rows":
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["labeler"]["golden"]["outputs"]["pcr"]["data"][0] += 0.01
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif defect == "another labeler":
        # One that takes something we have never heard of; sound in itself.
        path = folder / "labeler.onnx"
        before, renamed = sha256(path), path.read_bytes().replace(b"feedback", b"goodwill")
        path.write_bytes(renamed)
        manifest = (folder / "manifest.json").read_text()
        manifest = manifest.replace('"feedback"', '"goodwill"').replace(before, sha256(path))
        (folder / "manifest.json").write_text(manifest)
    elif defect == "no manifest's json":
        (folder / "manifest.json").write_bytes(b"{}")


REASON = {
    "truncated": "corrupt_bundle",
    "golden rows": "self_test_failed",
    "no manifest's json": "corrupt_bundle",
    "another ranker": "contract_mismatch",
    "another labeler": "contract_mismatch",
}
DEFECTS = list(REASON)


def point_at(root: Path, text: str) -> None:
    """`CURRENT` holds this, from one moment to the next: the service must not see half of it."""
    (root / "draft").write_text(text)
    (root / "draft").replace(root / "CURRENT")
