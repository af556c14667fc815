"""A tiny bundle for all tests of the load rig."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service import tiny_bundle


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one version."""
    return tiny_bundle.write(tmp_path_factory.mktemp("tiny") / tiny_bundle.FIRST)
