"""`python -m tests.surface`: write the golden files anew, after a change that an issue asks for."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.surface import surface

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    """Write every golden file."""
    with tempfile.TemporaryDirectory() as folder:
        documents = surface.http(Path(folder))
    documents |= {
        "bundle": surface.bundle_files(),
        "settings": surface.settings(),
        "commands": surface.commands(),
        "python": surface.python(),
    }
    for name, document in documents.items():
        (GOLDEN / f"{name}.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        print(f"wrote {name}.json")


if __name__ == "__main__":
    main()
