"""What no line of ours may do: run what it reads. A file of data must never become a program."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.repository import ROOT, sources

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules that execute what they read."""


def faults(source: str) -> Iterator[str]:
    """Calls and imports in a module that could run data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        yield from (f"imports {name}" for name in names if name.partition(".")[0] in UNPICKLERS)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
            yield f"calls {called}"
        if called.endswith("read_pickle") or given.get("allow_pickle", "False") != "False":
            yield "unpickles"
        if called == "torch.load" and given.get("weights_only") != "True":
            yield "loads with torch without weights_only=True"
        if called.startswith("yaml.") and called not in ("yaml.safe_load", "yaml.safe_dump"):
            yield f"calls {called}"
        if given.get("shell") == "True":
            yield "starts a shell"


def test_nothing_here_runs_what_it_reads() -> None:
    found = [
        f"{path}: {fault}"
        for path in sources("models", "service", "training", "loadtests", ".ci")
        for fault in faults((ROOT / path).read_text())
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f)",
        "pd.read_pickle(f)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_each_of_these_would_be_found(line: str) -> None:
    assert list(faults(line))
