"""`python -m training compare` and `render`: experiments on one log, as reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from training.experiments.config import ExperimentConfig, load_config, select_methods
from training.experiments.engine import Experiment, run_experiment
from training.experiments.options import (
    CORES,
    Ablations,
    AblationSeeds,
    AllTabs,
    ConfigFile,
    Data,
    HeadsConfig,
    Jobs,
    Json,
    Methods,
    Out,
    PublishedSplit,
    Seed,
    Seeds,
    StopDays,
    TestDays,
    Windows,
)
from training.experiments.render import interval
from training.experiments.render import render as render_folder
from training.experiments.running import finish, run_with_progress

app = typer.Typer(no_args_is_help=True, help="Every method of a kind on one log, with error bars.")

QUICK: Final[dict[str, Any]] = {
    "seeds": 3,
    "tree_seeds": 2,
    "network_seeds": 0,
    "resamples": 2000,
    "closed_form": {"redraws": 1, "steps": 80},
    "one_step": {"epochs": 2},
}
"""Of `compare labels --quick`: the fewest recommenders that still have an interval, and shorter learning."""


@app.command("labels")
def labels(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="recommenders a label, each of other users (default 10)")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of every draw (default 0)")] = None,
    jobs: Jobs = CORES,
    k: Annotated[int | None, typer.Option(min=2, help="positions of a slate (default 5)")] = None,
    windows: Annotated[
        int | None, typer.Option(min=2, help="windows of the rolling origin, the last ones (default 5)")
    ] = None,
    window_days: Annotated[int | None, typer.Option(min=1, help="days of a window (default 2)")] = None,
    likes_hates: Annotated[
        Path | None,
        typer.Option(help="a folder of likes and hates: half of the users to learn from, half to evaluate"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="few recommenders, no network, no ablations")
    ] = False,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Fit the same recommenders on every label, and report which label serves this platform."""
    from training.experiments.labels.config import LabelsConfig
    from training.experiments.labels.methods import METHODS
    from training.experiments.labels.run import run_labels

    options = {"seeds": seeds, "seed": seed, "k": k, "windows": windows, "window_days": window_days}
    chosen = {name: value for name, value in options.items() if value is not None}
    loaded = load_config(LabelsConfig, config, (QUICK if quick else {}) | chosen)
    wanted = False if quick and ablations is None else ablations
    selected = select_methods(METHODS, methods, ablations=wanted)
    report = run_with_progress(
        "compare",
        out,
        lambda step: run_labels(
            data, out, selected, loaded, likes_hates=likes_hates, processes=jobs, on_progress=step
        ),
    )
    columns = (("composite", "composite", 4), ("nwtg", "NWTG", 4), ("neg", "NEG", 4), ("ds", "DS, s", 1))
    _print_table(report, columns, f"@{loaded.k}")
    finish(out, figures)


@app.command("watch-time")
def watch_time(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Seeds = None,
    ablation_seeds: AblationSeeds = None,
    seed: Seed = None,
    jobs: Jobs = CORES,
    test_days: TestDays = None,
    stop_days: StopDays = None,
    all_tabs: AllTabs = None,
    windows: Windows = None,
    protocol: PublishedSplit = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="one window, one seed, two epochs, no ablations")
    ] = False,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Fit every watch-time head on one encoder, and report errors and order, next to boosted trees.

    A record of `compare search` as --config has the hyperparameters that were searched for each method.
    """
    from training.experiments.watch_time.config import WatchTimeConfig
    from training.experiments.watch_time.experiment import WATCH_TIME

    options: dict[str, Any] = {"seeds": seeds, "ablation_seeds": ablation_seeds, "seed": seed}
    options |= {"test_days": test_days, "stop_days": stop_days, "windows": windows}
    options |= {"all_tabs": all_tabs, "protocol": protocol}
    loaded = load_config(WatchTimeConfig, config, options)
    loaded = loaded.quick() if quick else loaded
    wanted = False if quick and ablations is None else ablations
    _compare(WATCH_TIME, data, out, methods, wanted, jobs, loaded, figures)


@app.command("objectives")
def objectives(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Seeds = None,
    ablation_seeds: AblationSeeds = None,
    seed: Seed = None,
    jobs: Jobs = CORES,
    test_days: TestDays = None,
    stop_days: StopDays = None,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Fit ten objectives on one ranker under every balancer, and report AUC, GAUC, calibration and cost."""
    # TorchJD, with the solvers behind CAGrad, takes more than a second to import.
    from training.experiments.objectives import OBJECTIVES

    options: dict[str, Any] = {"seeds": seeds, "ablation_seeds": ablation_seeds, "seed": seed}
    options |= {"test_days": test_days, "stop_days": stop_days}
    loaded = load_config(OBJECTIVES.config, config, options)
    _compare(OBJECTIVES, data, out, methods, ablations, jobs, loaded, figures)


