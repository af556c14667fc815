"""What the page computes itself: quantiles, orders, iso-lines, and the candidates that were typed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.console.console_page import ConsoleService, console_page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("console")]

Evaluate = Callable[[str, str], Any]

SCRAPES = (
    'x_bucket{le="1.0"} 10\nx_bucket{le="2.0"} 10\nx_bucket{le="+Inf"} 10\nx_count 10\nc{a="\\"}"} 3\n',
    'x_bucket{le="1.0"} 20\nx_bucket{le="2.0"} 50\nx_bucket{le="+Inf"} 50\nx_count 50\nc{a="\\"}"} 8\n',
)


@pytest.fixture(scope="module")
def evaluate(browser: Browser, console: ConsoleService) -> Iterator[Evaluate]:
    """Return an expression's value, in which `m` is a module of the page."""
    with console_page(browser, console.url) as tab:
        page = tab.open("why")
        yield lambda module, code: page.evaluate(
            f"import('{console.url}/console/{module}.js').then((m) => ({code}))"
        )


def test_a_quantile_is_of_what_came_between_two_scrapes(evaluate: Evaluate) -> None:
    """10 values up to 1 and 30 up to 2: the median is a third into the second bucket."""
    window = "new m.Window({}, {}, 10)".format(*(f"m.parse({text!r})" for text in SCRAPES))
    assert evaluate("metrics", f"{window}.quantile('x', {{}}, 0.5)") == pytest.approx(1 + 1 / 3)
    assert evaluate("metrics", f"[...{window}.by('c', 'a')]") == [['"}', 5]]


def test_kendalls_tau_is_1_of_one_order_and_minus_1_of_its_reverse(evaluate: Evaluate) -> None:
    taus = "[[1, 2, 3], [3, 2, 1], [2, 1, 3]].map((b) => m.kendallTau([1, 2, 3], b))"
    assert evaluate("mix", taus) == pytest.approx([1, -1, 1 / 3])


def test_authors_of_equal_parts_count_whole(evaluate: Evaluate) -> None:
    items = "[...'abcd'].map((video_id) => ({video_id, watch_time_s: 2, watch_ratio: 0.5, objectives: {}}))"
    authors = "['x', 'x', 'y', 'y'].map((author_id, i) => ({video_id: 'abcd'[i], author_id}))"
    mix = evaluate("mix", f"m.mixOf({items}, 4, {authors})")
    assert (mix["authors"], mix["effective"], mix["duration"]) == (2, 2, 4)


def test_an_iso_line_runs_where_the_value_is(evaluate: Evaluate) -> None:
    """Between the middles of two columns, of values 0 and 1, that of 0.25 is a quarter to the right."""
    (line,) = evaluate("surface_chart", "m.isoLine([[0, 1], [0, 1]], 0.25)")
    assert sorted(line) == [[0.75, 0.5], [0.75, 1.5]]


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("v1", [{"video_id": "v1"}]),
        ("v1, 20, a, t", [{"video_id": "v1", "duration_s": 20, "author_id": "a", "tag": "t"}]),
        ("v1\t20\n\n v2 ", [{"video_id": "v1", "duration_s": 20}, {"video_id": "v2"}]),
        ('["v1", 2]', [{"video_id": "v1"}, {"video_id": "2"}]),
        ('{"user_id": "u", "candidates": [{"video_id": "v1"}]}', [{"video_id": "v1"}]),
    ],
)
def test_candidates_may_be_lines_or_json(evaluate: Evaluate, text: str, candidates: object) -> None:
    assert evaluate("session", f"m.candidatesIn({text!r})") == candidates


def test_marks_are_of_what_came_again_and_of_what_came_after_newer_events(evaluate: Evaluate) -> None:
    """c came in one request with b, which is newer; a came later than both and is older."""
    lines = [
        ("b", 3000, 9000, "accepted"),
        ("c", 2000, 9000, "accepted"),
        ("a", 1000, 9500, "accepted"),
        ("b", 3000, 9600, "merged"),
        ("b", 3000, 9700, "duplicate"),
        ("b", 3000, 9800, "duplicate"),
    ]
    names = ("event_id", "timestamp_ms", "logged_at_ms", "outcome")
    newest_first = json.dumps([dict(zip(names, line, strict=True)) for line in reversed(lines)])
    marks = evaluate("marks", f"Object.fromEntries(m.marksOf({newest_first}))")
    assert marks == {
        "a": {"duplicate": 0, "merged": 0, "late_ms": 8500},
        "b": {"duplicate": 2, "merged": 1, "late_ms": 0},
        "c": {"duplicate": 0, "merged": 0, "late_ms": 0},
    }


def test_a_pasted_body_keeps_its_rules_and_weights(evaluate: Evaluate) -> None:
    body = {"user_id": "u", "candidates": ["v"], "rules": {"author_decay": 0.5}, "request_id": "r"}
    assert evaluate("session", f"m.otherMembers({json.dumps(json.dumps(body))})") == {
        "user_id": "u",
        "rules": {"author_decay": 0.5},
    }
    assert evaluate("session", "m.otherMembers('v1 20')") == {}


@pytest.mark.parametrize("text", ["soon", "-1", "1.5", "2026-12-01"])
def test_what_is_no_time_is_not_taken_for_now(evaluate: Evaluate, text: str) -> None:
    message = evaluate(
        "session", f"(() => {{ try {{ m.checkTime({text!r}); }} catch (e) {{ return e.message; }} }})()"
    )
    assert message == f"The time must be whole Unix milliseconds, found “{text}”."
