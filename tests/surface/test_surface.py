"""The public surface stays as it is pinned; `python -m tests.surface` writes the golden files anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.surface import surface

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return surface.http(tmp_path_factory.mktemp("surface"))


def plain(document: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(document))


def test_bundle_layout_is_as_pinned() -> None:
    assert plain(surface.bundle_files()) == golden("bundle")


def test_settings_and_their_defaults_are_as_pinned() -> None:
    assert plain(surface.settings()) == golden("settings")


def test_commands_and_their_options_are_as_pinned() -> None:
    assert plain(surface.commands()) == golden("commands")


def test_python_api_and_its_signatures_are_as_pinned() -> None:
    assert plain(surface.python()) == golden("python")


def test_openapi_document_is_as_pinned(http: Any) -> None:
    assert plain(http["openapi"]) == golden("openapi")


def test_metric_names_types_and_labels_are_as_pinned(http: Any) -> None:
    assert plain(http["metrics"]) == golden("metrics")


def test_answers_of_the_released_bundle_are_as_pinned(http: Any) -> None:
    """Equal to 1e-6, every label of every maker and every number of an explained slate."""
    assert differences(plain(http["answers"]), golden("answers")) == []


def differences(found: Any, pinned: Any, path: str = "") -> list[str]:
    """Paths at which two documents differ; numbers may by 1e-6 (relative above 1)."""
    if isinstance(found, dict) and isinstance(pinned, dict) and found.keys() == pinned.keys():
        return [d for name in pinned for d in differences(found[name], pinned[name], f"{path}.{name}")]
    if isinstance(found, list) and isinstance(pinned, list) and len(found) == len(pinned):
        pairs = enumerate(zip(found, pinned, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}[{i}]")]
    if isinstance(found, int | float) and isinstance(pinned, int | float):
        return [] if found == pytest.approx(pinned, rel=1e-6, abs=2e-6) else [f"{path}: {found} != {pinned}"]
    return [] if found == pinned else [f"{path}: {found!r} != {pinned!r}"]
