"""The pictures of each kind of report, drawn from its JSON by the functions of `plots.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from training.experiments import plots
from training.experiments.plots import BLUE, GREY, LIGHT, ORANGE, RED, Interval, Series
from training.experiments.significance import SIGNIFICANT, Json, p_value

KINDS: Final = {"reference": GREY, "encoder": ORANGE, "label": BLUE}
"""Colours of the audit: rankings without a model, rankers, and label makers."""
CANDIDATES: Final = {"author": BLUE, "tag": ORANGE, "unrelated": GREY, "similar": RED}


def draw(folder: Path, kind: str, report: Json) -> None:
    """Draw every picture of a report into its folder; a kind without pictures draws none."""
    match kind:
        case "labels":
            _labels(folder, report)
        case "watch_time":
            _watch_time(folder, report)
        case "objectives":
            titles = {"auc": "mean AUC over the objectives", "gauc": "mean GAUC over the objectives"}
            _metric_bars(folder / "bars.png", _fitted(report), titles, "gradcraft")
        case "policies":
            titles = {
                "chain/share_of_best": "share of the best value",
                "simulator/session_s": "watch time of a simulated session, s",
            }
            title = "Mean ± standard deviation over the seeds; axes do not start at 0"
            _metric_bars(folder / "bars.png", _fitted(report), titles, "q-learning", title)
        case "language":
            titles = {"ndcg@10": "NDCG@10", "reliance": "NDCG@10 lost with histories of others"}
            _metric_bars(folder / "bars.png", _fitted(report), titles, "cft")
        case "audit":
            _audit(folder, report)
        case "likes_hates":
            _likes_hates(folder, report)
        case "experiment":
            _experiment(folder, report)
        case "log_to_promotion":
            _log_to_promotion(folder, report)
        case "forgetting":
            _forgetting(folder, report)
        case "validate_estimates":
            _validate_estimates(folder, report)
        case "validate_experiments":
            _validate_experiments(folder, report)


def _labels(folder: Path, report: Json) -> None:
    panels = {
        kind: [
            Interval(row["method"], lead["difference"], lead["ci"], _color(lead))
            for row in _fitted(report)
            if row["decisive"] and (lead := row["against"].get(next(iter(power)))) is not None
        ]
        for kind, power in report["power"].items()
    }
    if drawn := {kind: leads for kind, leads in panels.items() if leads}:
        title = "Lead of labelcraft in the composite, 95 % intervals over users and recommenders"
        plots.intervals(folder / "leads.png", drawn, title)
    composite = f"composite@{report['config']['k']}"
    goals = [
        (row["method"], row["metrics"][composite], row["label"]["likes_above_hates"], row["learned"])
        for row in _fitted(report)
        if row["label"].get("likes_above_hates") is not None
    ]
    points = [plots.Point(name, z["mean"], auc, z["std"] or 0.0) for name, z, auc, _ in goals]
    _front(folder / "front.png", points, [learned for *_, learned in goals], "labelcraft", composite)
    surfaces = {
        name + note: (surface["duration_s"], surface["watch_time_s"], surface[key])
        for name, surface in report["surfaces"].items()
        for key, note in {"plain": "", "liked": "\nwith explicit feedback"}.items()
        if key in surface
    }
    if surfaces:
        title = "Learned labels before the last window"
        plots.heat_maps(folder / "labels.png", surfaces, title, ("duration, s", "watch time, s"))


def _front(
    path: Path, points: Sequence[plots.Point], learned: Sequence[bool], highlight: str, composite: str
) -> None:
    """Draw two goals at once: the composite, and likes above hates."""
    if points:
        rules = sorted((p.x, p.y) for p, is_learned in zip(points, learned, strict=True) if not is_learned)
        front = [(x, y) for i, (x, y) in enumerate(rules) if all(y > other for _, other in rules[i + 1 :])]
        title = "Both goals of every label. Grey: the best labels by hand; lines: deviation over recommenders"
        plots.scatter(path, points, front, highlight, (composite, "likes above hates, AUC"), title)


def _likes_hates(folder: Path, report: Json) -> None:
    rows = [row for row in _fitted(report) if row.get("composite") is not None]
    points = [plots.Point(row["name"], row["composite"], row["held_out"]["auc"], 0.0) for row in rows]
    learned = [row["kind"] == "learned" for row in rows]
    highlight = next((row["name"] for row in rows if row["kind"] == "learned"), "")
    if points:
        _front(folder / "front.png", points, learned, highlight, f"composite@{report['config']['k']}")


def _watch_time(folder: Path, report: Json) -> None:
    rows = _fitted(report)
    titles = {"mae_s": "MAE, s (lower is better)", "xauc": "XAUC (higher is better)"}
    _metric_bars(folder / "bars.png", rows, titles, "lda")
    curves = {"actual mean": GREY, "actual median": LIGHT, "predicted mean": ORANGE}
    panels = {}
    for row in rows:
        columns = {name: [g[f"{name.replace(' ', '_')}_s"] for g in row["by_duration"]] for name in curves}
        panels[row["method"]] = [
            Series(range(len(y)), y, curves[name], label=name) for name, y in columns.items()
        ]
    title = "Mean predicted and actual watch time by duration group (first seed)"
    ticks = [f"{group['from_s']:.0f}" for group in rows[0]["by_duration"]]
    labels = ("from duration, s", "watch time, s")
    plots.small_multiples(folder / "predicted.png", panels, title, labels, ticks=ticks)
    if any("calibration" in row for row in rows):
        _reliability(folder / "reliability.png", [row for row in rows if "calibration" in row])
    for row in rows:
        if "anchors" in row:
            _anchors(folder / "anchors.png", row["anchors"])


def _reliability(path: Path, rows: Sequence[Json]) -> None:
    levels = rows[0]["calibration"]["levels"]
    panels = {}
    for row in rows:
        below = {
            g: share for g, share in enumerate(row["calibration"]["below_by_octile"]) if share is not None
        }
        panels[row["method"]] = [
            Series(list(below), [share[i] for share in below.values()], BLUE) for i in range(len(levels))
        ]
    title = "Share of exposures below the predicted p10, p50 and p90; grey: calibrated"
    labels = ("duration group, short to long", "share below")
    plots.small_multiples(path, panels, title, labels, y_limits=(0.0, 1.0), reference=levels)


def _anchors(path: Path, anchors: Json) -> None:
    edges = [0, *anchors["edges_s"]]
    names = [f"{low:.0f} to {high:.0f} s" for low, high in pairwise(edges)] + [f"from {edges[-1]:.0f} s"]
    panels = {}
    for g, (name, ratio, share) in enumerate(zip(names, anchors["ratio"], anchors["share"], strict=True)):
        panels[name] = [Series([min(r, 2.5) for r in ratio], share, ORANGE, "stem")]
        if "histogram" in anchors:
            density = anchors["histogram"][g]
            scale = max(share) / max(*density, 1e-9)
            middle = [2.5 * (i + 0.5) / len(density) for i in range(len(density))]
            panels[name].insert(0, Series(middle, [scale * value for value in density], LIGHT, "bar"))
    title = "Anchors by duration group: mean watch ratio (cut at 2.5) and share of the train exposures"
    plots.small_multiples(path, panels, title, ("watch ratio", "share"), shared_y=False)


def _audit(folder: Path, report: Json) -> None:
    rows, window = report["rows"], report["window"]
    for key in ("duration", "popularity"):
        names = [group["name"] for group in window[f"{key}_groups"]]
        shares, gains = {}, {}
        for row in rows:
            share, logged, ndcg, chance = (row[key][name] for name in ("share", "logged", "ndcg", "chance"))
            ratio = [min(s / n, 3.0) if n else None for s, n in zip(share, logged, strict=True)]
            gain = [None if a is None else a - b for a, b in zip(ndcg, chance, strict=True)]
            shares[row["name"]] = [Series(range(len(names)), ratio, KINDS[row["kind"]], "bar")]
            gains[row["name"]] = [Series(range(len(names)), gain, KINDS[row["kind"]], "bar")]
        for suffix, panels, title, level in (
            ("", shares, f"Share shown / share logged by {key} (cut at 3)", 1.0),
            ("-ndcg", gains, f"nDCG of each group minus that of a random order, by {key}", 0.0),
        ):
            title += "; grey: references, orange: rankers, blue: label makers"
            path = folder / f"{key}{suffix}.png"
            plots.small_multiples(path, panels, title, ("", ""), ticks=names, reference=[level])
    if window["user_groups"] is not None:
        _users(folder / "users.png", [row for row in rows if row["kind"] != "label"])
    probes = {
        f"{row['name']}: {output}": [
            Interval(kind, probe["change"], tuple(probe["ci"]), CANDIDATES[kind])
            for kind, probe in kinds.items()
        ]
        for row in rows
        for output, kinds in row["probe"].items()
    }
    if probes:
        title = "Change of the prediction when a completed view in the sequence becomes a skip (95 % CI)"
        plots.intervals(folder / "probe.png", probes, title)


def _users(path: Path, rows: Sequence[Json]) -> None:
    first, second = (group["name"] for group in rows[0]["users"]["groups"])
    levels, gaps = [], []
    for row in rows:
        for group, color in zip(row["users"]["groups"], (BLUE, ORANGE), strict=True):
            if group["nwtg"] is not None:
                levels.append(Interval(row["name"], group["nwtg"], (group["nwtg"], group["nwtg"]), color))
        if row["users"]["gap"] is not None:
            gaps.append(Interval(row["name"], row["users"]["gap"], tuple(row["users"]["gap_ci"]), GREY))
    title = f"NWTG of users with {first} (blue) and with {second} (orange)"
    plots.intervals(path, {"NWTG": levels, "difference (95 % CI)": gaps}, title)


def _metric_bars(
    path: Path, rows: Sequence[Json], titles: Mapping[str, str], reference: str, title: str | None = None
) -> None:
    panels: dict[str, list[Interval]] = {title: [] for title in titles.values()}
    for row in rows:
        for metric, panel in titles.items():
            mean, std = row["metrics"][metric]["mean"], row["metrics"][metric]["std"] or 0.0
            value = float("nan") if mean is None else mean
            color = ORANGE if row["method"] == reference else _color(row["against"].get(metric))
            panels[panel].append(Interval(row["method"], value, (value - std, value + std), color))
    title = title or (
        f"Mean ± standard deviation over the seeds; axes do not start at 0. Against {reference} (orange):\n"
        "blue significantly worse, red significantly better, grey not significant"
    )
    plots.bars(path, panels, title)


def _color(paired: Json | None) -> str:
    if paired is None:
        return LIGHT
    if p_value(paired) >= SIGNIFICANT:
        return GREY
    return BLUE if paired["difference"] > 0 else RED


def _fitted(report: Json) -> list[Json]:
    return [row for row in report["rows"] if row["refused"] is None]


def _validate_estimates(folder: Path, report: Json) -> None:
    if not report["open_bandit"]:
        return
    panels = {
        f"{row['campaign']}: {row['wanted']} from the log of {row['logged']}": [
            *(
                Interval(name, one["value"], tuple(one["interval"]), BLUE)
                for name, one in row["estimates"].items()
            ),
            Interval("its own log", row["truth"], (row["truth"], row["truth"]), ORANGE),
        ]
        for row in report["open_bandit"]
    }
    plots.intervals(
        folder / "open-bandit.png", panels, "Clicks of 1,000 impressions, 95 % intervals over rows"
    )


def _validate_experiments(folder: Path, report: Json) -> None:
    curves = {"any_look_by_day": RED, "always_valid_by_day": BLUE}
    panels = {
        row["metric"] + (", CUPED" if row["cuped"] else ""): [
            Series(range(1, len(row[key]) + 1), row[key], color) for key, color in curves.items()
        ]
        for row in report["equal_arms"]
    }
    title = "Equal arms found to differ up to each day: fixed-horizon (red) and always-valid (blue) intervals"
    labels = ("day", "share of the replays")
    plots.small_multiples(folder / "looks.png", panels, title, labels, reference=[0.05])


def _experiment(folder: Path, report: Json) -> None:
    treatments = [one["arm"] for one in report["arms"]][1:]
    metrics: dict[str, list[Interval]] = {arm: [] for arm in treatments}
    for metric, arms in report["metrics"].items():
        for arm in treatments:
            one = arms[arm]
            if one["relative"] is not None:
                color = BLUE if one["p_value"] < SIGNIFICANT else GREY
                metrics[arm].append(
                    Interval(metric, 100 * one["relative"], _percent(one["relative_interval"]), color)
                )
    if drawn := {f"{arm} against {report['control']}, %": found for arm, found in metrics.items() if found}:
        plots.intervals(folder / "metrics.png", drawn, "Relative differences, 95 % fixed-horizon intervals")
    looks = {}
    for arm in treatments:
        known = [look["arms"][arm] for look in report["looks"] if look["arms"][arm]["relative"] is not None]
        days = range(1, len(known) + 1)
        curves = {"relative_interval": RED, "always_valid_relative_interval": BLUE}
        looks[f"{arm} against {report['control']}"] = [
            Series(days, [100 * one["relative"] for one in known], GREY),
            *(
                Series(days, [_percent(one[key])[end] for one in known], color)
                for key, color in curves.items()
                for end in (0, 1)
            ),
        ]
    if any(series[0].y for series in looks.values()):
        title = "Watch time: at one look (red), at any (blue)"
        plots.small_multiples(folder / "looks.png", looks, title, ("day", "%"), size=(4, 3), reference=[0.0])


def _log_to_promotion(folder: Path, report: Json) -> None:
    """Draw what was estimated and measured beside the truth, and the experiment day by day."""
    estimates = []
    for name, found in report["estimates"].items():
        row = next(row for row in found["estimates"] if row["method"] == found["method"])
        estimates.append(Interval(name, row["value"], row["interval"], BLUE))
    logged = report["estimates"]["fitted"]["logged"]
    truth = [
        Interval(name, x["watch_time_s_a_user"], x["interval"], ORANGE) for name, x in report["truth"].items()
    ]
    panels = {
        "estimated, s a slate": [Interval("the log", logged["value"], logged["interval"], GREY), *estimates],
        "truth, s a user in half the days": truth,
    }
    plots.intervals(folder / "values.png", panels, "What the log says, and what is so; 95 % intervals")
    _experiment(folder, report["experiment"])


def _forgetting(folder: Path, report: Json) -> None:
    panels: dict[str, list[Interval]] = {}
    for row in _fitted(report):
        for lead in row["against"].values():
            ends = (-lead["ci"][1], -lead["ci"][0])
            panels.setdefault(row["model"], []).append(
                Interval(row["way"], -lead["difference"], ends, _color(lead))
            )
    if panels:
        title = "AUC less that of a fit without the wrong labels, 95 % intervals over users and seeds"
        plots.intervals(folder / "auc.png", panels, title)


def _percent(ends: Sequence[float]) -> tuple[float, float]:
    return 100 * ends[0], 100 * ends[1]
