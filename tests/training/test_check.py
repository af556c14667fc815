"""`check`: all faults at once, a profile, warnings, and what a log allows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from models.errors import BadInput
from models.schema import FLAGS
from tests.conftest import ROOT
from tests.training.own_csv import rows, write
from training.check.commands import check
from training.check.profile import profile
from training.check.report import Report
from training.check.requirements import RECIPES, check_recipes, refused_label_makers
from training.check.warnings import warnings_of
from training.data import Dataset, SyntheticConfig, inspect, prepare, simulate_log
from training.labels import fit_heuristics
from training.train import recipes
from training.train.fit import fit_for_evaluation


@pytest.fixture(scope="module")
def simulated() -> Dataset:
    return simulate_log(SyntheticConfig(users=12, videos=70, exposures=400), seed=0).dataset()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return prepare("synthetic", None, tmp_path / "data", progress=False).out


def with_log(dataset: Dataset, *columns: pl.Expr) -> Dataset:
    return Dataset(replace(dataset.tables, interactions=dataset.log.with_columns(*columns)))


TIME = pl.col("timestamp_ms")
LATER = pl.when(pl.int_range(pl.len()) > 370).then(TIME + 10**10).otherwise(TIME)
NO_TEXT = pl.lit(None, dtype=pl.String)
VARIANTS: dict[str, tuple[pl.Expr, ...]] = {
    "as it is": (),
    "no feedback": tuple(pl.lit(value=False).alias(name) for name in FLAGS),
    "equal durations": (pl.lit(30.0).alias("duration_s"),),
    "nothing watched": (pl.lit(0.0).alias("watch_time_s"),),
    "users of one row": (pl.int_range(pl.len()).cast(pl.String).alias("user_id"),),
    "no tags": (NO_TEXT.alias("tag"), NO_TEXT.alias("author_id"), NO_TEXT.alias("tab")),
    "main tab on the last day": (
        pl.when(pl.col("timestamp_ms") < pl.col("timestamp_ms").max() - 43_200_000)
        .then(pl.lit("2"))
        .otherwise("tab"),
    ),
}


class TestFaults:
    def test_all_are_found_at_once_and_the_first_is_the_one_that_load_raises(self, data: Path) -> None:
        path = data / "interactions.parquet"
        log = pl.read_parquet(path)
        first = pl.int_range(pl.len()) == 0
        log.with_columns(
            user_id=pl.when(first).then(pl.lit("")).otherwise("user_id"),
            watch_time_s=pl.when(first)
            .then(-1.0)
            .otherwise(pl.when(pl.int_range(pl.len()) == 1).then(np.inf).otherwise("watch_time_s")),
            like=pl.lit("yes"),
        ).drop("tag").write_parquet(path)
        users = pl.read_parquet(data / "users.parquet")
        pl.concat([users, users.head(1)]).write_parquet(data / "users.parquet")
        dataset, faults = inspect(data)
        assert dataset is None
        wanted = [
            "`like` must be Boolean",
            "lacks the column `tag`",
            "is an empty id",
            "is not a finite number",
            "is negative",
            "twice",
        ]
        assert [any(word in fault for fault in faults) for word in wanted] == [True] * 6
        assert len(faults) == 7, "infinity is also above every limit"

    def test_a_clean_log_has_none(self, data: Path) -> None:
        dataset, faults = inspect(data)
        assert dataset is not None
        assert faults == ()

    def test_a_log_too_short_for_every_recipe_has_one(self, simulated: Dataset) -> None:
        start = simulated.info.first_timestamp_ms
        short = simulated.log.filter(pl.col("timestamp_ms") < start + 86_400_000)
        last = {"last_timestamp_ms": int(short["timestamp_ms"].to_numpy().max())}
        info = simulated.info.model_copy(update=last)
        report = Report.from_dataset(Dataset(replace(simulated.tables, interactions=short, info=info)))
        assert len(report.faults) == 1
        assert "days, 4 are needed" in report.faults[0]


class TestWhatIsAllowed:
    @pytest.mark.parametrize("name", RECIPES)
    def test_the_needs_of_recipes_are_those_of_their_configs(self, name: str) -> None:
        config, needs = getattr(recipes, name)(), RECIPES[name]
        assert needs == (
            config.test_days,
            config.stop_days,
            config.meta_days,
            config.closed_form.window_days,
            config.objectives is None,
        )
        assert (config.learner, config.closed_form.k) == ("closed_form", 5)
        assert set(RECIPES) == set(recipes.__all__)

    @pytest.mark.slow
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_recipe_is_refused_exactly_where_fit_refuses_it(self, simulated: Dataset, variant: str) -> None:
        class Learned(Exception):
            pass

        def until_labels_are_being_learned(stage: str, share: float) -> None:
            raise Learned

        dataset = with_log(simulated, *VARIANTS[variant])
        verdicts = {recipe.name: recipe.refused for recipe in check_recipes(dataset)}
        for name in ("smoke", "smoke_objectives"):
            try:
                fit_for_evaluation(dataset, getattr(recipes, name)(), until_labels_are_being_learned)
            except BadInput:
                refused = True
            except Learned:
                refused = False
            assert (verdicts[name] is not None) == refused, verdicts[name]

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_label_is_left_out_exactly_where_its_maker_refuses(
        self, simulated: Dataset, variant: str
    ) -> None:
        dataset = with_log(simulated, *VARIANTS[variant])
        _, refused = fit_heuristics(dataset.interactions(dataset.vocabulary(min_count=2)))
        assert set(refused_label_makers(dataset)) == set(refused)


class TestProfile:
    def test_every_row_is_in_one_group_and_every_day_is_listed(self, simulated: Dataset) -> None:
        found = profile(simulated)
        rows = len(simulated.log)
        assert sum(group.rows for group in found.user_groups) == rows
        assert sum(group.users for group in found.user_groups) == found.users
        assert sum(group.rows for group in found.duration_groups) == rows
        assert sum(day.rows for day in found.days) == rows
        assert sum(found.tabs.values()) == rows
        assert found.feedback["like"] == simulated.log["like"].to_numpy().mean()

    def test_watch_ratios_are_those_of_their_durations(self, simulated: Dataset) -> None:
        half = with_log(simulated, (pl.col("duration_s") / 2).alias("watch_time_s"))
        assert {(g.p10, g.median, g.p90, g.complete) for g in profile(half).duration_groups} == {
            (0.5, 0.5, 0.5, 0.0)
        }


class TestWarnings:
    def warned(self, dataset: Dataset) -> str:
        return "\n".join(warnings_of(profile(dataset)))

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            (VARIANTS["no feedback"], "No row has explicit feedback"),
            ((pl.lit(value=False).alias("hate"),), "No row has hate"),
            ((pl.lit(value=True).alias("like"),), "More than half of the rows have like"),
            (VARIANTS["users of one row"], "Few users have more than 5 rows: 0 of 400"),
            ((pl.lit("1").alias("tab"),), "are of tab '1'"),
            ((pl.lit("7").alias("tab"),), "main tab '1' has no rows"),
            (VARIANTS["no tags"], "100% of the rows have no author"),
            ((pl.min_horizontal("watch_time_s", "duration_s").alias("watch_time_s"),), "watched for longer"),
            (((TIME // 86_400_000 * 86_400_000).alias("timestamp_ms"),), "same time as another"),
            (((pl.col("watch_time_s") + 40_000).alias("watch_time_s"),), "end a minute or more after"),
            ((LATER.alias("timestamp_ms"),), "have no rows: "),
        ],
    )  # fmt: skip
    def test_what_matters_is_said(self, simulated: Dataset, columns: tuple[pl.Expr, ...], words: str) -> None:
        assert words in self.warned(with_log(simulated, *columns))

    def test_many_dropped_rows_are_said(self, simulated: Dataset) -> None:
        counts = simulated.info.rows.model_copy(update={"dropped": {"no_watch_time": 400}})
        info = simulated.info.model_copy(update={"rows": counts})
        assert "50% of the rows were dropped" in self.warned(Dataset(replace(simulated.tables, info=info)))


class TestCommand:
    def run(self, *arguments: str | Path) -> tuple[int, str]:
        import typer

        app = typer.Typer()
        app.command()(check)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return (2 if isinstance(result.exception, BadInput) else result.exit_code), result.output + str(
            result.exception or ""
        )

    def test_a_prepared_log_is_described(self, data: Path, tmp_path: Path) -> None:
        code, text = self.run(data)
        assert code == 0
        assert "## What can be fitted" in text
        code, text = self.run(data, "--out", tmp_path / "report")
        assert code == 0
        document = (tmp_path / "report" / "data.md").read_text()
        assert json.loads((tmp_path / "report" / "data.json").read_text())["faults"] == []
        for picture in ("days", "users", "durations", "feedback"):
            assert f"({picture}.png)" in document
            assert (tmp_path / "report" / f"{picture}.png").stat().st_size > 1000

    def test_a_file_is_mapped_checked_and_left_as_it_is(self, tmp_path: Path) -> None:
        source = write(tmp_path / "log.csv", [*rows(), rows()[0] | {"play_seconds": "NaN"}])
        before = source.read_bytes()
        code, text = self.run(source)
        assert code == 2, "twelve rows of one hour are too few days for any recipe"
        assert "dropped 1 row: no watch time" in text
        assert "watch_time_s       play_seconds" in text
        assert "1 fault, listed above" in text
        assert source.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]

    def test_faults_are_listed_and_end_with_code_2(self, data: Path) -> None:
        path = data / "interactions.parquet"
        pl.read_parquet(path).drop("tag").with_columns(watch_time_s=-1.0).write_parquet(path)
        code, text = self.run(data)
        assert code == 2
        assert text.count("\n- ") + text.startswith("- ") == 2
        assert "2 faults" in text

    @pytest.mark.slow
    def test_torch_is_not_imported(self, data: Path) -> None:
        program = (
            "import sys; from training.__main__ import app; "
            "app(sys.argv[1:], standalone_mode=False); print('torch' in sys.modules)"
        )
        for arguments in (["check", str(data)], ["check", "--help"], ["--help"]):
            done = subprocess.run(
                [sys.executable, "-c", program, *arguments],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.splitlines()[-1] == "False"
