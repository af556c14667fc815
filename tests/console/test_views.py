"""Each view in a real browser, against a real service with the released bundle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, Route, expect

from tests.console.console_page import AUTHORS, NEXT, ConsolePage, ConsoleService, console_page
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("console")]


def videos(page: Page, table: str = "Slate") -> list[str]:
    """Ids in the order of a table's rows."""
    return page.get_by_role("region", name=table).locator("tbody th bdi").all_inner_texts()


def slate_of(page: Page, console: ConsoleService) -> dict[str, Any]:
    """The service's answer to what the page's form says, at the moment that the page has asked for."""
    with page.expect_request("**/v1/preview/rerank*") as asked:
        page.get_by_role("button", name="Rank").click()
    body = json.loads(asked.value.post_data or "")
    with console.client() as client:
        reply: dict[str, Any] = client.post("/rerank", json=body, params={"explain": "true"}).json()
    return reply


def scores_by_author(page: Page, console: ConsoleService) -> dict[str, float]:
    with page.expect_response("**/v1/preview/rerank*") as answered:
        page.get_by_role("button", name="Rank").click()
    body = json.loads(answered.value.request.post_data or "")
    author = {c["video_id"]: c["author_id"] for c in body["candidates"]}
    best: dict[str, float] = {}
    for item in answered.value.json()["items"]:
        best.setdefault(author[item["video_id"]], item["score"])
    return best


# --- 1 why this score


def test_the_slate_is_the_services_answer(tab: ConsolePage, console: ConsoleService, user: str) -> None:
    page = tab.rank_example(user)
    answer = slate_of(page, console)
    expect(page.get_by_role("region", name="Slate").locator("tbody tr")).to_have_count(16)
    assert videos(page) == [item["video_id"] for item in answer["items"]]
    best = answer["items"][0]
    expect(page.get_by_role("heading", name=f"Watch time of {best['video_id']}")).to_be_visible()
    skip = f"{best['explanation']['states']['skip'] * 100:.0f} %"
    expect(page.get_by_text(f"skip (under 3 s) {skip}")).to_be_visible()
    objectives = page.get_by_role("region", name="Objectives").locator("tbody tr")
    expect(objectives).to_have_count(11)
    expect(objectives.first).to_contain_text(f"{best['watch_time_s']:.1f} s")
    expect(page.get_by_role("region", name="Influence").locator("tbody tr")).to_have_count(14)


def test_another_video_is_chosen_by_keyboard(tab: ConsolePage, user: str) -> None:
    page = tab.rank_example(user)
    second = page.get_by_role("region", name="Slate").get_by_role("button").nth(1)
    second.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Watch time of {second.inner_text()}")).to_be_visible()
    expect(second).to_have_attribute("aria-pressed", "true")


def test_a_user_without_a_sequence_is_said_to_have_none(tab: ConsolePage) -> None:
    page = tab.rank_example("a user without events")
    expect(page.get_by_text("The user has no sequence")).to_be_visible()


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ("", "Enter at least one candidate"),
        ("[{", "The candidates are not JSON"),
        ("v1 long", "the duration must be seconds above 0"),
        ('[{"video_id": "v", "duration_s": -1}]', "duration_s"),
    ],
)
def test_what_cannot_be_ranked_is_explained(tab: ConsolePage, candidates: str, message: str) -> None:
    page = tab.open("why")
    page.get_by_label("User id").fill("ann")
    page.get_by_label("Candidates").fill(candidates)
    page.get_by_role("button", name="Rank").click()
    expect(page.get_by_role("alert").filter(has_text=message)).to_be_visible()


def test_a_logged_slate_is_ranked_again(tab: ConsolePage, console: ConsoleService, user: str) -> None:
    """At its moment, with its rules, by the history of now, and without getting into the log again."""
    body: dict[str, Any] = {
        "user_id": user,
        "candidates": [{"video_id": "2303"}],
        "rules": {"diversity": 0.2},
    }
    body["timestamp_ms"] = int(time.time() * 1000)
    with console.client() as client:
        client.post("/rerank", json=body).raise_for_status()
        assert eventually(lambda: user in client.get("/v1/slates").text)
    page = tab.open("why")
    page.get_by_role("button", name="From the log").click()
    option = page.locator("select[name=logged] option").filter(has_text=f"{user[:9]}").first
    page.locator("select[name=logged]").select_option(option.get_attribute("value"))
    expect(page.get_by_label("User id")).to_have_value(user)
    page.get_by_role("button", name="Rank").click()
    expect(page.get_by_role("region", name="Slate").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("list", name="Rules")).to_contain_text("diversity")


def test_a_pasted_body_says_for_whom_and_by_which_rules(tab: ConsolePage, user: str) -> None:
    candidates = [{"video_id": f"v{i}", "duration_s": 20.0, "author_id": "a"} for i in range(3)]
    body = {"user_id": user, "candidates": candidates, "rules": {"max_per_author": 2}}
    page = tab.open("why")
    page.get_by_label("Candidates").fill(json.dumps(body))
    expect(page.get_by_label("User id")).to_have_value(user)
    page.get_by_role("button", name="Rank").click()
    expect(page.get_by_role("region", name="Slate").locator("tbody tr")).to_have_count(2)
    expect(page.get_by_role("list", name="Rules")).to_contain_text("max per author: 1 of 3 left out")