@app.command("forgetting")
def forgetting(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Seeds = None,
    seed: Seed = None,
    jobs: Jobs = CORES,
    test_days: TestDays = None,
    stop_days: StopDays = None,
    quick: Annotated[bool, typer.Option("--quick", help="one seed, two epochs a fit")] = False,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Forget wrong rows, one user and a share of the users, in every way, next to fits without them."""
    from training.experiments.forgetting.experiment import FORGETTING

    options = {"seeds": seeds, "seed": seed, "test_days": test_days, "stop_days": stop_days}
    loaded = load_config(FORGETTING.config, config, options)
    _compare(FORGETTING, data, out, methods, ablations, jobs, loaded.quick() if quick else loaded, figures)


@app.command("forgetting-ranker")
def forgetting_ranker(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="fits of each method (default 3)")] = None,
    seed: Seed = None,
    jobs: Jobs = CORES,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Forget wrong rows, users and videos in the served ranker, in every way, next to fits without them."""
    from training.experiments.forgetting_ranker.experiment import FORGETTING_RANKER

    loaded = load_config(FORGETTING_RANKER.config, config, {"seeds": seeds, "seed": seed})
    _compare(FORGETTING_RANKER, data, out, methods, ablations, jobs, loaded, figures)


@app.command("policies")
def policies(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Seeds = None,
    ablation_seeds: AblationSeeds = None,
    seed: Seed = None,
    jobs: Jobs = CORES,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Learn long-term value offline: where the best policy is known, in a simulator, and on the log."""
    from training.experiments.policies.experiment import POLICIES

    options = {"seeds": seeds, "ablation_seeds": ablation_seeds, "seed": seed}
    loaded = load_config(POLICIES.config, config, options)
    _compare(POLICIES, data, out, methods, ablations, jobs, loaded, figures)


@app.command("language")
def language(
    data: Data,
    out: Out,
    methods: Methods = None,
    ablations: Ablations = None,
    seeds: Seeds = None,
    ablation_seeds: AblationSeeds = None,
    seed: Seed = None,
    jobs: Jobs = CORES,
    test_days: TestDays = None,
    stop_days: StopDays = None,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Predict the next long view by a model of video tokens, with and without its counterfactual term."""
    from training.experiments.language.experiment import LANGUAGE

    options: dict[str, Any] = {"seeds": seeds, "ablation_seeds": ablation_seeds, "seed": seed}
    options |= {"test_days": test_days, "stop_days": stop_days}
    loaded = load_config(LANGUAGE.config, config, options)
    _compare(LANGUAGE, data, out, methods, ablations, jobs, loaded, figures)


@app.command("search")
def search(
    data: Data,
    out: Out,
    methods: Annotated[
        str | None, typer.Option(help="fits, separated by commas; a wrong one lists them all")
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="sets of hyperparameters that are tried of each method")
    ] = 20,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="at most so many passes a trial: cheaper ones")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of the fits and of the draws (default 0)")] = None,
    jobs: Jobs = CORES,
    windows: Windows = None,
    config: HeadsConfig = None,
) -> None:
    """Search the hyperparameters of every watch-time method with the same number of trials.

    Trials are evaluated on the early-stop days before the first window; no test day is read. The record is a
    config of `compare watch-time`.
    """
    # optuna takes a second to import.
    from training.experiments.search import run_search, select_fits
    from training.experiments.watch_time.config import WatchTimeConfig

    loaded = load_config(WatchTimeConfig, config, {"seed": seed, "windows": windows})
    selected = select_fits(methods)
    report = run_with_progress(
        "search",
        out,
        lambda step: run_search(
            data, out, selected, loaded, trials=trials, epochs=epochs, processes=jobs, on_progress=step
        ),
    )
    for row in report["rows"]:
        best = row["best"]
        error = f"{row['error']} {best['error']:.3f}, XAUC {best['xauc']:.4f}"
        typer.echo(f"{row['fit']:12}  {error}  {json.dumps(best['hyperparameters'])}")
    typer.echo(f"wrote {out / 'search.md'} and search.json")


