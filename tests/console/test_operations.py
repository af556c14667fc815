"""Versions, experiments and the health of the service, in a real browser against a real one."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from service.http.openapi.operations import REPORTS
from tests.console.console_page import NEXT, RELEASED, ConsolePage, ConsoleService
from tests.service.running import event, eventually

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("console")]


# --- 5 versions


def test_a_promotion_changes_the_version_everywhere(tab: ConsolePage, console: ConsoleService) -> None:
    page = tab.open("versions")
    card = page.locator(".panel").filter(has=page.get_by_role("heading", name=NEXT))
    card.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_contain_text(f"instead of {RELEASED}")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    card.get_by_role("button", name="Promote").click()
    dialog.get_by_role("button", name="Promote").click()
    expect(card.get_by_text("answers", exact=True)).to_be_visible()
    expect(page.get_by_role("banner")).to_contain_text(NEXT)
    page = tab.rank_example("ann")
    expect(page.get_by_role("main")).to_contain_text(NEXT)
    page = tab.open("versions")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("banner")).to_contain_text(RELEASED)


def test_an_experiment_is_started_and_ended(tab: ConsolePage, console: ConsoleService) -> None:
    page = tab.open("versions")
    form = page.locator("form").filter(has_text="Start an experiment")
    form.get_by_label("Name").fill("likes")
    form.get_by_label("Version of arm B").select_option(NEXT)
    form.get_by_label("Weights of arm B").fill('{"watch_time": 1, "like": 0.3}')
    form.get_by_role("button").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Start").click()
    arms = page.get_by_role("region", name="Arms of likes")
    expect(arms).to_contain_text("watch time 1.0, like 0.30")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_text("ended", exact=True)).to_be_visible()
    with console.client() as client:
        (experiment,) = (e for e in client.get("/v1/experiments").json() if e["name"] == "likes")
    assert [arm["name"] for arm in experiment["arms"]] == ["A", "B"]
    assert experiment["stopped_ms"]


def test_the_newest_report_of_an_experiment_is_shown(tab: ConsolePage, console: ConsoleService) -> None:
    arms = [{"name": "A"}, {"name": "B", "weights": {"watch_time": 1.0}}]
    with console.client() as client:
        client.post("/v1/experiments", json={"name": "longer", "share": 0.1, "arms": arms}).raise_for_status()
        page = tab.open("versions")
        expect(page.get_by_text("python -m training experiment longer")).to_be_visible()
        report = REPORTS["responses"]["200"]["content"]["application/json"]["example"][0] | {"name": "longer"}
        folder = console.log / "experiments" / "longer" / "1"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report))
        page.get_by_role("button", name="Read again").click()
        metrics = page.get_by_role("region", name="Metrics of B")
        expect(metrics.get_by_role("row").filter(has_text="watch time")).to_contain_text("−0.30 % to +4.3 %")
        chart = page.get_by_role("img", name="Watch time per user of B against A: +2.0 %, −0.30 % to +4.3 %")
        expect(chart).to_be_visible()
        client.post("/v1/experiments/longer:stop").raise_for_status()


def test_a_split_is_shown_with_what_it_has_answered(tab: ConsolePage, console: ConsoleService) -> None:
    with console.client() as client:
        client.post(f"/v1/models/{NEXT}:split", json={"share": 1}).raise_for_status()
        client.post("/rerank", json={"user_id": "u", "candidates": [{"video_id": "v"}]}).raise_for_status()
        page = tab.open("versions")
        expect(
            page.get_by_role("region", name="Split").get_by_role("row").filter(has_text=NEXT)
        ).to_be_visible()
        client.post(f"/v1/models/{NEXT}:split", json={"share": 0}).raise_for_status()


def test_a_shadow_is_shown_with_how_its_answers_would_differ(
    tab: ConsolePage, console: ConsoleService
) -> None:
    candidates = [{"video_id": f"v{i}", "duration_s": 5.0 + i} for i in range(12)]
    with console.client() as client:
        client.post(f"/v1/models/{NEXT}:shadow", json={"share": 1}).raise_for_status()
        client.post("/rerank", json={"user_id": "u", "candidates": candidates}).raise_for_status()
        assert eventually(lambda: "reelrank_shadow_order_sum{" in client.get("/metrics").text)
        page = tab.open("versions")
        shadow = page.get_by_role("region", name="Shadow")
        expect(shadow.get_by_role("row").filter(has_text="overlap of the best 10")).to_contain_text("1.00")
        client.post(f"/v1/models/{NEXT}:shadow", json={"share": 0}).raise_for_status()


# --- 6 health


def test_health_counts_what_the_service_has_answered(tab: ConsolePage, console: ConsoleService) -> None:
    with console.client() as client:
        client.post("/rerank", json={"user_id": "u", "candidates": []})
    page = tab.open("health")
    page.get_by_role("button", name="Since the start").click()
    routes = page.get_by_role("region", name="Requests by route")
    expect(routes.get_by_role("row").filter(has_text="/rerank").first).to_be_visible()
    expect(page.get_by_role("region", name="Refusals by reason")).to_contain_text("invalid")


def test_what_came_back_stands_beside_what_was_predicted(
    tab: ConsolePage, console: ConsoleService, user: str
) -> None:
    candidates = [{"video_id": f"v{i}", "duration_s": 20.0} for i in range(40)]
    with console.client() as client:

        def compared() -> bool:
            """Slates are remembered once a second."""
            slate = client.post("/rerank", json={"user_id": user, "candidates": candidates}).json()
            request_id = slate["request_id"]
            events = [
                event(f"{request_id}-{i}", user, video_id=v["video_id"], request_id=request_id)
                for i, v in enumerate(slate["items"])
            ]
            client.post("/label", json=events).raise_for_status()
            return "reelrank_calibration_exposures_total{" in client.get("/metrics").text

        assert eventually(compared)
    page = tab.open("health")
    total = page.get_by_role("region", name="Calibration").get_by_role("row").filter(has_text="all")
    expect(total).to_contain_text("12.0 s")


def test_a_dead_store_is_shown_within_two_seconds_and_its_return_too(
    tab: ConsolePage, console: ConsoleService
) -> None:
    """Seconds of the page's own clock, which stands still but for them."""
    tab.page.clock.install()
    page = tab.open("health")
    expect(page.get_by_role("banner")).to_contain_text("ready")
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    page.wait_for_load_state("networkidle")
    console.store.terminate()
    console.store.wait()
    alert = page.get_by_role("alert").filter(has_text="the store does not answer")
    expect(alert).to_be_hidden()
    page.clock.run_for(2000)
    expect(alert).to_be_visible()
    console.store.restart()
    page.clock.resume()
    expect(alert).to_be_hidden()


def test_a_page_in_the_background_asks_for_nothing(tab: ConsolePage) -> None:
    tab.page.clock.install()
    page = tab.open("health")
    page.get_by_role("region", name="Requests by route").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    def be_hidden(hidden: str) -> None:
        page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    be_hidden("true")
    page.wait_for_load_state("networkidle")
    asked.clear()
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_request("**/health/ready"), page.expect_request("**/metrics"):
        be_hidden("false")