def test_texts_of_a_caller_stay_texts(tab: ConsolePage) -> None:
    """Markup, right-to-left ids and 10,000 characters neither run nor break the page."""
    ids = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u202eevil", "שלום-1", "x" * 200]
    page = tab.open("why")
    page.on("dialog", lambda dialog: tab.errors.append("a script of a caller ran"))
    page.get_by_label("User id").fill("<b>ann</b>")
    page.get_by_label("Candidates").fill(json.dumps(ids))
    page.get_by_role("button", name="Rank").click()
    expect(page.get_by_role("region", name="Slate").locator("tbody tr")).to_have_count(len(ids))
    assert page.locator("main script, main img").count() == 0
    page.get_by_label("Candidates").fill("y" * 10_000)
    page.get_by_role("button", name="Rank").click()
    expect(page.get_by_role("alert")).to_be_visible()
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(wide)


# --- 2 slate before and after


def test_a_slider_changes_the_order_as_the_api_says(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    page = tab.rank_example(user, "compare")
    expect(page.get_by_text("0 of 16", exact=True)).to_be_visible()
    with page.expect_response(
        lambda r: "preview/rerank" in r.url and "hate" in (r.request.post_data or "")
    ) as r:
        page.locator("input[name=weight-hate]").fill("-1")
    body = json.loads(r.value.request.post_data or "")
    assert body["weights"]["hate"] == -1
    with console.client() as client:
        order = [item["video_id"] for item in client.post("/rerank", json=body).json()["items"]]
    after = page.locator("svg text.entry[text-anchor=start]")
    expect(page.get_by_text("0 of 16", exact=True)).to_be_hidden()
    assert [text.split()[0] for text in after.all_text_contents()] == order
    expect(page.get_by_role("img", name=f"After: 1. {order[0]}")).to_be_visible()


def test_a_rule_changes_the_slate_as_the_api_says(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    page = tab.rank_example(user, "compare")
    expect(page.get_by_text("0 of 16", exact=True)).to_be_visible()
    with page.expect_response(lambda r: '"rules"' in (r.request.post_data or "")) as answered:
        page.get_by_label("At most 2 of one author").check()
    with console.client() as client:
        reply = client.post("/rerank", json=json.loads(answered.value.request.post_data or "")).json()
    assert len(reply["items"]) == 12
    after = page.locator("svg text.entry[text-anchor=start]")
    expect(after).to_have_count(12)
    assert [text.split()[0] for text in after.all_text_contents()] == [i["video_id"] for i in reply["items"]]
    expect(page.get_by_role("list", name="Rules")).to_contain_text(reply["applied"][0]["effect"])


def test_a_second_version_is_compared_with_the_active_one(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    with console.client() as client:
        client.post(f"/v1/models/{NEXT}:shadow", json={"share": 0.01}).raise_for_status()
        page = tab.rank_example(user, "compare")
        expect(page.get_by_text("0 of 16", exact=True)).to_be_visible()
        with page.expect_response(lambda r: f"version={NEXT}" in r.url) as answered:
            page.get_by_label("Version (in memory)").select_option(NEXT)
        assert answered.value.json()["model_version"] == NEXT
        client.post(f"/v1/models/{NEXT}:shadow", json={"share": 0}).raise_for_status()


def test_the_request_can_be_copied(tab: ConsolePage, user: str) -> None:
    page = tab.rank_example(user, "compare")
    page.get_by_text("0 of 16", exact=True).wait_for()
    page.locator("input[name=weight-like]").fill("0.5")
    page.get_by_role("button", name="Copy as request").click()
    expect(page.get_by_role("status").filter(has_text="curl")).to_be_visible()


# --- 3 label surface


def test_the_label_of_a_place_is_the_services(tab: ConsolePage, console: ConsoleService) -> None:
    page = tab.open("label")
    chart = page.locator("svg.surface")
    chart.wait_for()

    def previewed(response: Response) -> dict[str, Any]:
        """The event whose labels a response has; nothing of the surface's own."""
        sent = json.loads(response.request.post_data or "{}") if "preview/label" in response.url else {}
        return next((e for e in sent.get("events", ()) if e["event_id"] == "e"), {})

    default = 24  # the page asks for the labels of its own example first
    with page.expect_response(lambda r: previewed(r).get("duration_s", default) != default) as r:
        chart.click(position={"x": 300, "y": 200})
    event = previewed(r.value)
    with console.client() as client:
        label = client.post("/label?store=false", json=[event]).json()["labels"][0]["label"]
    row = (
        page.get_by_role("region", name="Labels of the event")
        .get_by_role("row")
        .filter(has_text="labelcraft")
    )
    expect(row).to_contain_text(f"{label:.3f}")


def test_a_surface_can_be_of_a_difference(tab: ConsolePage) -> None:
    page = tab.open("label")
    page.get_by_label("hate").check()
    page.get_by_label("Difference from").select_option("flags")
    expect(page.get_by_role("img", name="labelcraft minus the same without feedback")).to_be_visible()
    page.get_by_label("Difference from").select_option("maker")
    page.locator("select").last.select_option("wtg")
    expect(page.get_by_role("img", name="labelcraft minus wtg")).to_be_visible()


# --- 4 user


def test_a_hate_sent_here_lowers_its_author_in_the_slate(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    hated = AUTHORS[4]
    page = tab.rank_example(user)
    page.get_by_role("region", name="Influence").wait_for()
    before = scores_by_author(page, console)
    page.get_by_role("link", name="User").click()
    page.get_by_label("Video id").fill("3018")
    page.get_by_label("Author id").fill(hated)
    page.get_by_label("hate").check()
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text="Stored.")).to_be_visible()
    expect(page.get_by_role("region", name="Sequence").locator("tbody tr").first).to_contain_text("hate")
    page.get_by_role("link", name="Why this score").click()
    page.get_by_role("region", name="Slate").wait_for()
    after = scores_by_author(page, console)
    ratios = {author: after[author] / before[author] for author in before}
    assert min(ratios, key=ratios.__getitem__) == hated
    assert ratios[hated] < 0.9


def test_an_event_sent_again_is_marked_and_a_user_can_be_forgotten(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    page = tab.open("user")
    page.get_by_label("User id", exact=True).fill(user)
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("region", name="Sequence").locator("tbody tr")).to_have_count(14)
    page.get_by_label("Video id").fill("v")
    page.get_by_text("Event id and time").click()
    page.get_by_label("Event id").fill(f"{user}-again")
    page.get_by_label("Time, Unix ms").fill(str(1_790_000_000_000))
    for outcome in ("Stored.", "A duplicate: nothing changed."):
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("status").filter(has_text=outcome)).to_be_visible()
    again = page.get_by_role("region", name="Sequence").locator("tbody tr").last
    expect(again.get_by_text("duplicate", exact=True)).to_be_visible()
    expect(again.get_by_text("late")).to_be_visible()
    forget = page.get_by_role("button", name="Forget this user")
    page.get_by_label("The user id again").fill("another")
    expect(forget).to_be_disabled()
    page.get_by_label("The user id again").fill(user)
    forget.click()
    expect(page.get_by_text("The service holds nothing on this user.")).to_be_visible()
    with console.client() as client:
        assert client.get(f"/users/{user}/sequence").status_code == 404


def test_a_sequence_has_the_labels_of_chosen_makers(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    page = tab.open("user")
    page.get_by_label("User id", exact=True).fill(user)
    page.get_by_role("button", name="Show").click()
    page.get_by_text("Labels of: labelcraft").click()
    page.locator("input[name=maker-wtg]").check()
    with console.client() as client:
        newest = client.get(f"/users/{user}/sequence").json()["events"][-1]
        reply = client.post("/label?store=false&labels=labelcraft,wtg", json=[newest]).json()
    row = page.get_by_role("region", name="Sequence").locator("tbody tr").first
    for label in reply["labels"][0]["labels"].values():
        expect(row).to_contain_text(f"{label:.3f}")


# --- everywhere


def test_the_page_works_behind_a_prefix(tab: ConsolePage, console: ConsoleService, user: str) -> None:
    def strip(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/behind/a/proxy", "")))

    tab.page.route("**/behind/a/proxy/**", strip)
    tab.url += "/behind/a/proxy"
    page = tab.rank_example(user)
    expect(page.get_by_role("region", name="Slate").locator("tbody tr")).to_have_count(16)
    page.unroute_all(behavior="wait")  # the page may still ask for the influences when the tab closes


def test_all_of_the_page_weighs_less_than_300_kilobytes(tab: ConsolePage) -> None:
    sizes: list[int] = []
    tab.page.on("response", lambda r: sizes.append(len(r.body())) if "/console" in r.url else None)
    tab.open("why").wait_for_load_state("networkidle")
    assert 20_000 < sum(sizes) < 300_000


def test_a_key_is_asked_for_and_without_a_right_the_page_only_reads(browser: Browser, tmp_path: Path) -> None:
    tiny_bundle.write_root(tmp_path / "bundles", tiny_bundle.FIRST)
    keys = {"api_keys": "good:read"}
    with (
        served(tmp_path / "bundles", MemoryStore(), tmp_path / "data", **keys) as client,
        console_page(browser, str(client.base_url).rstrip("/")) as tab,
    ):
        page = tab.open("versions")
        expect(page.get_by_role("alert").filter(has_text="Enter an API key")).to_be_visible()
        page.get_by_label("API key").fill("good")
        page.get_by_role("button", name="Use").click()
        roll_back = page.get_by_role("button", name="Roll back")
        expect(roll_back).to_be_disabled()
        expect(roll_back).to_have_attribute("title", "Needs a key with the right “admin”.")
        expect(page.get_by_text("needs a key with the right “admin”")).to_be_visible()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert tab.errors == []
