"""The README's commands run, and answer what it says they answer."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ROOT
from training.export.model_card import card

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
VOLATILE = ("took_ms", "request_id")
"""Members of an answer that differ each time."""


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def environment(home: Path) -> dict[str, str]:
    """As a new user has it: nothing in the home, and this Python first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("REELRANK_")}
    return kept | {"HOME": str(home), "PATH": path}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`make serve` on the README's port, in a home of its own."""
    if not (ROOT / ".venv" / ".serve").exists():
        pytest.skip("no .venv here: `make test` makes the one that `make serve` uses")
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.1", 8000)), "port 8000 is taken; end what listens there"
    env = environment(tmp_path_factory.mktemp("home"))
    process = subprocess.Popen(["make", "serve"], cwd=ROOT, env=env, start_new_session=True)
    try:
        for _ in range(600):
            try:
                if httpx2.get("http://127.0.0.1:8000/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                assert process.poll() is None, "make serve ended; is port 8000 taken?"
            time.sleep(0.1)
        yield env
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)


def test_each_curl_answers_what_it_says(served: dict[str, str]) -> None:
    shown = [text for text in blocks("console") if "curl" in text]
    assert len(shown) >= 2
    for text in shown:
        command, answer = re.split(r"^(?=\{)", text, maxsplit=1, flags=re.MULTILINE)
        got = subprocess.run(
            ["bash", "-c", command.removeprefix("$ ")], capture_output=True, text=True, env=served, check=True
        )
        want, found = json.loads(answer), json.loads(got.stdout)
        for name in VOLATILE:
            assert (name in want) == (name in found), got.stdout
            want.pop(name, None), found.pop(name, None)
        assert json.dumps(found) == json.dumps(want)


def test_in_the_demo_two_slates_cross_over_and_a_hate_sinks_its_author(served: dict[str, str]) -> None:
    got = subprocess.run(["make", "demo"], cwd=ROOT, env=served, capture_output=True, text=True, check=True)
    _, slates = got.stdout.split("POST /rerank")
    rows = re.findall(r"(\d+) +│ (\d+) +│ +\d+ +[\d.]+ │ +(\d+) +[\d.]+ │ +(\d+) +[\d.]+ │ +(\d+) ", slates)
    assert len(rows) == 8
    for _, tag, ann, bob, _ in rows:
        assert (int(ann) <= 4, int(bob) <= 4) == ((True, False) if tag == "39" else (False, True))
    hated = [(ann, later) for author, _, ann, _, later in rows if author == "8075929"]
    assert sorted(hated) == [("1", "3"), ("2", "4")]


def test_the_commands_for_ones_own_log_run(tmp_path: Path) -> None:
    (text,) = (block for block in blocks("sh") if "training fit" in block)
    env = environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-euc", text], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundles" / "CURRENT").exists()


def test_every_make_target_that_is_named_exists() -> None:
    assert shutil.which("make")
    for target in set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE)):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_generated_blocks_are_what_the_committed_records_say() -> None:
    """`python .ci/readme.py` writes them."""
    namespace = runpy.run_path(str(ROOT / ".ci" / "readme.py"))
    assert namespace["written"](README) == README


def test_the_card_is_that_of_the_released_manifest() -> None:
    """`python -m training card` writes the block."""
    text = (ROOT / "models" / "README.md").read_text()
    block = re.search(r"<!-- card -->\n(.*?)<!-- /card -->", text, re.DOTALL)
    assert block is not None
    assert block[1] == card(ROOT / "models" / "bundles")
