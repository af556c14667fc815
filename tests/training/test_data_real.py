"""What the real slice of KuaiRand-Pure holds, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from tests.training.real_data import KUAIRAND, needs_kuairand
from training.data import Boundaries, Dataset, day_to_ms, load, ms_to_day, prepare, split_by_time
from training.data.readers._kuairand import NUMBERS
from training.data.readers._kuairand_before import NUMBERS_BEFORE

LOG = KUAIRAND / "log_standard_4_25_to_5_05_pure.parquet"
OFFSET = 8.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(
        prepare("kuairand-pure", KUAIRAND, tmp_path_factory.mktemp("kuairand") / "d", progress=False).out
    )


@pytest.mark.slow
@needs_kuairand
class TestTheSlice:
    def test_every_row_is_accounted_for(self, data: Dataset) -> None:
        assert data.info.rows.model_dump() == {
            "read": 185_061,
            "kept": 177_229,
            "dropped": {"exact_duplicate": 5_031, "logged_twice": 8, "no_duration": 2_793},
        }

    def test_seconds_are_the_logs_milliseconds(self, data: Dataset) -> None:
        raw = pl.read_parquet(LOG).filter(pl.col("duration_ms") > 0)
        assert (
            abs(
                float(data.log["duration_s"].to_numpy().mean()) * 1000 / raw["duration_ms"].to_numpy().mean()
                - 1
            )
            < 0.01
        )
        assert data.log["watch_time_s"].to_numpy().max() * 1000 == raw["play_time_ms"].to_numpy().max()

    def test_local_midnight_reproduces_the_date_but_for_rows_just_before_it(self) -> None:
        """`date` is another clock's: 0.9 % of rows, all in the last hours of a day, carry the next date."""
        raw = pl.read_parquet(LOG)
        days = {
            day: day_to_ms(f"{day[:4]}-{day[4:6]}-{day[6:]}", OFFSET)
            for day in raw["date"].cast(str).unique()
        }
        begin = raw["date"].cast(pl.String).replace_strict(days).to_numpy()
        since = raw["time_ms"].to_numpy() - begin
        assert (since < 86_400_000).all()
        assert (since >= 0).mean() > 0.99
        assert (since > -2.5 * 3_600_000).all()

    def test_the_days_are_chinas(self, data: Dataset) -> None:
        assert data.info.utc_offset_hours == OFFSET
        assert data.info.days[0] == ms_to_day(data.info.first_timestamp_ms, OFFSET) == "2022-04-24"
        assert data.info.days[-1] == ms_to_day(data.info.last_timestamp_ms, OFFSET) == "2022-05-05"

    def test_the_vocabulary_of_the_days_before_knows_nothing_of_later_videos(self, data: Dataset) -> None:
        moment = day_to_ms("2022-05-04", OFFSET)
        vocabulary = data.vocabulary(moment)
        seen = data.log.filter(pl.col("timestamp_ms") < moment)
        assert set(vocabulary.fields["video_id"]) == set(seen["video_id"])
        assert len(vocabulary.fields["video_id"]) < data.log["video_id"].n_unique()

    def test_the_columns_hold_the_log(self, data: Dataset) -> None:
        rows = data.interactions(data.vocabulary())
        assert len(rows) == data.info.rows.kept
        assert (rows.ids[:, 0] >= 2).all()
        assert (rows.duration_s > 0).all()
        assert 0.014 < rows.feedback[:, 2].mean() < 0.02  # likes
        assert rows.profile.shape == (data.info.users, len(data.profile_numbers))
        published = [data.profile_numbers.index(name) for name in NUMBERS]
        assert np.isfinite(rows.profile[:, published]).all()
        per_category = (rows.profile_ids >= 2).mean(axis=0)
        streamer = data.profile_categories.index("is_live_streamer")
        assert per_category[streamer] < 0.5  # -124 is missing
        assert np.delete(per_category, streamer).min() > 0.9

    def test_what_users_did_before_the_log_is_known_of_nearly_all(self, data: Dataset) -> None:
        rows = data.interactions(data.vocabulary())
        before = [data.profile_numbers.index(name) for name in NUMBERS_BEFORE]
        assert 0.97 < np.isfinite(rows.profile[:, before]).mean() < 1
        exposures, long_view, like = np.nanmean(rows.profile[:, before], axis=0)
        assert exposures > 40
        assert 0.3 < long_view < 0.45
        assert 0.01 < like < 0.03

    def test_it_separates_long_views_that_the_log_alone_does_not(self, data: Dataset) -> None:
        vocabulary = data.vocabulary()
        censored = data.censored(vocabulary)
        assert censored is not None
        assert [len(table) for table in censored] == [
            vocabulary.size(name) for name in ("video_id", "author_id", "tag")
        ]
        exposures, long_views = censored[0].T
        assert (long_views <= exposures).all()
        assert 600_000 < exposures.sum() < 817_063
        assert (censored[0][:2] == 0).all()

    def test_the_windows_of_the_released_recipe_are_whole_days(self, data: Dataset) -> None:
        cut = Boundaries.at_days("2022-05-02", "2022-05-03", "2022-05-04", utc_offset_hours=OFFSET)
        times = data.log["timestamp_ms"].to_numpy()
        split = split_by_time(times, cut)
        assert {ms_to_day(int(t), OFFSET) for t in times[split.meta]} == {"2022-05-02"}
        assert {ms_to_day(int(t), OFFSET) for t in times[split.early_stop]} == {"2022-05-03"}
        assert {ms_to_day(int(t), OFFSET) for t in times[split.test]} == {"2022-05-04", "2022-05-05"}

    def test_the_censored_history_is_kept_with_its_gaps(self, data: Dataset) -> None:
        assert data.info.history is not None
        assert data.info.history.model_dump() == {
            "rows": 817_063,
            "users": 26_466,
            "long_view_known": 817_063 - 9_180,
            "like_known": 817_063 - 461,
        }

    def test_the_published_csv_of_it_is_read_the_same(self, data: Dataset, tmp_path: Path) -> None:
        for path in KUAIRAND.glob("*_pure.parquet"):
            if not path.name.startswith(("user_history", "history")):
                (tmp_path / "data").mkdir(exist_ok=True)
                pl.read_parquet(path).write_csv(tmp_path / "data" / f"{path.stem}.csv")
        prepare("kuairand-pure", tmp_path, tmp_path / "out", progress=False)
        again = load(tmp_path / "out")
        assert again.log.equals(data.log)
        # The published archive has no histories before the log: those three columns come from them.
        assert again.tables.users.equals(data.tables.users.drop(NUMBERS_BEFORE))
        assert again.tables.videos.equals(data.tables.videos)

    @pytest.mark.parametrize("spoil", ["shuffled", "reversed", "one row"])
    def test_out_of_order_it_is_refused(self, tmp_path: Path, spoil: str) -> None:
        raw = pl.read_parquet(LOG)
        spoilt = {
            "shuffled": raw.sample(fraction=1.0, shuffle=True, seed=0),
            "reversed": raw.reverse(),
            "one row": raw.sort("time_ms").with_columns(
                pl.when(pl.int_range(pl.len()) == first_of_a_busy_user(raw))
                .then(pl.col("time_ms") + 12 * 3_600_000)
                .otherwise("time_ms")
                .alias("time_ms")
            ),
        }
        for path in KUAIRAND.glob("*_features_*.parquet"):
            (tmp_path / path.name).symlink_to(path)
        spoilt[spoil].write_parquet(tmp_path / LOG.name)
        with pytest.raises(BadInput, match=r"row [\d,]+: time goes backwards"):
            prepare("kuairand-pure", tmp_path, tmp_path / "out", progress=False)


def first_of_a_busy_user(raw: pl.DataFrame) -> int:
    """The first row of the user with the most rows, who is back within half a day."""
    busy = raw["user_id"].value_counts(sort=True)["user_id"][0]
    return int(np.flatnonzero(raw["user_id"].to_numpy() == busy)[0])