@app.command("variants")
def variants(
    data: Data,
    out: Out,
    variants: Annotated[
        Path,
        typer.Option(help="names and the values each changes, as JSON, or another record's variants.json"),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="fits of each variant")] = 2,
    bundle: Annotated[
        Path | None, typer.Option(help="a version's folder, whose learned labels the interest is fitted to")
    ] = None,
    jobs: Jobs = CORES,
    config: HeadsConfig = None,
) -> None:
    """Fit LDA with hyperparameters picked by hand, on the early-stop days. The test days are not read."""
    from training.experiments.variants import read_variants, run_variants
    from training.experiments.watch_time.config import WatchTimeConfig

    loaded = load_config(WatchTimeConfig, config, {"seeds": seeds})
    selected = read_variants(variants, loaded)
    report = run_with_progress(
        "variants",
        out,
        lambda step: run_variants(
            data, out, selected, loaded, bundle=bundle, processes=jobs, on_progress=step
        ),
    )
    for row in report["rows"]:
        figures = f"MAE {interval(row['mae_s'], 3)} s, XAUC {interval(row['xauc'], 4)}"
        typer.echo(f"{row['name']:24}  {row['refused'] or figures}")
    typer.echo(f"wrote {out / 'variants.md'} and variants.json")


def render(
    report: Annotated[Path, typer.Argument(help="a folder with report.json, search.json or variants.json")],
) -> None:
    """Render a report again from its JSON, without fitting anything."""
    render_folder(report)
    typer.echo(f"rendered {report}")


def _compare(
    experiment: Experiment[Any, Any, Any],
    data: Path,
    out: Path,
    methods: str | None,
    ablations: bool | None,
    jobs: int,
    config: ExperimentConfig,
    figures: Path | None,
) -> None:
    """Run an experiment, and print the figures of its columns."""
    selected = select_methods(experiment.methods, methods, ablations=ablations)
    report = run_with_progress(
        "compare",
        out,
        lambda step: run_experiment(
            experiment, data, out, selected, config, processes=jobs, on_progress=step
        ),
    )
    _print_table(report, experiment.columns, "")
    finish(out, figures)


def _print_table(report: dict[str, Any], columns: Sequence[tuple[str, str, int]], suffix: str) -> None:
    width = 2 + max(len(row["method"]) for row in report["rows"])
    typer.echo(" " * width + "".join(f"{title + suffix:>20}" for _, title, _ in columns))
    for row in report["rows"]:
        metrics = row["metrics"]
        cells = [f"{interval(metrics.get(n + suffix), digits):>20}" for n, _, digits in columns]
        typer.echo(f"{row['method']:{width}}{row['refused'] or ''.join(cells)}")
