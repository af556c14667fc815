"""Links between documents lead somewhere: to a file, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, tracked

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    return sorted(path for path in tracked() if path.suffix == ".md")


def anchors(text: str) -> set[str]:
    """Fragments of a document's headings, as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    text = (ROOT / document).read_text()
    broken = []
    for target in (a or b for a, b in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (ROOT / document.parent / path).resolve() if path else ROOT / document
        if not file.exists() or (fragment and fragment not in anchors(file.read_text())):
            broken.append(target)
    assert not broken
