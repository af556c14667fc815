"""Names and words follow `models/glossary.md`: nouns for things, verbs for functions, one term a thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, sources, tracked

WHOLE_NAMES = frozenset(
    re.findall(
        r"\w+",
        """
        told tell tells held kept shown said says asked given begun heard met seen made done gone lost
        taken put how whose who whom when where what of on at there whole again apart aside such so young
        still ahead ours theirs mine nobody anybody somebody everybody whoever stand standing
        place places crowd crowds knob knobs judge judged judges world worlds
        """,
    )
)
"""Participles, prepositions and question words that say nothing alone, and words the glossary replaces."""

PARTS = frozenset(
    [
        *("crowd", "crowds", "knob", "knobs", "judge", "judged", "judges", "judging"),
        *("nobody", "anybody", "somebody", "everybody", "whoever", "told", "tell", "tells"),
    ]
)
"""Words that no name contains."""

PROSE = re.compile(
    r"\b(nobody|somebody|anybody|everybody|whoever|knobs?|crowds?|judged?|judges|judging|see there"
    r"|told(?! apart)|tells?(?! \w+ apart)(?! apart))\b",
    re.IGNORECASE,
)

PUBLIC = {"kept"}
"""Members of published files that keep their names: `dataset.json`."""

FORMER = re.compile(r"^\s+\"judged\": \"evaluation\",$")
"""The value of `export --which` in 0.1.0, which is still accepted."""


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def is_banned(name: str) -> bool:
    """Whether a name, without underscores and its shape suffix, is banned as a whole or in a part."""
    bare = re.sub(r"_[A-Z]+$", "", name.strip("_")).lower()
    return (bare in WHOLE_NAMES and bare not in PUBLIC) or bool(PARTS & set(words(name)))


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Functions, parameters, classes and their fields. Test functions are sentences, and left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("test_"):
                yield node.lineno, node.name
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += [x for x in (arguments.vararg, arguments.kwarg) if x is not None]
            yield from ((argument.lineno, argument.arg) for argument in every)
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
            for member in node.body:
                if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    yield member.lineno, member.target.id


CODE = sources("models", "service", "training", "loadtests", "tests")


def test_names_say_what_they_name() -> None:
    found = []
    for path in CODE:
        if is_banned(path.stem):
            found.append(str(path))
        tree = ast.parse((ROOT / path).read_text())
        found += [f"{path}:{line}: {name}" for line, name in names(tree) if is_banned(name)]
    assert not found


def prose() -> list[Path]:
    documents = [path for path in tracked() if path.suffix in (".md", ".lua", ".j2", ".html")]
    exempt = {Path("tests/architecture/test_names.py"), Path("models/glossary.md"), Path("CHANGELOG.md")}
    return [path for path in [*CODE, *documents] if path not in exempt]


def test_texts_use_the_words_of_the_field() -> None:
    """Comments, docstrings, messages and documents: no persons for things, no word the glossary replaces."""
    found = []
    for path in prose():
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            if (match := PROSE.search(line)) and not FORMER.match(line):
                found.append(f"{path}:{number}: {match[0]!r} in {line.strip()[:80]!r}")
    assert not found


@pytest.mark.parametrize(
    "name", ["_told", "held", "on", "crowd_ids", "JudgeWindow", "knobs", "place_UC", "whose"]
)
def test_a_riddle_is_found(name: str) -> None:
    assert is_banned(name)


@pytest.mark.parametrize(
    "name", ["label", "group_ids", "on_lag", "watch_time_s", "slate_weight_UC", "from_rows"]
)
def test_a_plain_name_passes(name: str) -> None:
    assert not is_banned(name)
